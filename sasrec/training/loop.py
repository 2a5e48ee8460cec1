"""Trains SASRec: packed batches, early stopping, and a state that survives a kill at any instant.

Every random choice of a step follows from (seed, epoch, step) alone, so a resumed run repeats
what the uninterrupted one would have done, bit for bit on one machine.
"""

import hashlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sasrec.data.digest import digest_of
from sasrec.data.packed import BLOCK_EVENTS, EvaluationSet, PackedSequences
from sasrec.data.vocabulary import Vocabulary
from sasrec.errors import DataError
from sasrec.model.config import ModelConfig
from sasrec.model.item_features import ItemFeatures
from sasrec.model.recommender import Recommender
from sasrec.model.sasrec import SASRec
from sasrec.progress import TrainingLog
from sasrec.scoring.metrics import accuracy
from sasrec.scoring.ranking import next_item, target_ranks
from sasrec.training import checkpoint
from sasrec.training.batches import Batch, Batches
from sasrec.training.checkpoint import Checkpoint
from sasrec.training.config import TrainConfig
from sasrec.training.distributed import Processes, processes
from sasrec.training.graphed_update import GraphedUpdate
from sasrec.training.negatives import SeenItems
from sasrec.training.objective import Objective
from sasrec.training.update import StepInputs, Update
from sasrec.training.warm_start import copy_weights

CHECKPOINT_SECONDS = 5.0


@dataclass(frozen=True)
class TrainResult:
    """The trained model and how it came to be.

    Attributes:
        recommender: the weights of the best epoch.
        history: one record per epoch, as in `train.jsonl`.
        best_epoch: 1-based; 0 for an untrained model; the last without validation.
        best_ndcg: validation NDCG@10 of that epoch, or of the untrained model; NaN without
            validation.
    """

    recommender: Recommender
    history: list[dict[str, Any]]
    best_epoch: int
    best_ndcg: float


