"""A version as one self-contained ONNX file, for teams that serve elsewhere.

Needs the `export` extra: onnx, onnxscript, onnxruntime.
"""

import json
import logging
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sasrec.data.packed import PackedSequences
from sasrec.model.files import VOCABULARY
from sasrec.model.recommender import MICROSECONDS, Recommender
from sasrec.model.single_history import SingleHistory
from sasrec.scoring.trend import Trend
from serving.registry import RegistryError

FILE = "model.onnx"
OPSET = 18
TOLERANCE = 1e-4
EXTRA = ("onnx", "onnxscript", "onnxruntime")


def export_onnx(model_dir: Path, output_dir: Path) -> float:
    """Write `model.onnx`, with its vocabulary beside it.

    The file's inputs are `items`, the newest at most `max_length` (in its metadata) vocabulary
    indices, oldest first, and `seconds`, their times since the epoch (only a model with a time bias
    looks at these); its output is `scores` (V + 1,): entry i is vocabulary index i, 0 is padding.
    A model with a trend takes `counts` (J, V + 1) float32 too, which the caller keeps: events of
    each item, halved with every one of the `half_lives` (seconds, in the metadata) of their age.

    Returns:
        The largest difference of a score between ONNX Runtime and the model, over short and
        long histories.

    Raises:
        RegistryError: the `export` extra is not installed, or the difference is above 1e-4;
            nothing is left behind.
        DataError: the model is incomplete or damaged.
    """
    if missing := [name for name in EXTRA if find_spec(name) is None]:
        raise RegistryError(
            f"{missing[0]} is not installed; ONNX needs the extra: pip install -e '.[export]'"
        )
    recommender = Recommender.load(model_dir)
    trend = Trend.load(model_dir)
    trend = trend if trend is not None and trend.active else None
    output_dir.mkdir(parents=True, exist_ok=True)
    unchecked = output_dir / f".{FILE}"
    try:
        _write(recommender, trend, model_dir.name, unchecked)
        difference = _largest_difference(unchecked, recommender, trend)
        if not difference <= TOLERANCE:  # NaN is no agreement either
            raise RegistryError(f"{FILE}: scores differ from the model's by {difference:.2g}")
        shutil.copyfile(model_dir / VOCABULARY, output_dir / VOCABULARY)
        unchecked.rename(output_dir / FILE)
    finally:
        unchecked.unlink(missing_ok=True)
    return difference


class _WithTrend(nn.Module):
    """Scores of one history, with what counts add."""

    weights: torch.Tensor

    def __init__(self, scores: SingleHistory, trend: Trend) -> None:
        super().__init__()
        self.scores = scores
        self.register_buffer("weights", torch.tensor(trend.weights, dtype=torch.float32))

    def forward(
        self, items: torch.Tensor, seconds: torch.Tensor, counts: torch.Tensor
    ) -> torch.Tensor:
        """(V + 1,), for counts (J, V + 1)."""
        return self.scores(items, seconds) + self.weights @ torch.log(1 + counts)


def _write(recommender: Recommender, trend: Trend | None, version: str, path: Path) -> None:
    longest = recommender.model.config.max_length
    length = torch.export.Dim("length", min=1, max=longest)
    example = [*_history(recommender, min(7, longest), seed=0)]
    alone = SingleHistory(recommender.model)
    module: nn.Module = alone if trend is None else _WithTrend(alone, trend)
    shapes: dict[str, dict] = {"items": {0: length}, "seconds": {0: length}}
    if trend is not None:
        shapes["counts"] = {}
        example.append(_counts(recommender, trend))
    # The exporter speaks of packages that this model does not use, and of its own internals.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            tuple(map(torch.from_numpy, example)),
            input_names=list(shapes),
            output_names=["scores"],
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props.update(version=version, max_length=str(longest))
    if trend is not None:
        program.model.metadata_props["half_lives"] = json.dumps(trend.half_lives)
    program.save(path, external_data=False)


def _history(recommender: Recommender, length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    items = rng.integers(1, len(recommender.vocabulary) + 1, length)
    return items, np.cumsum(rng.integers(1, 10**6, length))


def _counts(recommender: Recommender, trend: Trend) -> np.ndarray:
    """(J, V + 1) float32, some of them none."""
    shape = (len(trend.half_lives), len(recommender.vocabulary) + 1)
    return np.random.default_rng(0).poisson(0.5, shape).astype(np.float32)


def _largest_difference(path: Path, recommender: Recommender, trend: Trend | None) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    differences = []
    for length in sorted({1, 2, recommender.model.config.max_length}):
        items, seconds = _history(recommender, length, seed=length)
        given = {"items": items, "seconds": seconds}
        if trend is not None:
            given["counts"] = _counts(recommender, trend)
        [scores] = session.run(None, given)
        cu_seqlens = np.array([0, length], dtype=np.int32)
        history = PackedSequences(items, cu_seqlens, seconds * MICROSECONDS)
        expected = recommender.logits(history)[0].numpy()
        if trend is not None:
            expected = expected + trend.bonus(given["counts"])
        differences.append(np.abs(scores[1:] - expected[1:]).max())
    return float(np.max(differences))
