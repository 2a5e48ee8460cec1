"""moto's S3 server on the loopback interface."""

import contextlib
import logging
from collections.abc import Iterator

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from tests.json_server import in_a_thread

BUCKET = "models"


@contextlib.contextmanager
def running() -> Iterator[str]:
    """An empty S3 with one bucket; yields the endpoint.

    One thread: moto checks a condition and stores in two steps, which S3 does in one.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=False)
    with in_a_thread(server):
        yield f"http://127.0.0.1:{server.server_port}"
