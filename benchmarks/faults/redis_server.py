"""A Redis that can be stopped, hung and brought back with what it had."""

import shutil
import signal
import subprocess
import time
from pathlib import Path

import redis

from serving.release.lifetime import end_with_parent
from serving.release.processes import free_port


class RedisServer:
    """`redis-server` on a free loopback port, syncing every write to `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def __enter__(self) -> "RedisServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.resume()
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers."""
        program = shutil.which("redis-server")
        if program is None:
            raise FileNotFoundError("redis-server is not on the PATH")
        self._process = subprocess.Popen(
            [
                program, "--bind", "127.0.0.1", "--port", str(self._port),
                "--dir", str(self._folder), "--appendonly", "yes", "--appendfsync", "always",
                "--save", "",
            ],
            stdout=subprocess.DEVNULL,
            preexec_fn=end_with_parent,
        )  # fmt: skip
        with redis.Redis(port=self._port) as client:
            for _ in range(200):
                try:
                    client.ping()
                    return
                except redis.RedisError:
                    time.sleep(0.05)
        raise TimeoutError("redis-server did not start within 10 s")

    def stop(self) -> None:
        """Connections are refused from now on."""
        self._process.terminate()
        self._process.wait()

    def hang(self) -> None:
        """Connections are accepted from now on, and nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `hang`."""
        self._process.send_signal(signal.SIGCONT)
