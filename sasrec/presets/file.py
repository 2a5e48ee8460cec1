"""Presets in files: what `pipeline.py tune` writes, or a person.

based_on: sparse
model: {dim: 128}
train: {learning_rate: 0.002}
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from sasrec.errors import SettingsError
from sasrec.overrides import checked, nearest
from sasrec.presets.named import PRESETS
from sasrec.presets.settings import Preset
from sasrec.section import Section

SUFFIXES = (".yaml", ".yml")


class PresetFile(Section):
    """A preset as it is written down."""

    based_on: str = Field(
        default="default", description="named preset whose settings hold where the file has none"
    )
    model: dict[str, Any] = Field(default={}, description="as `--set model.*`")
    train: dict[str, Any] = Field(default={}, description="as `--set train.*`")
    found: dict[str, Any] = Field(
        default={}, description="where it comes from, for people; decides nothing"
    )


def is_file(name: str) -> bool:
    """Whether a preset's name is that of a file."""
    return name.endswith(SUFFIXES)


def read_preset(path: str | Path) -> Preset:
    """The preset in a file.

    Raises:
        SettingsError: one line with file and key: the file is missing or no YAML, a key is unknown
            (the nearest is named), or a value out of bounds.
    """
    try:
        return _preset(yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {})
    except OSError as error:
        raise SettingsError(f"preset {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"preset {path}: not UTF-8, at byte {error.start}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"preset {path}: not YAML ({' '.join(str(error).split())})") from None
    except SettingsError as error:
        raise SettingsError(f"preset {path}: {error}") from None


def write_preset(path: Path, preset: Preset, found: Mapping[str, Any]) -> None:
    """Write every setting, so that the file means the same after presets have changed.

    Args:
        found: where the preset comes from.
    """
    content = PresetFile(**preset.model_dump(mode="json"), found=dict(found))
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.write_text(yaml.safe_dump(content.model_dump(mode="json"), sort_keys=False))
    unfinished.replace(path)


def _preset(content: Any) -> Preset:
    if not isinstance(content, dict):
        raise SettingsError("must hold `model:` and `train:`, with settings below them")
    if unknown := [name for name in content if name not in PresetFile.model_fields]:
        raise SettingsError(
            f"'{unknown[0]}' is unknown{nearest(str(unknown[0]), PresetFile.model_fields)}"
        )
    written = checked(PresetFile, content)
    if written.based_on not in PRESETS:
        raise SettingsError(
            f"based_on: preset '{written.based_on}' is unknown{nearest(written.based_on, PRESETS)}"
        )
    settings = {
        f"{section}.{field}": value
        for section in ("model", "train")
        for field, value in getattr(written, section).items()
    }
    return PRESETS[written.based_on].with_settings(settings)
