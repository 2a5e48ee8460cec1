"""A version as one self-contained ONNX file, for teams that serve elsewhere.

Needs the `export` extra: onnx, onnxscript, onnxruntime.
"""

import logging
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernels.relative_bias import position_index
from sasrec.data.packed import PackedSequences
from sasrec.model.recommender import MICROSECONDS, VOCABULARY, Recommender
from sasrec.model.sasrec import Attention, Block, SASRec
from serving.registry import RegistryError

FILE = "model.onnx"
OPSET = 18
TOLERANCE = 1e-4
EXTRA = ("onnx", "onnxscript", "onnxruntime")


class SingleHistory(nn.Module):
    """Scores of one history, in operations that ONNX has: attention is a masked matrix.

    The weights and layers are the trained model's own.
    """

    matrix: Tensor

    def __init__(self, model: SASRec) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("matrix", model.item_matrix().detach().clone())

    def forward(self, items: Tensor, seconds: Tensor) -> Tensor:
        """(V + 1,) scores; column 0, the padding, means nothing.

        Args:
            items: (L,) int64 in 1..V, oldest first, 1 <= L <= max_length.
            seconds: (L,) int64, since the epoch; used by models with a time bias alone.
        """
        x = F.embedding(items, self.matrix)
        index = torch.arange(items.shape[0])
        if self.model.position_embedding is not None:
            oldest = self.model.config.positions == "oldest"
            x = x + self.model.position_embedding(index if oldest else index.flip(0))
        for block in self.model.blocks:
            x = _block(cast(Block, block), x, seconds)
        return self.matrix @ self.model.norm(x)[-1]


def _block(block: Block, x: Tensor, seconds: Tensor) -> Tensor:
    if block.pre_norm:
        x = x + _attention(block.attention, block.attention_norm(x), seconds)
        return x + block.feed_forward(block.feed_forward_norm(x))
    x = block.attention_norm(x + _attention(block.attention, x, seconds))
    return block.feed_forward_norm(x + block.feed_forward(x))


def _attention(attention: Attention, x: Tensor, seconds: Tensor) -> Tensor:
    q, k, v = attention.qkv(x).unflatten(-1, (3, attention.heads, -1)).unbind(1)
    row = torch.arange(x.shape[0])[:, None]
    column = row.T
    scores = torch.einsum("ihd,jhd->hij", q, k) * q.shape[-1] ** -0.5
    if attention.position_bias is not None:
        furthest = attention.position_bias.shape[1] - 1
        scores = scores + attention.position_bias[:, position_index(row, column, furthest)]
    if attention.time_bias is not None:
        # The octave of 1 + elapsed seconds, by comparison: ONNX cannot look into a float's bits.
        octaves = 2 ** torch.arange(1, attention.time_bias.shape[1])
        elapsed = (seconds[:, None] - seconds[None, :]).clamp(min=0) + 1
        bucket = (elapsed[..., None] >= octaves).long().sum(-1)
        scores = scores + attention.time_bias[:, bucket]
    weights = torch.softmax(scores.masked_fill(column > row, -torch.inf), dim=-1)
    return attention.output(torch.einsum("hij,jhd->ihd", weights, v).flatten(1))


def export_onnx(model_dir: Path, output_dir: Path) -> float:
    """Write `model.onnx`, with its vocabulary beside it.

    The file's inputs are `items`, the newest at most `max_length` (in its metadata) vocabulary
    indices, oldest first, and `seconds`, their times since the epoch (only a model with a time bias
    looks at these); its output is `scores` (V + 1,): entry i is vocabulary index i, 0 is padding.

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
    output_dir.mkdir(parents=True, exist_ok=True)
    unchecked = output_dir / f".{FILE}"
    try:
        _write(recommender, model_dir.name, unchecked)
        difference = _largest_difference(unchecked, recommender)
        if not difference <= TOLERANCE:  # NaN is no agreement either
            raise RegistryError(f"{FILE}: scores differ from the model's by {difference:.2g}")
        shutil.copyfile(model_dir / VOCABULARY, output_dir / VOCABULARY)
        unchecked.rename(output_dir / FILE)
    finally:
        unchecked.unlink(missing_ok=True)
    return difference


def _write(recommender: Recommender, version: str, path: Path) -> None:
    longest = recommender.model.config.max_length
    length = torch.export.Dim("length", min=1, max=longest)
    example = _history(recommender, min(7, longest), seed=0)
    # The exporter speaks of packages that this model does not use, and of its own internals.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            SingleHistory(recommender.model).eval(),
            tuple(map(torch.from_numpy, example)),
            input_names=["items", "seconds"],
            output_names=["scores"],
            dynamic_shapes={"items": {0: length}, "seconds": {0: length}},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props.update(version=version, max_length=str(longest))
    program.save(path, external_data=False)


def _history(recommender: Recommender, length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    items = rng.integers(1, len(recommender.vocabulary) + 1, length)
    return items, np.cumsum(rng.integers(1, 10**6, length))


def _largest_difference(path: Path, recommender: Recommender) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    differences = []
    for length in sorted({1, 2, recommender.model.config.max_length}):
        items, seconds = _history(recommender, length, seed=length)
        [scores] = session.run(None, {"items": items, "seconds": seconds})
        cu_seqlens = np.array([0, length], dtype=np.int32)
        history = PackedSequences(items, cu_seqlens, seconds * MICROSECONDS)
        expected = recommender.logits(history)[0].numpy()
        differences.append(np.abs(scores[1:] - expected[1:]).max())
    return float(np.max(differences))
