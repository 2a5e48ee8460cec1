"""A pair of model and training settings."""

from collections.abc import Mapping
from typing import Any

from sasrec.model.config import ModelConfig
from sasrec.overrides import assigned, checked, keys_of
from sasrec.section import Section
from sasrec.training.config import TrainConfig

SECTIONS = ("model", "train")


class Preset(Section):
    """A pair of model and training settings."""

    model: ModelConfig
    train: TrainConfig

    def with_settings(self, overrides: Mapping[str, object]) -> "Preset":
        """This preset with settings replaced, by key: `{"model.dim": 32}`.

        Raises:
            SettingsError: an unknown key, the nearest is named; or a value out of bounds.
        """
        return checked(Preset, assigned(self.model_dump(), overrides, KEYS))

    def with_overrides(self, **fields: object) -> "Preset":
        """As `with_settings`, by the names of fields: `dim=32`."""
        return self.with_settings(with_sections(fields))

    def flat(self) -> dict[str, Any]:
        """Every setting by its key."""
        return {
            f"{section}.{field}": value
            for section, fields in self.model_dump().items()
            for field, value in fields.items()
        }


KEYS = keys_of(Preset, SECTIONS)
"""Of every setting of a preset."""


def with_sections(fields: Mapping[str, object]) -> dict[str, object]:
    """Fields by their keys: `dim` is `model.dim`. An unknown one stays, to be refused."""
    sections = {key.partition(".")[2]: key for key in KEYS}
    return {sections.get(field, field): value for field, value in fields.items()}
