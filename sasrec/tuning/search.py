"""The search: trials of settings, each judged by validation as it trains.

The study is one append-only file (Optuna's journal): a killed search goes on where it was, also in
the middle of a trial, and several workers may search in one study.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import optuna
from filelock import FileLock, Timeout
from optuna.importance import get_param_importances
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from sasrec.errors import DataError, SettingsError
from sasrec.presets.settings import Preset
from sasrec.training.loop import TrainResult
from sasrec.tuning.space import Space

JOURNAL, TRIALS = "study.journal", "trials"
STUDY = "tune"
METRIC = "ndcg@10"
STARTUP_TRIALS = 4
"""Finished trials before one is compared with them, and epochs before it may be given up."""
WARMUP_EPOCHS = 3
TELLING_TRIALS = 8
"""Completed trials from which something is said of what mattered."""
REFUSALS = 20
"""Combinations in a row that fit together in no way, at which the space itself is wrong."""
WAITING = TrialState.WAITING
_WORKER, _SECONDS, _EPOCHS, _ERROR, _BEST = "worker", "seconds", "epochs", "error", "best"


class TrainOne(Protocol):
    """Trains a preset, or goes on with what is in the folder."""

    def __call__(
        self, preset: Preset, folder: Path, stop: Callable[[Mapping[str, Any]], bool]
    ) -> TrainResult:
        """As `sasrec.training.loop.train`, which asks `stop` after each epoch."""


@dataclass(frozen=True)
class Tried:
    """One trial.

    Attributes:
        number: counted from 0; 0 is the start itself.
        state: complete, pruned (given up as worse than half of the others), fail or running.
        settings: by key, those that are searched.
        ndcg, hr: on validation, of its best epoch; None before the first validation.
        best_epoch, epochs, seconds: of its training.
        error: why it failed.
    """

    number: int
    state: str
    settings: dict[str, Any]
    ndcg: float | None
    hr: float | None
    best_epoch: int
    epochs: int
    seconds: float
    error: str | None = None

    @classmethod
    def of(cls, trial: FrozenTrial) -> "Tried":
        """What the study says of it."""
        about = trial.user_attrs
        best = about.get(_BEST, {})
        return cls(
            trial.number,
            trial.state.name.lower(),
            dict(trial.params),
            best.get(METRIC),
            best.get("hr@10"),
            best.get("epoch", 0),
            about.get(_EPOCHS, 0),
            about.get(_SECONDS, 0.0),
            about.get(_ERROR),
        )


class Search:
    """A search in a folder, begun or continued.

    Args:
        folder: of the study; other data or another start need another one.
        start: the first trial, and the values of what is not searched.
        worker: of several at once, each with a number of its own.
        prune: give up trials whose best epoch so far is worse than the median's.

    Raises:
        DataError: such a worker is at work already, or the study is of another space.
    """

    def __init__(
        self, folder: Path, start: Preset, space: Space, *, worker: int = 0, prune: bool = True
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.start, self.space, self.worker = folder, start, space, worker
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
            study_name=STUDY,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(STARTUP_TRIALS, WARMUP_EPOCHS)
            if prune
            else optuna.pruners.NopPruner(),
        )

    def queue(self, settings: Sequence[Mapping[str, Any]]) -> None:
        """Try these before any other; those that the study knows are not queued again."""
        for some in settings:
            values = self.space.values_of(self.start.with_settings(some))
            self._study.enqueue_trial(values, skip_if_exists=True)

    def run(
        self,
        train_one: TrainOne,
        *,
        minutes: float | None = None,
        trials: int | None = None,
        told: Callable[[Tried], None] = lambda _: None,
    ) -> None:
        """Try settings until this worker's minutes are spent, or the study has so many trials.

        Minutes and trials of earlier calls count, so the same call continues a killed one, and
        does nothing after one that ended.

        Args:
            told: called with each trial that ends.

        Raises:
            SettingsError: the start itself is refused, or nearly everything in the space.
        """
        with self._alone():
            refused = 0
            while self._seconds_left(minutes) > 0 and (trial := self._next(trials)):
                tried = self._try(trial, train_one, minutes)
                told(tried)
                refused = refused + 1 if tried.error else 0
                if tried.error and (self.is_start(tried) or refused >= REFUSALS):
                    raise SettingsError(f"search: {tried.error}")

    @property
    def tried(self) -> list[Tried]:
        """All trials of all workers that have begun, in order."""
        return [Tried.of(trial) for trial in self._begun()]

    @property
    def best(self) -> Tried | None:
        """The completed trial with the best NDCG@10; None before one was completed."""
        complete = [tried for tried in self.tried if tried.state == "complete"]
        return max(complete, key=lambda tried: tried.ndcg or 0.0, default=None)

    def is_start(self, tried: Tried) -> bool:
        """Whether a trial is of the settings that the search began with."""
        return tried.settings == self.space.values_of(self.start)

    def preset_of(self, tried: Tried) -> Preset:
        """The settings of a trial, with those that are not searched."""
        return self.start.with_settings(tried.settings)

    def importances(self) -> dict[str, float]:
        """What share each setting has in the differences between trials, largest first.

        PED-ANOVA (Watanabe et al. 2023): how the best trials' values differ from those of all.
        Empty where fewer than `TELLING_TRIALS` were completed, or all came to the same.
        """
        if sum(tried.state == "complete" for tried in self.tried) < TELLING_TRIALS:
            return {}
        try:
            return get_param_importances(self._study)
        except (RuntimeError, ValueError):  # no difference
            return {}

    def _next(self, limit: int | None) -> Trial | None:
        """A trial of this worker that was cut off, else a new one; None if there are enough."""
        begun = self._begun()
        for left in begun:
            mine = left.user_attrs[_WORKER] == self.worker
            if left.state == TrialState.RUNNING and mine:
                return Trial(self._study, left._trial_id)
        if limit is not None and len(begun) >= limit:
            return None
        if not begun and self.worker == 0 and not self._study.get_trials(states=[WAITING]):
            self._study.enqueue_trial(self.space.values_of(self.start))
        # From the number of trials, so that a search that goes on does not draw the same again.
        seed = len(begun) * 1000 + self.worker
        self._study.sampler = optuna.samplers.TPESampler(seed=seed)
        trial = self._study.ask(dict(self.space.distributions))
        trial.set_user_attr(_WORKER, self.worker)
        return trial

    def _try(self, trial: Trial, train_one: TrainOne, minutes: float | None) -> Tried:
        folder = self.folder / TRIALS / str(trial.number)
        before, started = trial.user_attrs.get(_SECONDS, 0.0), time.monotonic()
        seen = dict(self._frozen(trial).intermediate_values)
        state = TrialState.COMPLETE

        def stop(epoch: Mapping[str, Any]) -> bool:
            nonlocal state
            trial.set_user_attr(_SECONDS, before + time.monotonic() - started)
            trial.set_user_attr(_EPOCHS, epoch["epoch"])
            if METRIC in epoch:
                if epoch[METRIC] > trial.user_attrs.get(_BEST, {METRIC: -1.0})[METRIC]:
                    best = {name: epoch[name] for name in (METRIC, "hr@10", "epoch")}
                    trial.set_user_attr(_BEST, best)
                if epoch["epoch"] not in seen:  # it repeats what came after its checkpoint
                    trial.report(epoch[METRIC], epoch["epoch"])
                if trial.should_prune():
                    state = TrialState.PRUNED
                    return True
            return METRIC in epoch and self._seconds_left(minutes) <= 0

        try:
            values = {key: trial.params[key] for key in self.space.distributions}
            result = train_one(self.start.with_settings(values), folder, stop)
        except DataError as error:
            state = TrialState.FAIL
            trial.set_user_attr(_ERROR, str(error))
        trial.set_user_attr(_SECONDS, before + time.monotonic() - started)
        value = result.best_ndcg if state == TrialState.COMPLETE else None
        self._study.tell(trial, value, state)
        _remove(folder)
        return Tried.of(self._frozen(trial))

    def _begun(self) -> list[FrozenTrial]:
        """Without one whose worker was killed before it had said that it is at it."""
        trials = self._study.get_trials(deepcopy=False)
        return [trial for trial in trials if _WORKER in trial.user_attrs]

    def _seconds_left(self, minutes: float | None) -> float:
        """Of this worker's budget; what its trials have taken, in this call or before, is spent."""
        if minutes is None:
            return float("inf")
        own = [t.user_attrs for t in self._begun() if t.user_attrs[_WORKER] == self.worker]
        return minutes * 60 - sum(about.get(_SECONDS, 0.0) for about in own)

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[trial.number]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = FileLock(self.folder / f"worker-{self.worker}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise DataError(
                f"tune: another search is at work in {self.folder}; wait for it, or end it"
            ) from None
        try:
            yield
        finally:
            lock.release()


def _remove(folder: Path) -> None:
    """A trial's checkpoint; what it came to is in the study."""
    for path in sorted(folder.glob("*")):
        path.unlink()
    if folder.exists():
        folder.rmdir()