def train(
    train: PackedSequences,
    validation: EvaluationSet | None,
    vocabulary: Vocabulary,
    model_config: ModelConfig,
    train_config: TrainConfig,
    run_dir: Path,
    *,
    weights: np.ndarray | None = None,
    warm_start: Recommender | None = None,
    item_features: ItemFeatures | None = None,
    stop: Callable[[Mapping[str, Any]], bool] | None = None,
) -> TrainResult:
    """Train until validation NDCG@10 stops rising, and return the best epoch's model.

    Validation ranks each user's first target among the full catalogue, without seen items unless
    `validation.repeats`. A run
    that was killed continues from `run_dir`; a finished one returns its result again. Under
    `torchrun` each process trains on its share of every step.

    Args:
        train: training histories, oldest event first.
        validation: users with a non-empty history and at least one target; None trains for all
            epochs and returns the last.
        vocabulary: encodes `train` and `validation`.
        run_dir: holds `checkpoint.safetensors` and `train.jsonl`.
        weights: (T,) of each event of `train` as a target, such as
            `losses.inverse_propensity_weights`; multiplied with `train.weights`, the product has a
            mean of one. All one if both are absent.
        item_features: what ranks items without interactions; needs `feature_buckets`.
        warm_start: begin from this model's weights; items it knows keep what it learned.
        stop: asked after each epoch with its record, as in `train.jsonl`; true ends the training
            there, for a search that has seen enough.

    Raises:
        DataError: no user to learn from or to validate on, items outside the vocabulary, a
            checkpoint of another run, or a loss that is not finite (naming the step).
        SystemExit: SIGTERM came; the state was saved first.
    """
    _check_data(train, validation, vocabulary, weights)
    weights = _target_weights(train.weights, weights)
    run_dir = Path(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    with processes() as group, torch.random.fork_rng():
        torch.manual_seed(train_config.seed)
        model = SASRec(model_config, len(vocabulary), item_features)
        if warm_start is not None:
            copy_weights(warm_start, model, vocabulary)
        batches = Batches(
            train,
            max_length=model_config.max_length,
            batch_tokens=train_config.batch_tokens,
            whole_histories=train_config.whole_histories,
            seed=train_config.seed,
            weights=weights,
            rank=group.rank,
            world_size=group.size,
            whole_step=train_config.sampling == "in_batch",
        )
        counts = torch.from_numpy(train.counts(len(vocabulary)))
        trainer = _Trainer(
            group,
            model.to(group.device),
            batches,
            Objective(
                train_config,
                counts,
                cold_items_compete=item_features is None,
                device=group.device,
                seen=None if train_config.shared_negatives else SeenItems(train, len(vocabulary)),
            ),
            None if validation is None else next_item(validation),
            vocabulary,
            train_config,
            run_dir,
            identity={
                "model": model_config.model_dump(),
                "train": train_config.model_dump(exclude={"epochs", "patience"}),
                "data": _digest(train, vocabulary),
                "weights": None if weights is None else digest_of(weights),
                "item_features": item_features
                and digest_of(item_features.rows, item_features.offsets),
                "warm_start": warm_start and digest_of(*_weights(warm_start)),
            },
        )
        trainer.resume()
        return trainer.run(stop)


@dataclass
class _Progress:
    """Where a run stands; plain JSON values."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps of the current epoch
    total_steps: int = 0
    loss_sum: float = 0.0  # over the events of the current epoch
    tokens: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best_ndcg: float = -1.0  # below any


class _Trainer:
    def __init__(
        self,
        group: Processes,
        model: SASRec,
        batches: Batches,
        objective: Objective,
        validation: EvaluationSet | None,
        vocabulary: Vocabulary,
        config: TrainConfig,
        run_dir: Path,
        identity: dict[str, Any],
    ) -> None:
        self.group, self.model, self.batches, self.objective = group, model, batches, objective
        self.validation, self.vocabulary = validation, vocabulary
        self.config, self.run_dir, self.identity = config, run_dir, identity
        self.update = Update(model, objective, config)
        self.average, self.optimiser = self.update.average, self.update.optimiser
        self.graphed = None
        if group.device.type == "cuda" and group.size == 1 and not model.config.feature_buckets:
            self.graphed = GraphedUpdate(self.update, batches.budget)
        self.progress = _Progress()
        self.best_weights = self._copy_weights()
        self.saved_at = time.monotonic()

    def resume(self) -> None:
        """Take up the checkpoint in the run directory, if there is one."""
        saved = checkpoint.load(self.run_dir, self.identity)
        if saved is not None:
            self.progress = _Progress(**saved.progress)
            self.best_weights = saved.best_weights
            self.model.load_state_dict(saved.weights)
            if saved.average:
                self.average.load_state_dict(saved.average)
            checkpoint.restore_optimiser(self.model, self.optimiser, saved.optimiser)

    def run(self, stop: Callable[[Mapping[str, Any]], bool] | None) -> TrainResult:
        """Epochs until the last, until patience ends, or until `stop` says so."""
        progress = self.progress
        if not self.config.epochs and self.validation is not None:
            progress.best_ndcg = self._validate(self.validation)["ndcg@10"]
        log = TrainingLog(
            self.run_dir,
            progress.history,
            epochs=self.config.epochs,
            steps=len(self.batches.epoch(0)),
            enabled=self.group.is_first,
        )
        with log, _sigterm() as terminated:
            while progress.epoch < self.config.epochs and not self._out_of_patience():
                self._train_epoch(log, terminated)
                self._close_epoch(log)
                self._save_if_due()
                if stop is not None and stop(progress.history[-1]):
                    break
        self._save()
        self.average.load_state_dict(self.best_weights)
        return TrainResult(
            Recommender(self.average, self.vocabulary),
            progress.history,
            progress.best_epoch,
            math.nan if self.validation is None else progress.best_ndcg,
        )

    def _train_epoch(self, log: TrainingLog, terminated: threading.Event) -> None:
        """The steps that are left of the current epoch."""
        progress = self.progress
        self.model.train()
        steps = self.batches.epoch(progress.epoch)
        while progress.step < len(steps):
            started = time.perf_counter()
            batch = self.batches.load(steps[progress.step])
            loss_sum, stop = self._step(batch, terminated.is_set())
            progress.loss_sum += loss_sum
            progress.tokens += batch.tokens
            progress.step += 1
            progress.total_steps += 1
            progress.seconds += time.perf_counter() - started
            log.step(
                progress.epoch,
                progress.step,
                progress.loss_sum / progress.tokens,
                progress.tokens / progress.seconds,
            )
            if stop:
                self._save()
                raise SystemExit(128 + signal.SIGTERM)
            self._save_if_due()

    def _seed(self, seed: int) -> None:
        """As `torch.manual_seed`, which takes 1 ms a call to note the seed for absent devices."""
        if self.group.device.type == "cpu":
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def _step(self, batch: Batch, terminated: bool) -> tuple[float, bool]:
        """One update; the loss summed over all events, and whether any process is to stop."""
        progress = self.progress
        seeds = np.random.SeedSequence([self.config.seed, progress.epoch, progress.step])
        draw_seed, own_seed = _step_seeds(
            seeds, self.group.rank, self.group.size, shared_negatives=self.config.shared_negatives
        )
        self._seed(draw_seed)
        negatives = self.objective.draw(batch)
        self._seed(own_seed)  # processes must not drop the same units

        inputs = self._inputs(batch, negatives)
        warmup = min(1.0, (progress.total_steps + 1) / max(1, self.config.warmup_steps))
        self.update.set_learning_rate(self.config.learning_rate * warmup)
        if self.graphed is not None:
            mean_loss, stop = self.graphed(inputs, self._newest_share()).item(), terminated
            self._check_finite(mean_loss)
        else:
            loss = self.update.backward(inputs)
            gradients = [p.grad for p in self.update.parameters if p.grad is not None]
            mean_loss, stops = self.group.sum(gradients, loss.item(), float(terminated))
            stop = stops > 0
            self._check_finite(mean_loss)
            self.update.apply(self._newest_share())
        return mean_loss * batch.tokens, stop

    def _inputs(self, batch: Batch, negatives: Tensor | None) -> StepInputs:
        """On the device, unless the graph is to copy them into its buffers."""
        device = torch.device("cpu") if self.graphed is not None else self.group.device
        weights = torch.ones(len(batch.targets)) if batch.weights is None else batch.weights
        return StepInputs(
            batch.items.to(device),
            batch.cu_seqlens.to(device),
            batch.timestamps.to(device),
            batch.targets.to(device),
            (weights / batch.tokens).to(device),
            None if negatives is None else negatives.to(device),
        )

    def _newest_share(self) -> float:
        """What the averaged weights take of the newest (Polyak): more in the first steps."""
        steps = self.progress.total_steps
        return 1 - min(self.config.averaging, (1 + steps) / (10 + steps))

    def _close_epoch(self, log: TrainingLog) -> None:
        """Validate, keep the best weights, and write the epoch down."""
        progress = self.progress
        progress.epoch += 1
        line: dict[str, Any] = {
            "epoch": progress.epoch,
            "loss": progress.loss_sum / progress.tokens,
            "tokens_per_second": progress.tokens / progress.seconds,
            "seconds": progress.seconds,
        }
        if self.validation is None:
            progress.best_epoch, self.best_weights = progress.epoch, self._copy_weights()
        elif progress.epoch % self.config.validate_every == 0:
            line |= self._validate(self.validation)
            if line["ndcg@10"] > progress.best_ndcg:
                progress.best_ndcg, progress.best_epoch = line["ndcg@10"], progress.epoch
                self.best_weights = self._copy_weights()
        progress.history.append(line)
        progress.step, progress.loss_sum, progress.tokens, progress.seconds = 0, 0.0, 0, 0.0
        log.epoch(line)

    def _validate(self, validation: EvaluationSet) -> dict[str, float]:
        """NDCG@10 and HR@10 over the full catalogue; the first process ranks for all."""
        started = time.perf_counter()
        ndcg = hr = 0.0
        if self.group.is_first:
            scorer = Recommender(self.average, self.vocabulary)
            ranks = target_ranks(scorer, validation, filter_seen=not validation.repeats)
            values = accuracy(ranks, validation.targets.cu_seqlens, 10)
            ndcg, hr = float(values["ndcg@10"].mean()), float(values["hr@10"].mean())
        ndcg, hr = self.group.sum([], ndcg, hr)
        seconds = time.perf_counter() - started
        return {"ndcg@10": ndcg, "hr@10": hr, "validation_seconds": seconds}

    def _out_of_patience(self) -> bool:
        if self.validation is None:
            return False
        validations = (self.progress.epoch - self.progress.best_epoch) // self.config.validate_every
        return self.progress.epoch > 0 and validations >= self.config.patience

    def _check_finite(self, loss: float) -> None:
        if math.isfinite(loss):
            return
        progress = self.progress
        raise DataError(
            f"training: loss is {loss} at step {progress.total_steps} (epoch {progress.epoch + 1}, "
            f"batch {progress.step}); lower learning_rate (now {self.config.learning_rate}); "
            f"the last good checkpoint is in {self.run_dir}"
        )

    def _copy_weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.average.state_dict().items()}

    def _save_if_due(self) -> None:
        if time.monotonic() - self.saved_at >= CHECKPOINT_SECONDS:
            self._save()

    def _save(self) -> None:
        if self.group.is_first:
            state = Checkpoint(
                self.identity,
                asdict(self.progress),
                self.model.state_dict(),
                {} if self.average is self.model else self.average.state_dict(),
                self.best_weights,
                checkpoint.optimiser_state(self.model, self.optimiser),
            )
            checkpoint.save(self.run_dir, state)
        self.saved_at = time.monotonic()


def _step_seeds(
    seeds: np.random.SeedSequence, rank: int, size: int, *, shared_negatives: bool
) -> tuple[int, int]:
    """Seeds of a process's negatives and of all else in its step.

    Processes draw the same negatives where a step's events share them, and others where each event
    has its own.
    """
    state = seeds.generate_state(2 * size).tolist()
    return state[0 if shared_negatives or rank == 0 else size + rank], state[1 + rank]


@contextmanager
def _sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, so that a run ends between two steps with its state saved."""
    received = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may handle signals
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: received.set())
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, previous)


