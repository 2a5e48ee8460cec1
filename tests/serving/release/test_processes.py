"""Starting a server and finding it ready, whatever the environment says of proxies."""

import ast
import os
import socket
import sys
from pathlib import Path

import pytest

from serving.release.processes import PortInUse, check_port, free_port, running, url_of

ROOT = Path(__file__).parents[3]
SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Ready(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""


def test_a_proxy_of_the_environment_is_not_asked_for_what_runs_here(tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody listens
    port = free_port()
    command = [sys.executable, "-c", SERVER, str(port)]
    url = f"http://127.0.0.1:{port}"
    with running(command, os.environ, url, tmp_path / "log") as process:
        assert process.poll() is None


@pytest.mark.parametrize("folder", ["serving", "components", "deploy", "examples", "benchmarks"])
def test_no_client_of_our_own_addresses_trusts_the_environment(folder):
    calls = [
        (path, node)
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("httpx.get", "httpx.Client", "httpx.AsyncClient")
    ]
    trusting = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, node in calls
        if not any(k.arg == "trust_env" and ast.unparse(k.value) == "False" for k in node.keywords)
    ]
    assert trusting == []


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_an_address_of_either_kind(host, url):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as taken:
        try:
            taken.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        taken.listen()
        port = taken.getsockname()[1]
        assert url_of(host, port) == f"http://{url}:{port}"
        with pytest.raises(PortInUse, match=rf"port {port} on {host}: .*; choose another"):
            check_port(host, port)
    check_port(host, port)
