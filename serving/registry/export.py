"""A version as one self-contained ONNX file, for teams that serve elsewhere.

Needs the `export` extra: onnx, onnxscript, onnxruntime.
"""

import logging
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from sasrec.data.packed import PackedSequences
from sasrec.model.files import VOCABULARY
from sasrec.model.recommender import MICROSECONDS, Recommender
from sasrec.model.single_history import SingleHistory
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
