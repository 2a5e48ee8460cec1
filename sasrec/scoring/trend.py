"""The score knows the day: what a model scores, and what everybody meets lately.

    score(i | history, t) = model(i | history) + Σ_j a_j · log(1 + c_ij(t))

with c_ij the counts of `sasrec.scoring.decayed_counts`. A popularity that follows time is worth
more than one over all time (Ji et al. 2020, "A re-visit of the popularity baseline in recommender
systems"); the logarithm makes it a prior of the softmax that the model was trained with. Two
half-lives with weights of opposite sign say whether an item rises or falls.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from sasrec.data.packed import PackedSequences
from sasrec.errors import DataError
from sasrec.scoring.decayed_counts import CountsInTime, DecayedCounts
from sasrec.scoring.scorer import Scorer

FILE, COUNTS = "trend.json", "trend.safetensors"
"""Files of a model directory: the weights, and the counts at the model's moment."""


@dataclass(frozen=True)
class Trend:
    """What the counts of each half-life add to a score.

    Attributes:
        half_lives: (J,) in seconds.
        weights: (J,) a_j, in units of the model's scores; all 0 where counts do not help.
    """

    half_lives: tuple[float, ...]
    weights: tuple[float, ...]

    @property
    def active(self) -> bool:
        """Whether it changes any score."""
        return any(self.weights)

    def bonus(self, counts: np.ndarray) -> np.ndarray:
        """(V + 1,) float32 to add to the model's scores, of counts (J, V + 1)."""
        # In single precision the logarithm is vectorised; in double it takes ten times as long.
        logs = np.log(1 + counts.astype(np.float32))
        return np.asarray(self.weights, dtype=np.float32) @ logs

    def save(self, directory: Path, counts: DecayedCounts) -> None:
        """Write the weights, and the counts that a server begins with, beside a model."""
        (directory / FILE).write_text(json.dumps(asdict(self), indent=1))
        arrays: dict[str, np.ndarray] = {
            # safetensors writes the memory as it lies, whatever the strides say.
            "counts": np.ascontiguousarray(counts.counts, dtype=np.float32),
            "moment": np.array([counts.moment], dtype=np.int64),
        }
        save_file(arrays, directory / COUNTS)

    @classmethod
    def load(cls, directory: Path) -> "Trend | None":
        """Read what `save` wrote; None for a model that knows no trend.

        Raises:
            DataError: the file does not hold a trend.
        """
        path = directory / FILE
        if not path.exists():
            return None
        try:
            written = json.loads(path.read_text())
            half_lives, weights = (
                tuple(float(value) for value in written[name]) for name in ("half_lives", "weights")
            )
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: not a trend ({error}); fit it again") from None
        if len(half_lives) != len(weights) or not all(value > 0 for value in half_lives):
            raise DataError(f"{path}: half-lives and weights do not fit; fit it again")
        return cls(half_lives, weights)

    def load_counts(self, directory: Path, num_items: int) -> DecayedCounts:
        """The counts beside a model, as of its moment.

        Raises:
            DataError: the file is missing or damaged, or of another vocabulary or trend.
        """
        path = directory / COUNTS
        try:
            arrays = load_file(path)
            counts, [moment] = arrays["counts"], arrays["moment"]
        except (FileNotFoundError, SafetensorError, KeyError, ValueError) as error:
            raise DataError(f"{path}: not the counts of a trend ({error})") from None
        expected = (len(self.half_lives), num_items + 1)
        if counts.shape != expected:
            raise DataError(f"{path}: holds counts of shape {counts.shape}, not {expected}")
        return DecayedCounts(num_items, self.half_lives, int(moment), counts)


class Trending:
    """A scorer together with a trend, for histories that say when they are asked about.

    Args:
        scorer: the model, over the vocabulary of `counts`.
        trend: what counts add.
        counts: of everybody's events, from before the first history is asked about.
    """

    def __init__(self, scorer: Scorer, trend: Trend, counts: CountsInTime) -> None:
        self.name = scorer.name
        self._scorer, self._trend, self._counts = scorer, trend, counts

    def logits(self, histories: PackedSequences) -> torch.Tensor:
        """(B, V + 1) float32: of counts strictly before `histories.asked_at`, never later."""
        scores = self._scorer.logits(histories)
        moments, row = np.unique(histories.moments, return_inverse=True)
        for number, counts in enumerate(self._counts.at(moments)):
            bonus = torch.from_numpy(self._trend.bonus(counts)).to(scores.device)
            if len(moments) == 1:
                return scores + bonus
            scores[torch.from_numpy(np.flatnonzero(row == number)).to(scores.device)] += bonus
        return scores
