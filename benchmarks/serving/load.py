"""The load generator: a process of its own, over real sockets. A plan on stdin, a result on stdout.

Closed loop: every connection sends its next request when the last was answered; the rate that comes
out is the peak. Open loop: requests are due at the times of a Poisson process, whatever the server
does, and a latency counts from when the request was due, so a stall is paid for by all who came
meanwhile (no coordinated omission; Tene, "How NOT to measure latency", 2013).

Why our own: of the tools in Debian, wrk and hey are closed loops (hey's rate limit waits for
answers), and locust and aiohttp cost a core that the server under test needs here. This one costs
about 40 us of CPU a request (httptools and uvloop do the work); the result says how much.
"""

import asyncio
import itertools
import json
import random
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import httptools
import numpy as np
import psutil
import uvloop
from pydantic import BaseModel

GRACE_SECONDS = 10.0
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}

Outcome = Literal["ok", "degraded", "refused", "failed"]


class Plan(BaseModel):
    """What to send where.

    Attributes:
        server: the process id above the server's workers. Each of them gets as many connections:
            a keep-alive connection stays with the worker that accepted it, and whichever accepts
            fastest takes most, which a load balancer in front would even out.
        workers: how many there are.
        bodies: a file of JSON bodies, one a line, sent in turn.
        connections: to each worker.
        rate: requests due per second; a closed loop when absent.
        warm_up, seconds: what is not counted at first, and what is.
    """

    host: str = "127.0.0.1"
    port: int
    path: str
    server: int
    workers: int
    headers: dict[str, str] = {}
    bodies: Path
    connections: int
    rate: float | None = None
    warm_up: float = 1.0
    seconds: float
    seed: int = 0

    def requests(self) -> list[bytes]:
        """Whole HTTP requests, ready to write."""
        headers = {"Host": f"{self.host}:{self.port}", "Content-Type": "application/json"}
        lines = [f"{name}: {value}" for name, value in (headers | self.headers).items()]
        head = "\r\n".join([f"POST {self.path} HTTP/1.1", *lines])
        return [
            f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
            for body in self.bodies.read_bytes().splitlines()
        ]


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self, load: "Load") -> None:
        self.load = load
        self.parser = httptools.HttpResponseParser(self)
        self.body = b""
        self.due: float | None = None

    def connection_made(self, transport: Any) -> None:
        """Ready."""
        self.transport = transport

    def send(self, due: float, request: bytes) -> None:
        """Send what should have been sent at `due`."""
        self.due = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Part of an answer."""
        self.body += body

    def on_message_complete(self) -> None:
        """The answer is whole."""
        due, body = self.due, self.body
        self.due, self.body = None, b""
        assert due is not None
        self.load.answered(self, due, _outcome(self.parser.get_status_code(), body))

    def connection_lost(self, exc: Exception | None) -> None:
        """A request that was under way is lost."""
        if self.due is not None:
            self.load.lost(self.due)


def accepted(server: int, port: int) -> list[list[int]]:
    """The client's ports of the connections that each worker of a server accepted."""
    found = []
    for worker in psutil.Process(server).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            sockets = worker.net_connections("tcp")
            if ports := [s.raddr.port for s in sockets if s.raddr and s.laddr.port == port]:
                found.append(ports)
    return found


def _outcome(status: int, body: bytes) -> Outcome:
    if status == 200:
        return "degraded" if b'"degraded":"' in body else "ok"
    return "refused" if status in (429, 503) else "failed"


