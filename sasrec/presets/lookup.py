"""A preset by its name or file."""

from sasrec.errors import SettingsError
from sasrec.overrides import nearest
from sasrec.presets.auto import AUTO
from sasrec.presets.file import is_file, read_preset
from sasrec.presets.named import PRESETS
from sasrec.presets.settings import Preset


def preset(name: str, **overrides: object) -> Preset:
    """The preset `name`, or of a file such as `shop.yaml`, with single fields replaced.

    Raises:
        SettingsError: an unknown preset, file or field, or a value out of bounds.
    """
    return named(name).with_overrides(**overrides)


def named(name: str) -> Preset:
    """The preset `name`, or of a file.

    Raises:
        SettingsError: there is none.
    """
    if is_file(name):
        return read_preset(name)
    if name == AUTO:
        raise SettingsError(f"preset '{AUTO}' needs data to look at; here, name one or a file")
    if name not in PRESETS:
        raise SettingsError(f"preset '{name}' is unknown{nearest(name, [AUTO, *PRESETS])}")
    return PRESETS[name]
