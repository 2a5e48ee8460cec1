"""A search for settings on the sequences of a run: where it is kept, and how a trial trains."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.support.auto_preset import chosen_for
from components.support.fingerprint import training_key
from components.support.recipe import Recipe
from components.support.sequence_extras import SequenceExtras
from components.support.settings import RunConfig
from components.support.threads import use_training_threads
from sasrec.data.dataset import SequenceDataset
from sasrec.data.digest import digest_of
from sasrec.presets import Preset
from sasrec.training.loop import TrainResult, train
from sasrec.tuning.outcome import write_outcome
from sasrec.tuning.search import Search, Tried
from sasrec.tuning.space import DEFAULT, NEEDS_TIMES, Space

FOLDER = "tuning"
"""In a site's home: a folder per search."""


@dataclass(frozen=True)
class SearchSettings:
    """What a search may do.

    Attributes:
        minutes: of training, that each worker may take.
        trials: upper bound of all workers; None for none.
        space: what is tried of which setting, in the words of `Space.parse`.
        kept: settings that were given by hand, which stay.
    """

    minutes: float
    trials: int | None
    space: Mapping[str, str]
    kept: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "SearchSettings":
        """Read the JSON of the fields."""
        values = json.loads(text)
        return cls(**{**values, "kept": tuple(values.get("kept", ()))})


class Tuning:
    """The search of a run.

    Equal data, settings and code are one search, which goes on wherever it was stopped. Test is
    never looked at: trials are judged on the validation fold of the run's own sequences.

    Args:
        run: with its preset settled, which is where the search starts.
        sequences: that `extract_sequences` wrote.
        home: of the site.
        run_dir: of the run that prepared the data.
        worker: of several that search at once.
    """

    def __init__(
        self,
        run: RunConfig,
        asked: SearchSettings,
        sequences: Path,
        home: Path,
        run_dir: Path,
        *,
        worker: int = 0,
    ) -> None:
        self._asked, self._run_dir = asked, run_dir
        self._data = SequenceDataset.load(sequences)
        self._extras = SequenceExtras.load(run, sequences)
        start = Preset(model=run.model, train=run.train)
        clock = json.loads((run_dir / "data.json").read_text())["clock"]
        fixed = {*asked.kept, *([] if clock == "real" else [NEEDS_TIMES])} - {*asked.space}
        space = Space.parse({**DEFAULT, **asked.space}, start).without(fixed)
        weights = self._data.train.weights
        key = training_key(
            Recipe(start.model, start.train),
            self._data.description["sha256"],
            self._data.validation.repeats,
            self._extras.digest,
            weights is not None and digest_of(weights),
            space.describe(),
        )
        self.search = Search(home / FOLDER / key, start, space, worker=worker)

    def run(self, told: Callable[[Tried], None]) -> None:
        """Search until the budget is spent; each trial that ends is told."""
        use_training_threads(len(self._data.train.items))
        self.search.run(
            self._train, minutes=self._asked.minutes, trials=self._asked.trials, told=told
        )

    def write(self, output: Path) -> Tried:
        """Write the preset file, the trials and the plot; return the best trial.

        Raises:
            DataError: no trial was completed.
        """
        choice = chosen_for(self._run_dir)
        about: dict[str, Any] = {
            "split": {name: self._data.description[name] for name in ("kind", "sha256")},
            "validation_users": len(self._data.validation),
            "study": str(self.search.folder),
        }
        if choice is not None:
            about["started_from"] = choice.lines()[0]
        return write_outcome(self.search, output, about)

    def _train(
        self, preset: Preset, folder: Path, stop: Callable[[Mapping[str, Any]], bool]
    ) -> TrainResult:
        return train(
            self._extras.weigh(self._data.train, preset.train),
            self._data.validation,
            self._data.vocabulary,
            preset.model,
            preset.train,
            folder,
            item_features=self._extras.features_of(preset.model),
            stop=stop,
        )
