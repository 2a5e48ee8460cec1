"""Bodies that mean harm, random paths and users, and the schema's own reading of the service."""

import http.client
import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks.faults.server import Server
from benchmarks.faults.site import ITEM_IDS, Site

ROUTES = ("/v1/recommend", "/v1/events")
CALLERS = 4
HUGE = 50 << 20
CHUNK = bytes(64 << 10)
WARM_UP = 20  # random requests until every route, outcome and policy has been met
CANARY = "canary-4711-user"


@contextmanager
def server_to_annoy(site: Site, folder: Path) -> Iterator[Server]:
    """One worker, whose memory and whose series tell."""
    # Whether one of few users is among the gold ones is chance, and theirs is a policy of its own.
    # No schema says how old an event may be: a century, so that what it generates is not refused.
    settings = {"SASREC_GOLD_SHARE": "0", "SASREC_RETENTION_DAYS": "36500"}
    with Server(site, folder / "server.log", workers=1, settings=settings) as server:
        yield server


def hostile_bodies(server: Server, *, bodies: int, huge: int) -> dict[str, Any]:
    """Send `bodies` bodies that break the rules, and `huge` of 50 MB, and watch the memory."""
    [worker] = server.workers()
    statuses: Counter[int] = Counter()
    memory = [worker.memory_info().rss]
    for tenth in range(10):
        statuses += _send_all(server, range(bodies * tenth // 10, bodies * (tenth + 1) // 10))
        memory.append(worker.memory_info().rss)
    huge_statuses = Counter(_send_huge(server, number) for number in range(huge))
    time.sleep(0.5)
    memory.append(worker.memory_info().rss)
    alive = server.workers() == [worker]
    return {
        "bodies": bodies,
        "huge_bodies": huge,
        "by_status": {str(status): n for status, n in sorted(statuses.items())},
        "huge_by_status": {str(status): n for status, n in sorted(huge_statuses.items())},
        "server_errors": sum(
            n for status, n in (statuses + huge_statuses).items() if status >= 500 or status == 0
        ),
        "worker_survived": alive,
        # At the start, after each tenth, and after the huge ones. The heap grows to what a few
        # bodies in parsing need at once; flat is what comes after half of them.
        "memory_megabytes": [round(used / 1e6, 1) for used in memory],
    }


def _send_all(server: Server, numbers: range) -> Counter[int]:
    def send(caller: int) -> Counter[int]:
        statuses: Counter[int] = Counter()
        with server.client() as client:
            for number in numbers[caller::CALLERS]:
                rng = random.Random(number)
                response = client.post(
                    rng.choice(ROUTES),
                    content=hostile_body(rng),
                    headers={"Content-Type": "application/json"},
                )
                statuses[response.status_code] += 1
        return statuses

    with ThreadPoolExecutor(CALLERS) as pool:
        return sum(pool.map(send, range(CALLERS)), Counter[int]())


def hostile_body(rng: random.Random) -> bytes:
    """A body that no schema allows, or that is at its edge."""
    depth = rng.choice([10, 1_000, 100_000])
    kinds = [
        lambda: b"[" * depth,
        lambda: b'{"recent_items": ' + b"[" * depth + b"]" * depth + b"}",
        lambda: b'{"a":' * depth + b"1" + b"}" * depth,
        lambda: b'{"k": %s}' % rng.choice([b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0"]),
        lambda: b'{"k": ' + b"9" * rng.choice([20, 400, 5_000, 500_000]) + b"}",
        lambda: b'{"timestamp": ' + b"9" * rng.choice([20, 400]) + b', "event_id": "e"}',
        lambda: b'{"user_id": "' + rng.randbytes(rng.randrange(1, 200)) + b'"}',
        lambda: b'{"user_id": "\\ud800"}',
        lambda: b'{"user_id": "\\u0000"}',
        lambda: b'{"user_id": "' + b"x" * rng.choice([257, 100_000, 900_000]) + b'"}',
        lambda: json.dumps({"exclude": ["x"] * rng.choice([10_001, 100_000])}).encode(),
        lambda: json.dumps({"events": [{}] * 1_001}).encode(),
        lambda: b'{"k": 1, "k": 2}',
        lambda: json.dumps({"user_id": "u", rng.choice("abcdef") * 50: 1}).encode(),
        lambda: rng.randbytes(rng.randrange(0, 2_000)),
        lambda: json.dumps({"user_id": "u", "k": 10}).encode()[: rng.randrange(0, 25)],
        lambda: b"\xef\xbb\xbf{}",
        lambda: "{}".encode("utf-16"),
        lambda: rng.choice([b"null", b"[]", b'""', b"0", b"true"]),
    ]
    return rng.choice(kinds)()


def _send_huge(server: Server, number: int) -> int:
    """Send 50 MB, with its length or in chunks; returns the status, 0 without an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("POST", ROUTES[number % 2])
    for name, value in server.site.headers.items():
        connection.putheader(name, value)
    connection.putheader("Content-Type", "application/json")
    chunked = number % 4 < 2
    if chunked:
        connection.putheader("Transfer-Encoding", "chunked")
    else:
        connection.putheader("Content-Length", str(HUGE))
    try:
        connection.endheaders()
        for _ in range(HUGE // len(CHUNK)):
            connection.send(b"%x\r\n%s\r\n" % (len(CHUNK), CHUNK) if chunked else CHUNK)
    except OSError:
        pass  # refused before the end, and rightly: the answer says why
    try:
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def random_paths_and_users(server: Server, *, requests: int) -> dict[str, Any]:
    """Ask random paths and for random users, one of them a canary that no log may name."""
    for number in range(WARM_UP):
        _wander(server, number)
    server.series()  # reading them is a request, too
    before = set(server.series())
    for number in range(WARM_UP, WARM_UP + requests):
        _wander(server, number)
    after = set(server.series())
    return {
        "requests": requests,
        "series_before": len(before),
        "series_after": len(after),
        "new_series": sorted(after - before),
        "canary_in_logs": server.log.read_text(errors="replace").count(CANARY),
    }


def _wander(server: Server, number: int) -> None:
    rng = random.Random(number)
    word = quote(rng.randbytes(8).hex())
    user = CANARY if number % 10 == 0 else word
    with server.client() as client:
        client.get(f"/{word}/{rng.choice(ITEM_IDS)}?user_id={user}")
        client.post(f"/v1/recommend/{word}", json={"user_id": user})
        client.post("/v1/recommend", json={"user_id": user})
        client.post("/v1/recommend", json={"user_id": user, "k": user})
        client.post("/v1/recommend", json={"user_id": user, "category": word})
        event = {"event_id": word, "user_id": user, "item_id": rng.choice(ITEM_IDS)}
        client.post("/v1/events", json=event)
        client.post("/v1/events", json={**event, "timestamp": user})
        client.get("/v1/history", params={"user_id": user})


def read_by_schema(server: Server, *, examples: int) -> dict[str, Any]:
    """Let schemathesis derive requests from the OpenAPI document and check every answer.

    Raises:
        FileNotFoundError: schemathesis is not installed beside this Python.
    """
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    if program is None:
        raise FileNotFoundError("schemathesis is not installed; it is among the extra 'dev'")
    done = subprocess.run(
        [
            program, "run", f"{server.url}/openapi.json", "--seed", "1",
            "--max-examples", str(examples),
            "--header", f"Authorization: Bearer {server.site.key}",
        ],
        capture_output=True, text=True, check=False, cwd=server.log.parent,
    )  # fmt: skip
    generated = [line for line in done.stdout.splitlines() if "generated" in line]
    return {
        "examples_per_operation": examples,
        "test_cases": generated[-1].strip() if generated else "none",
        "failures": [line.strip() for line in done.stdout.splitlines() if "❌ ST" in line],
        "exit_status": done.returncode,
    }
