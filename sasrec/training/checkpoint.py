"""The state of a training run in one safetensors file, replaced atomically.

A kill at any instant leaves the previous checkpoint whole: the new one is written under a
temporary name, flushed to disk, and renamed over it.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sasrec.errors import DataError

FILE = "checkpoint.safetensors"


@dataclass
class Checkpoint:
    """Everything that training continues from.

    Attributes:
        run: what is being trained (configuration, data, vocabulary); a run resumes only its own.
        progress: plain JSON values: epoch, step, loss so far, history, best epoch.
        weights: the model's parameters.
        average: their moving average; empty for a run that takes none.
        best_weights: those of the best validation so far.
        optimiser: parameter name and state name ("exp_avg", ...) to tensor.
    """

    run: dict[str, Any]
    progress: dict[str, Any]
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    best_weights: dict[str, Tensor]
    optimiser: dict[tuple[str, str], Tensor]


def save(directory: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint in `directory`."""
    tensors = {f"weights/{name}": tensor for name, tensor in checkpoint.weights.items()}
    tensors |= {f"average/{name}": tensor for name, tensor in checkpoint.average.items()}
    tensors |= {f"best/{name}": tensor for name, tensor in checkpoint.best_weights.items()}
    tensors |= {f"optimiser/{n}/{s}": tensor for (n, s), tensor in checkpoint.optimiser.items()}
    metadata = {"run": json.dumps(checkpoint.run), "progress": json.dumps(checkpoint.progress)}
    temporary = directory / f"{FILE}.tmp"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata)
    with temporary.open("rb") as written:
        os.fsync(written.fileno())
    temporary.replace(directory / FILE)


def load(directory: Path, run: dict[str, Any]) -> Checkpoint | None:
    """The checkpoint of `run` in `directory`; None if there is none yet.

    Raises:
        DataError: the checkpoint there is of another run, or damaged.
    """
    path = directory / FILE
    if not path.exists():
        return None
    try:
        return _read(path, run)
    except SafetensorError as error:
        raise DataError(f"{path}: {error}; delete it to train from the start") from None


def _read(path: Path, run: dict[str, Any]) -> Checkpoint:
    checkpoint = Checkpoint({}, {}, {}, {}, {}, {})
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        checkpoint.run = json.loads(metadata["run"])
        checkpoint.progress = json.loads(metadata["progress"])
        _refuse_other(path, checkpoint.run, run)
        for key in file.keys():  # noqa: SIM118 (not a mapping)
            kind, name = key.split("/", 1)
            if kind == "weights":
                checkpoint.weights[name] = file.get_tensor(key)
            elif kind == "average":
                checkpoint.average[name] = file.get_tensor(key)
            elif kind == "best":
                checkpoint.best_weights[name] = file.get_tensor(key)
            else:
                parameter, state = name.rsplit("/", 1)
                checkpoint.optimiser[parameter, state] = file.get_tensor(key)
    return checkpoint


def optimiser_state(
    model: torch.nn.Module, optimiser: torch.optim.Optimizer
) -> dict[tuple[str, str], Tensor]:
    """The optimiser's tensors by parameter name and state name."""
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    return {
        (names[parameter], key): value
        for parameter, state in optimiser.state.items()
        for key, value in state.items()
    }


def restore_optimiser(
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    saved: dict[tuple[str, str], Tensor],
) -> None:
    """Put back what `optimiser_state` gave."""
    parameters = dict(model.named_parameters())
    for (name, key), value in saved.items():
        parameter = parameters[name]
        optimiser.state[parameter][key] = value.to(parameter.device)


def _refuse_other(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key, value in wanted.items():
        if found.get(key) != value:
            raise DataError(
                f"{path}: '{key}' is {found.get(key)} in this checkpoint and {value} in this run; "
                "use an empty run directory, or delete the checkpoint to start over"
            )
