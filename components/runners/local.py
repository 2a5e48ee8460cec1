"""Run the pipeline on this machine through KFP's own local runner, and leave a readable run."""

import contextlib
import copy
import os
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
from kfp import dsl, local
from kfp.dsl.graph_component import GraphComponent
from rich.console import Console

from components.runners.preloaded import preloaded_stages
from components.support.data_state import nothing_new
from components.support.outcome_metrics import write_outcome
from components.support.progress import watch
from components.support.settings import RunConfig
from components.support.site_lease import HOME
from components.support.stage import read_stages
from components.support.summary import write_summary
from feature_repo.lease import LeaseLost, held
from feature_repo.temporary import own_temporary_files
from sasrec.errors import DataError, SettingsError
from sasrec.evaluation.result import Evaluation

GRACE_SECONDS = 10
# Of a stage that a repeated run may not reach, and that would then speak for the run before it.
LEFT_BY_STAGES = (
    "verdict.json",
    "refit.json",
    "deployment.json",
    "summary.json",
    "report.html",
)


class StageFailed(RuntimeError):
    """A stage ended for a reason that is not the user's input; its log has the traceback."""


class Interrupted(Exception):
    """Ctrl-C or SIGTERM came; no process is left behind and nothing is half-written."""


def new_run_id(site: str) -> str:
    """Sorts by time, to the microsecond, and says which data it was."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{site}"


def run_local(
    pipeline: GraphComponent, config: RunConfig, home: Path, run_dir: Path, console: Console
) -> dict[str, Any]:
    """Run `pipeline` to its end and return the summary that `<run_dir>/summary.json` holds.

    A run that found nothing new has no such file; its summary says why, as `nothing_new`.

    Raises:
        SettingsError: a folder cannot be written.
        DataError: another run uses the same home, or a stage refused its input, in its one line.
        StageFailed: a stage crashed.
        Interrupted: Ctrl-C or SIGTERM.
    """
    home, run_dir = home.resolve(), run_dir.resolve()
    succeeded = run_stages(pipeline, config, home, run_dir, console)
    write_outcome(home, run_dir)
    if not succeeded:
        raise_failure(run_dir)
    if reason := nothing_new(run_dir):
        return {"run": run_dir.name, "nothing_new": reason, "deployed": False}
    config = RunConfig.parse((run_dir / "config.json").read_text())
    evaluation = Evaluation.load(run_dir / "evaluation")
    return write_summary(config, evaluation, run_dir)


def run_stages(
    pipeline: GraphComponent, config: RunConfig, home: Path, run_dir: Path, console: Console
) -> bool:
    """Run the stages of `pipeline` under the site's lease; whether every one succeeded.

    Raises:
        SettingsError, DataError, StageFailed, Interrupted: as `run_local`.
    """
    home, run_dir = home.resolve(), run_dir.resolve()
    for folder in (home, run_dir / "stages"):
        _require_writable(folder)
    for record in (run_dir / "stages").iterdir():
        record.unlink()
    for left in LEFT_BY_STAGES:
        (run_dir / left).unlink(missing_ok=True)
    (run_dir / HOME).write_text(str(home))
    taken_over: list[LeaseLost] = []

    def end(reason: LeaseLost) -> None:
        taken_over.append(reason)
        os.kill(os.getpid(), signal.SIGTERM)

    try:
        with own_temporary_files(), held(home, str(run_dir), end), _ended_with_us():
            return _execute(pipeline, config, home, run_dir, console)
    except KeyboardInterrupt:
        if taken_over:
            raise StageFailed(str(taken_over[0])) from None
        raise Interrupted from None


def _execute(
    pipeline: GraphComponent, config: RunConfig, home: Path, run_dir: Path, console: Console
) -> bool:
    """Whether every stage succeeded. KFP's own output goes to the run's log."""
    finished = threading.Event()
    watcher = threading.Thread(target=watch, args=(run_dir, console, finished), daemon=True)
    os.environ["SASREC_LOCAL_RUN"] = "1"
    with (run_dir / "pipeline.log").open("a", buffering=1) as log:
        watcher.start()
        try:
            with (
                contextlib.redirect_stdout(log),
                contextlib.redirect_stderr(log),
                preloaded_stages(log),
            ):
                local.init(
                    local.SubprocessRunner(use_venv=False),
                    pipeline_root=str(run_dir / "artifacts"),
                    raise_on_error=True,
                )
                _unscheduled(pipeline)(
                    config=config.model_dump_json(), home=str(home), run_dir=str(run_dir)
                )
            return True
        except RuntimeError as error:
            log.write(f"{error}\n")
            return False
        finally:
            finished.set()
            watcher.join()


def _unscheduled(pipeline: GraphComponent) -> GraphComponent:
    """The pipeline without its scheduled moment, whose placeholder KFP's local runner lacks."""
    here = copy.deepcopy(pipeline)
    for task in here.pipeline_spec.root.dag.tasks.values():
        for value in task.inputs.parameters.values():
            constant = value.runtime_value.constant
            if constant.string_value == dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER:
                constant.string_value = ""
    return here


@contextlib.contextmanager
def _ended_with_us() -> Iterator[None]:
    """Turn SIGTERM into Ctrl-C, and end every child process on the way out."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.terminate()
        raise KeyboardInterrupt

    previous = {s: signal.signal(s, interrupt) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        children = psutil.Process().children(recursive=True)
        for child in psutil.wait_procs(children, timeout=GRACE_SECONDS)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SettingsError(
            f"cannot write to {folder} ({error.strerror}): "
            "give --home or --run-dir a folder that is yours"
        ) from None


def raise_failure(run_dir: Path) -> None:
    """Raise what ended a run, as the stage that failed recorded it.

    Raises:
        DataError: a stage refused its input.
        StageFailed: a stage crashed.
    """
    for name, record in read_stages(run_dir).items():
        if "error" in record:
            raise DataError(record["error"])
        if record["status"] != "done":
            reason = record.get("crash", "the process ended without a word (out of memory?)")
            raise StageFailed(f"stage {name} failed: {reason}; see {run_dir / 'pipeline.log'}")
    raise StageFailed(f"the pipeline failed between stages; see {run_dir / 'pipeline.log'}")