def _digest(train: PackedSequences, vocabulary: Vocabulary) -> str:
    """Of the values, whether they are in memory or in a file."""
    digest = hashlib.sha256()
    for array in (train.items, train.cu_seqlens, train.timestamps):
        for start in range(0, len(array), BLOCK_EVENTS):
            digest.update(array[start : start + BLOCK_EVENTS].astype(np.int64).data)
    digest.update("\0".join(vocabulary.item_ids).encode())
    return digest.hexdigest()[:16]


def _weights(recommender: Recommender) -> list[np.ndarray]:
    return [value.cpu().numpy() for value in recommender.model.state_dict().values()]


def _target_weights(of_events: np.ndarray | None, given: np.ndarray | None) -> np.ndarray | None:
    """The product, with a mean of one, so that weights say nothing of the size of a step."""
    if of_events is None and given is None:
        return None
    factors = [f for f in (of_events, given) if f is not None]
    product = np.prod([np.asarray(f, dtype=np.float32) for f in factors], axis=0)
    mean = product.mean(dtype=np.float64)
    return product / np.float32(mean) if mean > 0 else product


def _check_data(
    train: PackedSequences,
    validation: EvaluationSet | None,
    vocabulary: Vocabulary,
    weights: np.ndarray | None,
) -> None:
    if not len(train.items):
        raise DataError("training data: no events; check the source and the training cut")
    if validation is not None and not len(validation):
        raise DataError("validation: no users; use an earlier cut or the leave-one-out split")
    encoded = [("training data", train.items)]
    if validation is not None:
        encoded.append((validation.name, validation.histories.items))
    for name, items in encoded:
        if len(items) and not 1 <= items.min() <= items.max() <= len(vocabulary):
            raise DataError(
                f"{name}: item indices span {items.min()}..{items.max()}, but the vocabulary has "
                f"1..{len(vocabulary)}; encode the data with this vocabulary"
            )
    if weights is not None and weights.shape != train.items.shape:
        raise DataError(
            f"weights: shape {weights.shape}, expected one per training event {train.items.shape}"
        )
