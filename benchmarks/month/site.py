"""The site: its folders, its commands on the shop's clock, and what each of them cost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.month.clock import ShopClock
from serving.registry import ModelStore
from serving.release.lifetime import end_with_parent

PROJECT = Path(__file__).parents[2]
PROMOTED, BAD_INPUT, HELD = 0, 2, 3


@dataclass(frozen=True)
class Ended:
    """A command that has ended.

    Attributes:
        status: its exit status; the negative number of a signal.
        output: what it printed.
        seconds: of real time.
        cpu_seconds: of it and all it started and waited for.
    """

    status: int
    output: str
    seconds: float
    cpu_seconds: float

    @property
    def last_line(self) -> str:
        """Of what it printed."""
        return (self.output.strip().splitlines() or [""])[-1]


class Command:
    """A command at work in a process group of its own."""

    def __init__(self, arguments: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self._log, self._started = log, time.monotonic()
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=PROJECT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    def signal(self, number: int) -> None:
        """Send a signal to all of its processes."""
        os.killpg(self._process.pid, number)

    def kill_after(self, seconds: float) -> None:
        """kill -9 of all its processes at once, unless it ends before."""
        time.sleep(seconds)
        self.signal(signal.SIGKILL)

    def wait(self) -> Ended:
        """Until it has ended."""
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return Ended(
            status=self._process.returncode,
            output=self._log.read_text(errors="replace"),
            seconds=time.monotonic() - self._started,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
        )


class MonthSite:
    """Where a month is lived.

    Args:
        folder: of the month; everything is below it.
        settings: `--set` of every run.
        gates: a gates file; the project's own when absent.
    """

    def __init__(
        self, folder: Path, clock: ShopClock, settings: Sequence[str], gates: Path | None
    ) -> None:
        self.folder, self.clock = folder, clock
        self.home, self.data, self.runs = folder / "home", folder / "shop", folder / "runs"
        self.temporary = folder / "tmp"
        self.logs = folder / "logs"
        for made in (self.home, self.runs, self.temporary, self.logs):
            made.mkdir(parents=True, exist_ok=True)
        self._settings, self._gates = settings, gates

    @property
    def environment(self) -> dict[str, str]:
        """Of every process of the site."""
        return {
            "OMP_NUM_THREADS": "1",
            **os.environ,
            "PYTHONPATH": str(PROJECT),
            "TERM": "dumb",
            "TMPDIR": str(self.temporary),
            **self.clock.environment,
        }

    @property
    def store(self) -> ModelStore:
        """Its versions."""
        return ModelStore(self.home / "models")

    @property
    def champion(self) -> str:
        """The version that the aliases name."""
        version = self.store.aliases().champion
        assert version is not None, "the site has no champion"
        return version

    def start_run(self, name: str, *extra: str) -> Command:
        """Start `pipeline.py run` with the files of the run in `runs/<name>`."""
        gates = ["--gates", str(self._gates)] if self._gates else []
        arguments = [
            *("pipeline.py", "run", "--home", str(self.home)),
            *("--run-dir", str(self.runs / name), *gates),
            *(f"--set={setting}" for setting in self._settings),
            *extra,
        ]
        return Command(arguments, self.environment, self.logs / f"{name}.log")

    def run(self, name: str, *extra: str) -> Ended:
        """`pipeline.py run`, to its end."""
        return self.start_run(name, *extra).wait()

    def command(self, module: str, *arguments: str) -> Ended:
        """`python -m module ... --home HOME`."""
        log = self.logs / f"{module}.log"
        line = ["-m", module, *arguments, "--home", str(self.home)]
        return Command(line, self.environment, log).wait()

    def stages(self, name: str) -> dict[str, dict[str, Any]]:
        """What the stages of a run said of themselves."""
        records = (self.runs / name / "stages").glob("*.json")
        return {path.stem: json.loads(path.read_text()) for path in records}

    def places_of(self, user: str) -> list[str]:
        """Files of home, runs and temporary folder that hold a user's id, readable or not."""
        return [
            str(path.relative_to(self.folder))
            for folder in (self.home, self.runs, self.temporary)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and _names(path, user)
        ]

    def sizes(self) -> dict[str, int]:
        """Bytes of each part of the disk that the month fills; a file of two names counts once."""
        parts = {path.name: path for path in self.home.iterdir() if path.is_dir()}
        parts |= {"runs": self.runs, "tmp": self.temporary}
        seen: set[int] = set()
        return {name: _size(path, seen) for name, path in sorted(parts.items())}


def _names(path: Path, user: str) -> bool:
    content = path.read_bytes()
    if content[:4] == b"PAR1" == content[-4:]:
        columns = pq.read_table(path).columns
        return any(user in c.to_pylist() for c in columns if pa.types.is_string(c.type))
    return user.encode() in content


def _size(folder: Path, seen: set[int]) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            found = path.lstat()
        except FileNotFoundError:  # a segment that ended meanwhile
            continue
        if found.st_ino not in seen:
            seen.add(found.st_ino)
            total += found.st_blocks * 512
    return total
