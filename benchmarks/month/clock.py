"""The shop's own clock: every process of the site sees it, and it jumps from hour to hour."""

import shutil
import struct
import subprocess
import time
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")
MOVES = 4096  # as in clock.c
MICROSECONDS = 1_000_000


class NoCompiler(RuntimeError):
    """The clock is a small library in C, and there is nothing to compile it with. One line."""


class ShopClock:
    """A wall clock that a preloaded library shows to the processes of `environment`.

    Durations are real: only what a process takes for the date is the shop's. Times of files are
    what the shop's clock showed when they were written.

    Args:
        folder: where the library and the moves are; a folder of an earlier process goes on.

    Raises:
        NoCompiler: there is no C compiler.
    """

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise NoCompiler("no C compiler (cc) is on the PATH, and the shop's clock needs one")
        folder.mkdir(parents=True, exist_ok=True)
        self._library, self._file = folder / "clock.so", folder / "moves"
        build = [compiler, "-O2", "-shared", "-fPIC", "-o", str(self._library), str(SOURCE), "-ldl"]
        subprocess.run(build, check=True)
        if not self._file.exists():
            self._file.write_bytes(bytes(8 + 16 * MOVES))
        self._ahead = self._read()

    @property
    def environment(self) -> dict[str, str]:
        """For the processes of the site."""
        return {"LD_PRELOAD": str(self._library), "MONTH_CLOCK": str(self._file)}

    def now(self) -> int:
        """Microseconds since the epoch, as the site sees it."""
        return time.time_ns() // 1000 + self._ahead

    def move_to(self, moment: int) -> None:
        """Jump to a moment (microseconds); nothing happens where it has passed already."""
        if moment <= self.now():
            return
        real = time.time_ns() // 1000
        self._ahead = moment - real
        with self._file.open("r+b") as file:
            [count] = struct.unpack("<q", file.read(8))
            file.seek(8 + 16 * count)
            file.write(struct.pack("<qq", real, self._ahead))
            file.flush()
            file.seek(0)  # a reader sees a move once it is counted
            file.write(struct.pack("<q", count + 1))

    def _read(self) -> int:
        content = self._file.read_bytes()
        [count] = struct.unpack_from("<q", content)
        return struct.unpack_from("<qq", content, 8 + 16 * (count - 1))[1] if count else 0
