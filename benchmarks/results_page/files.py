"""The result files, and where each figure in them comes from."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"
GPUS = {"NVIDIA H100 80GB HBM3": "H100", "NVIDIA H200": "H200"}
CPUS = {"Intel(R) Xeon(R) Processor": "Intel Xeon"}


@dataclass(frozen=True)
class Source:
    """Where a figure comes from, as the page shows it."""

    hardware: str
    command: str
    commit: str


_read: set[str] = set()


@cache
def read(name: str) -> Any:
    """The content of benchmarks/results/<name>.json; not to be changed."""
    _read.add(name)
    return json.loads((RESULTS / f"{name}.json").read_text())


def unread() -> list[str]:
    """Names of the result files that nothing has asked for yet."""
    return sorted({path.stem for path in RESULTS.glob("*.json")} - _read)


@cache
def parts(folder: str, pattern: str) -> list[Any]:
    """The files of a folder of results that fit a pattern, in the order of their names."""
    return [json.loads(path.read_text()) for path in sorted((RESULTS / folder).glob(pattern))]


def source(*records: dict[str, Any], command: str = "") -> Source:
    """Of one record, or of several that fill one figure.

    Args:
        records: each with its provenance under that name, or itself a provenance.
        command: shown in place of the recorded ones, where many runs filled the figure.
    """
    provenances = [record.get("provenance", record) for record in records]
    return Source(
        hardware=_once(_hardware(p) for p in provenances),
        command=_once(f"`{command or p['command']}`" for p in provenances),
        commit=_once(
            f"`{p['commit']}`" + ("+" if p.get("uncommitted_changes") else "") for p in provenances
        ),
    )


def _hardware(provenance: dict[str, Any]) -> str:
    device = provenance["device"]
    if device in GPUS:
        return GPUS[device]
    threads = provenance["threads"]
    return f"{CPUS.get(device, device)}, {threads} thread{'s' if threads != 1 else ''}"


def _once(values: Iterable[str]) -> str:
    return "<br>".join(dict.fromkeys(values))
