"""moto's S3 server on the loopback interface."""

import contextlib
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from s3fs import S3FileSystem
from werkzeug.serving import make_server

from tests.json_server import in_a_thread

ROOT = Path(__file__).parent.parent.parent

BUCKET = "models"


@contextlib.contextmanager
def running() -> Iterator[str]:
    """An empty S3 with one bucket; yields the endpoint.

    One thread: moto checks a condition and stores in two steps, which S3 does in one.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=False)
    try:
        with in_a_thread(server):
            yield f"http://127.0.0.1:{server.server_port}"
    finally:
        # Those made meanwhile lead to this server, and would be handed to the tests after.
        S3FileSystem.clear_instance_cache()


@contextlib.contextmanager
def running_apart() -> Iterator[str]:
    """As `running`, in a process of its own: delta-rs waits for some answers holding the GIL."""
    command = [sys.executable, "-m", "tests.serving.s3_server"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.communicate()  # the end of its input ends it
            S3FileSystem.clear_instance_cache()


if __name__ == "__main__":
    with running() as endpoint:
        print(endpoint, flush=True)
        sys.stdin.read()
