"""What every component does around its work: time it, measure it, and leave errors readable."""

import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.support.site_lease import held_by_stage
from feature_repo.lease import LeaseLost, Superseded
from sasrec.errors import DataError

STAGES = (
    "ingest",
    "publish_features",
    "extract_sequences",
    "train",
    "evaluate",
    "gate",
    "refit",
    "register",
    "deploy",
)

_PR_SET_PDEATHSIG = 1


@dataclass
class Stage:
    """A stage at work.

    Attributes:
        run_dir: the run's directory, for what people and the summary read afterwards.
        detail: a few words on the outcome, shown beside the stage's name.
    """

    run_dir: Path
    detail: str = ""


@contextmanager
def stage(name: str, run_dir: str) -> Iterator[Stage]:
    """Record one stage of a run in `<run_dir>/stages/<name>.json`.

    The record holds `status` (running, done, failed), `seconds`, `peak_memory_mib`, `detail` and,
    in one line, an `error` when the input was bad or a `crash` when something else went wrong.

    Within, the run holds the lease on its site. A stage whose lease another run took over, or
    another attempt of the stage, ends at once, by SIGTERM, before it writes more; of two attempts
    the record is the later one's.
    """
    _die_with_parent()
    record = Path(run_dir) / "stages" / f"{name}.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    current = Stage(Path(run_dir))

    def write(status: str, **fields: str) -> None:
        fields["detail"] = current.detail
        numbers = {
            "seconds": round(time.perf_counter() - started, 3),
            "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
        temporary = record.with_suffix(".tmp")
        temporary.write_text(json.dumps({"status": status, **numbers, **fields}))
        temporary.replace(record)

    taken_over: list[LeaseLost] = []

    def write_failure(error: BaseException) -> None:
        error = taken_over[0] if taken_over else error
        if isinstance(error, DataError):
            write("failed", error=_one_line(str(error)))
        elif not isinstance(error, Superseded):
            write("failed", crash=f"{type(error).__name__}: {_one_line(str(error))}")

    def end(reason: LeaseLost) -> None:
        taken_over.append(reason)
        write_failure(reason)
        os.kill(os.getpid(), signal.SIGTERM)

    write("running")
    try:
        with held_by_stage(Path(run_dir), end, last=name == STAGES[-1]):
            yield current
    except BaseException as error:
        write_failure(error)
        raise
    write("done")


def read_stages(run_dir: Path) -> dict[str, dict[str, Any]]:
    """The records of the stages that have begun, in the order of the pipeline.

    A run that begins anew removes the records of the last one, and may be doing so right now.
    """
    records = {}
    for name in STAGES:
        with suppress(FileNotFoundError):
            records[name] = json.loads((run_dir / "stages" / f"{name}.json").read_text())
    return records


def _one_line(message: str) -> str:
    return " ".join(message.split())


def _die_with_parent() -> None:
    """Ask Linux to end this process when the local runner that started it is killed."""
    if sys.platform == "linux" and os.environ.get("SASREC_LOCAL_RUN"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