class Load:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.requests = itertools.cycle(plan.requests())
        self.idle: deque[Connection] = deque()
        self.waiting: deque[float] = deque()
        self.done: list[tuple[float, float, Outcome]] = []
        self.stopping = False
        self.closed = plan.rate is None
        self.connections = 0

    async def run(self) -> dict[str, Any]:
        """Connect, send, wait for what is under way, and count."""
        await self._connect()
        cpu = time.process_time()
        start = time.perf_counter() + self.plan.warm_up
        end = start + self.plan.seconds
        if self.closed:
            while self.idle:
                self.idle.popleft().send(time.perf_counter(), next(self.requests))
            await asyncio.sleep(end - time.perf_counter())
        else:
            await self._send_when_due(start - self.plan.warm_up, end)
        self.stopping = True
        cpu = time.process_time() - cpu
        deadline = time.perf_counter() + GRACE_SECONDS
        while len(self.idle) < self.connections and time.perf_counter() < deadline:
            await asyncio.sleep(0.01)
        return self._result(start, end, cpu)

    async def _connect(self) -> None:
        """Open connections until every worker has its share, and close what is too many."""
        loop = asyncio.get_running_loop()
        opened: dict[int, Connection] = {}
        while True:
            for _ in range(16):
                transport, connection = await loop.create_connection(
                    lambda: Connection(self), self.plan.host, self.plan.port
                )
                opened[transport.get_extra_info("sockname")[1]] = connection
                await asyncio.sleep(0.002)
            owners = accepted(self.plan.server, self.plan.port)
            enough = [len(ports) >= self.plan.connections for ports in owners]
            if len(enough) == self.plan.workers and all(enough):
                break
        # Alternating: an idle connection is taken from the left and comes back on the right.
        for ports in zip(*owners, strict=False):
            if len(self.idle) < self.plan.connections * len(owners):
                self.idle.extend(opened.pop(port) for port in ports)
        for connection in opened.values():
            connection.transport.close()
        self.connections = len(self.idle)

    async def _send_when_due(self, due: float, end: float) -> None:
        assert self.plan.rate is not None
        rng = random.Random(self.plan.seed)
        while (due := due + rng.expovariate(self.plan.rate)) < end:
            while (ahead := due - time.perf_counter()) > 0:
                await asyncio.sleep(ahead)
            if self.idle:
                self.idle.popleft().send(due, next(self.requests))
            else:
                self.waiting.append(due)

    def answered(self, connection: Connection, due: float, outcome: Outcome) -> None:
        """Count an answer, and send what waits."""
        now = time.perf_counter()
        self.done.append((due, now, outcome))
        if self.waiting:
            connection.send(self.waiting.popleft(), next(self.requests))
        elif self.closed and not self.stopping:
            connection.send(now, next(self.requests))
        else:
            self.idle.append(connection)

    def lost(self, due: float) -> None:
        """Count a request whose connection broke."""
        self.done.append((due, time.perf_counter(), "failed"))

    def _result(self, start: float, end: float, cpu: float) -> dict[str, Any]:
        """Rates count what was answered in the window, latencies what was due in it."""
        due = np.array([at for at, _, _ in self.done])
        answered = np.array([at for _, at, _ in self.done])
        outcome = np.array([name for _, _, name in self.done])
        counted = (due >= start) & (due < end)
        in_window = (answered >= start) & (answered < end)
        return {
            "offered_per_second": self.plan.rate,
            "ok_per_second": round(
                float((in_window & (outcome == "ok")).sum()) / self.plan.seconds, 2
            ),
            "requests": int(counted.sum()),
            "unanswered": self.connections - len(self.idle) + len(self.waiting),
            "client_cpu_share": round(cpu / (self.plan.warm_up + self.plan.seconds), 3),
            "milliseconds": {
                name: _quantiles(1e3 * (answered - due)[counted & (outcome == name)])
                for name in sorted(set(outcome[counted].tolist()))
            },
        }


def _quantiles(values: np.ndarray) -> dict[str, float]:
    found = np.quantile(values, list(QUANTILES.values()))
    return {"count": len(values)} | {
        name: round(float(value), 3) for name, value in zip(QUANTILES, found, strict=True)
    }


def main() -> None:
    """Read a plan, run it, write the result."""
    plan = Plan.model_validate_json(sys.stdin.read())
    json.dump(uvloop.run(Load(plan).run()), sys.stdout)


if __name__ == "__main__":
    main()
