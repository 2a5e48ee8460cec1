"""The preset that the data ask for, by rules that measurements of this project stand behind."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sasrec.presets.named import PRESETS
from sasrec.presets.settings import Preset

AUTO = "auto"

SHORT_HISTORY = 15
"""Training events of a median user below which `sparse` is chosen. It is better at 4 and 6 (Amazon
Beauty under both splits), `default` at 66 (MovieLens-100K): docs/training.md."""
LENGTHS = (50, 100, 200)
"""What `max_length` may grow to: `sparse` was measured with 50, `default` with 200."""
COVERED = 0.95
"""Share of the users whose training histories `max_length` is to hold as a whole. It only grows
from the preset's: histories are packed, so room that nobody needs costs nothing."""
FEW_EVENTS = 200_000
"""Training events below which long histories take `FEW_EVENTS_DROPOUT`: better than .1 at 66,000
(simulated shop), while .1 is better than .2 at 990,000 (MovieLens-1M)."""
FEW_EVENTS_DROPOUT = 0.3
LARGE_CATALOGUE = 1_000_000
"""Items from which a loss samples and a step is 16,384 events: benchmarks/training.py measures
that recipe at this size."""


@dataclass(frozen=True)
class DataFacts:
    """What is looked at: the training histories, and nothing that comes after their cut.

    Attributes:
        users, events: of the training histories.
        items: of the vocabulary.
        median, covered: events of a user, that half and `COVERED` of the users have at most.
        timed: whether times are known, and not only an order.
        repeats: share of the targets that their user had before; None where nobody counted.
    """

    users: int
    events: int
    items: int
    median: float
    covered: float
    timed: bool
    repeats: float | None = None

    @classmethod
    def of(
        cls, lengths: np.ndarray, items: int, *, timed: bool, repeats: float | None = None
    ) -> "DataFacts":
        """Of training histories.

        Args:
            lengths: (B,) events of each.
            items: of the vocabulary.
        """
        if not len(lengths):
            return cls(0, 0, items, 0.0, 0.0, timed, repeats)
        median, covered = np.quantile(lengths, [0.5, COVERED]).tolist()
        return cls(len(lengths), int(lengths.sum()), items, median, covered, timed, repeats)


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        name: of the preset that is the base.
        settings: what differs from it, by key.
        why: a sentence per rule that had a say.
        facts: that decided.
    """

    name: str
    settings: dict[str, Any]
    why: list[str]
    facts: DataFacts

    @property
    def preset(self) -> Preset:
        """The settings themselves."""
        return PRESETS[self.name].with_settings(self.settings)

    def lines(self) -> list[str]:
        """For a person, a few lines."""
        changed = ", ".join(f"{key}={value}" for key, value in self.settings.items())
        return [f"preset {AUTO}: {self.name}" + (f" with {changed}" if changed else ""), *self.why]

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> "Choice":
        """Read what `to_dict` made."""
        return cls(**{**written, "facts": DataFacts(**written["facts"])})


def choose(facts: DataFacts, kept: Collection[str] = ()) -> Choice:
    """The preset for such data. Equal facts give equal presets, on every machine.

    Args:
        kept: settings that somebody gave by hand, which no rule touches.
    """
    short = facts.median < SHORT_HISTORY
    name = "sparse" if short else "default"
    settings: dict[str, Any] = {}
    why = [
        f"half of {facts.users:,} users have at most {facts.median:g} events to learn from, "
        f"{'fewer than' if short else 'not fewer than'} {SHORT_HISTORY}: {name}"
    ]
    _choose_length(facts, name, settings, why)
    _choose_dropout(facts, name, settings, why)
    _choose_times(facts, name, settings, why)
    _choose_batch(facts, settings, why)
    if kept:
        why.append(f"given by hand: {', '.join(sorted(kept))}")
    settings = {key: value for key, value in settings.items() if key not in kept}
    return Choice(name, settings, why, facts)


def _choose_length(facts: DataFacts, name: str, settings: dict[str, Any], why: list[str]) -> None:
    length = next((n for n in LENGTHS if facts.covered <= n), LENGTHS[-1])
    if length > PRESETS[name].model.max_length:
        settings["model.max_length"] = length
        why.append(f"{COVERED:.0%} of the users have at most {facts.covered:g}: length {length}")


def _choose_dropout(facts: DataFacts, name: str, settings: dict[str, Any], why: list[str]) -> None:
    if facts.events < FEW_EVENTS and PRESETS[name].model.dropout < FEW_EVENTS_DROPOUT:
        settings["model.dropout"] = FEW_EVENTS_DROPOUT
        why.append(
            f"{facts.events:,} events, fewer than {FEW_EVENTS:,}: dropout {FEW_EVENTS_DROPOUT}"
        )


def _choose_times(facts: DataFacts, name: str, settings: dict[str, Any], why: list[str]) -> None:
    if PRESETS[name].model.time_bias and not facts.timed:
        settings["model.time_bias"] = False
        why.append("events have an order and no times: no attention bias by elapsed time")


def _choose_batch(facts: DataFacts, settings: dict[str, Any], why: list[str]) -> None:
    if facts.items >= LARGE_CATALOGUE:
        settings |= {"train.loss": "sampled_softmax", "train.batch_tokens": 16384}
        why.append(f"{facts.items:,} items: a loss that samples, steps of 16,384 events")
