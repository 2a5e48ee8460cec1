"""Any object that answers requests in JSON, as an HTTP server on the loopback interface."""

import contextlib
import json
import threading
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseServer
from typing import Any, Protocol


class Answers(Protocol):
    """What a simulated service has to be."""

    def answer(self, method: str, url: str, headers: Message, body: bytes) -> tuple[int, Any]:
        """Status and JSON of a request.

        Raises:
            ConnectionAbortedError: hang up without an answer.
        """


@contextlib.contextmanager
def running(service: Answers) -> Iterator[str]:
    """Serve on a free port; yields the URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet per answer

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                status, answer = service.answer(self.command, self.path, self.headers, body)
            except ConnectionAbortedError:
                self.close_connection = True
                return
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            # A client that timed out is gone.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    with in_a_thread(http):
        yield f"http://127.0.0.1:{http.server_port}"


@contextlib.contextmanager
def in_a_thread(server: BaseServer) -> Iterator[None]:
    """Let a server answer until the end, and release its port then."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
