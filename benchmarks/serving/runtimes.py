"""What computes the scores of one request fastest: the same weights in five runtimes.

Each turns one history into the scores of the whole catalogue, on one thread, in this process.
"""

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.stopwatch import in_turns, summary
from sasrec.model.encoder import Encoder
from sasrec.model.recommender import Recommender
from sasrec.model.sasrec import SASRec
from sasrec.model.single_history import SingleHistory
from serving.engine.ranking import score as score_all
from serving.registry.export import FILE, export_onnx

Score = Callable[[torch.Tensor, torch.Tensor], np.ndarray]
REPEATS = 300
TOLERANCE = 1e-3  # of scores whose standard deviation is 8: weights of the benchmark are random


def compare_runtimes(model_dir: Path, folder: Path, lengths: tuple[int, ...]) -> dict[str, Any]:
    """Milliseconds by length of history and runtime, and the seconds until its first answer.

    Raises:
        RuntimeError: two runtimes disagree.
    """
    torch.set_num_threads(1)
    model = Recommender.load(model_dir).model.eval()
    histories = {length: _history(model, length) for length in (7, *lengths)}
    runtimes: dict[str, Score] = {}
    start_seconds: dict[str, float] = {}
    makers: dict[str, Callable[[], Score]] = {
        "eager, the model as it trains": lambda: _packed(model),
        "eager, sasrec.model.encoder": lambda: _encoder(model),
        "torch.compile": lambda: _compiled(model),
        "AOTInductor": lambda: _ahead_of_time(model, folder, histories[7]),
        "ONNX Runtime": lambda: _onnx(model_dir, folder),
    }
    for name, make in makers.items():
        started = time.perf_counter()
        runtimes[name] = make()
        for history in histories.values():
            runtimes[name](*history)
        start_seconds[name] = round(time.perf_counter() - started, 2)

    result: dict[str, Any] = {"start_seconds": start_seconds}
    for length in lengths:
        history = histories[length]
        _check_agreement({name: score(*history) for name, score in runtimes.items()})
        calls = {name: partial(score, *history) for name, score in runtimes.items()}
        seconds = in_turns(calls, REPEATS)
        result[f"history_{length}"] = {name: summary(found) for name, found in seconds.items()}
    return result


def _history(model: SASRec, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(length)
    items = torch.from_numpy(rng.integers(1, model.num_items + 1, length))
    return items, torch.arange(length)


def _packed(model: SASRec) -> Score:
    @torch.inference_mode()
    def score(items: torch.Tensor, seconds: torch.Tensor) -> np.ndarray:
        cu_seqlens = torch.tensor([0, len(items)], dtype=torch.int32)
        return (model.item_matrix() @ model.encode_last(items, cu_seqlens, seconds)[0]).numpy()

    return score


def _encoder(model: SASRec) -> Score:
    encoder = Encoder(model)

    @torch.inference_mode()
    def score(items: torch.Tensor, seconds: torch.Tensor) -> np.ndarray:
        return score_all(encoder.matrix, encoder.encode(items, seconds))

    return score


def _compiled(model: SASRec) -> Score:
    compiled = torch.compile(SingleHistory(model).eval(), dynamic=True)

    @torch.inference_mode()
    def score(items: torch.Tensor, seconds: torch.Tensor) -> np.ndarray:
        return compiled(items, seconds).numpy()

    return score


def _ahead_of_time(
    model: SASRec, folder: Path, example: tuple[torch.Tensor, torch.Tensor]
) -> Score:
    length = torch.export.Dim("length", min=2, max=model.config.max_length)
    program = torch.export.export(
        SingleHistory(model).eval(), example, dynamic_shapes=({0: length}, {0: length})
    )
    package = torch._inductor.aoti_compile_and_package(
        program, package_path=str(folder / "model.pt2")
    )
    loaded = torch._inductor.aoti_load_package(package)

    @torch.inference_mode()
    def score(items: torch.Tensor, seconds: torch.Tensor) -> np.ndarray:
        return loaded(items, seconds).numpy()

    return score


def _onnx(model_dir: Path, folder: Path) -> Score:
    import onnxruntime

    logging.disable(logging.INFO)
    export_onnx(model_dir, folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        folder / FILE, options, providers=["CPUExecutionProvider"]
    )
    names = [given.name for given in session.get_inputs()]  # an unused input is not in the file

    def score(items: torch.Tensor, seconds: torch.Tensor) -> np.ndarray:
        values = {"items": items.numpy(), "seconds": seconds.numpy()}
        return session.run(None, {name: values[name] for name in names})[0]

    return score


def _check_agreement(scores: dict[str, np.ndarray]) -> None:
    [(first, expected), *others] = scores.items()
    for name, found in others:
        difference = float(np.abs(found[1:] - expected[1:]).max())
        if not difference <= TOLERANCE:
            raise RuntimeError(f"scores of {name} and {first} differ by {difference:.2g}")
