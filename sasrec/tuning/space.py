"""Which settings a search tries, and within which bounds."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from sasrec.errors import SettingsError
from sasrec.overrides import nearest
from sasrec.presets.settings import KEYS, Preset

DEFAULT = {
    "model.dim": "32,64,128",
    "model.blocks": "1,2,3",
    "model.max_length": "50,100,200",
    "model.dropout": "0.0..0.6",
    "model.cosine_temperature": "0.0,0.05,0.07,0.1",
    "model.time_bias": "false,true",
    "train.learning_rate": "0.001..0.01",
    "train.weight_decay": "0.0,0.1,0.3,1.0",
}
"""What made a difference in the searches so far (docs/log.md), and what depends on the data."""
NEEDS_TIMES = "model.time_bias"
RANGE = ".."
LOGARITHMIC = 8
"""Ratio of the ends from which a range is searched on a logarithmic scale."""


@dataclass(frozen=True)
class Space:
    """Settings by key, and what each may be."""

    distributions: Mapping[str, BaseDistribution]

    @classmethod
    def parse(cls, texts: Mapping[str, str], start: Preset) -> "Space":
        """Read `a,b,c` (one of these) and `low..high` (anything between) for each key.

        Args:
            start: whose values are always within the space; each bound is checked as its setting.

        Raises:
            SettingsError: an unknown key, the nearest is named; or values that do not fit it.
        """
        distributions = {}
        for key, text in texts.items():
            if key not in KEYS:
                raise SettingsError(f"search: setting '{key}' is unknown{nearest(key, KEYS)}")
            distributions[key] = _distribution(key, text, start)
        return cls(distributions)

    def without(self, keys: Collection[str]) -> "Space":
        """What is left to search when these stay as they are."""
        kept = {key: d for key, d in self.distributions.items() if key not in keys}
        return Space(kept)

    def values_of(self, preset: Preset) -> dict[str, Any]:
        """A preset's values of the settings that are searched."""
        flat = preset.flat()
        return {key: flat[key] for key in self.distributions}

    def describe(self) -> dict[str, str]:
        """Stable text of each distribution, by key."""
        return {key: str(self.distributions[key]) for key in sorted(self.distributions)}


def _distribution(key: str, text: str, start: Preset) -> BaseDistribution:
    now: Any = start.flat()[key]
    if RANGE not in text:
        values = [_checked(key, value, start, text) for value in text.split(",")]
        return CategoricalDistribution(list(dict.fromkeys([*values, now])))
    ends = [_checked(key, end, start, text) for end in text.split(RANGE)]
    if len(ends) != 2 or not all(_is_number(end) for end in ends) or ends[0] >= ends[1]:
        raise SettingsError(f"search: {key}={text}: a range is low..high, two numbers")
    low, high = min(*ends, now), max(*ends, now)
    log = low > 0 and high / low >= LOGARITHMIC
    if isinstance(now, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def _checked(key: str, text: str, start: Preset, whole: str) -> Any:
    """The value as the setting has it: 0 of a fraction is 0.0."""
    try:
        return start.with_settings({key: yaml.safe_load(text)}).flat()[key]
    except yaml.YAMLError:
        raise SettingsError(f"search: {key}={whole}: '{text}' is no value") from None
    except SettingsError as error:
        raise SettingsError(f"search: {key}={whole}: {error}") from None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
