"""Peak, latency under load and overload, ours and the peers' in turns."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.systems import OURS, Running

# To each worker. The peak needs a few requests waiting; the rest must not run out of connections.
PEAK_CONNECTIONS = 8
OPEN_CONNECTIONS = 48
SHARE = 0.7
OVERLOAD = 3.0

Runs = list[dict[str, Any]]


@dataclass(frozen=True)
class Effort:
    """How long is measured.

    Attributes:
        rounds: turns that every server has.
        peak_seconds, open_seconds, overload_seconds: of each turn.
    """

    rounds: int
    peak_seconds: float
    open_seconds: float
    overload_seconds: float


def compare(
    servers: Sequence[Running], sent: Path, stored: Path, effort: Effort
) -> dict[str, dict[str, Runs]]:
    """Every server under the same requests, then ours with histories from the store.

    First each one's peak; then each at 70 % of its own peak, where latencies are taken; then the
    peers at 70 % of ours, as if one replaced the other at a site; then ours at three times its
    peak.

    Args:
        sent: bodies that hold the history, which all servers understand.
        stored: bodies that name a user whose history our server reads.
    """
    [our] = [server for server in servers if server.name == OURS]
    peers = [server for server in servers if server.name != OURS]
    peaks = _in_turns(servers, effort.rounds, lambda server, _: _peak(server, sent, effort))
    peak = {name: _median_rate(runs) for name, runs in peaks.items()}
    stored_peaks = [_peak(our, stored, effort) for _ in range(effort.rounds)]

    def steady(server: Running, rate: float, turn: int) -> dict[str, Any]:
        return _open(server, sent, rate, effort.open_seconds, turn)

    return {
        "peak": peaks,
        "own_70_percent": _in_turns(
            servers,
            effort.rounds,
            lambda server, turn: steady(server, SHARE * peak[server.name], turn),
        ),
        "our_70_percent": _in_turns(
            peers, effort.rounds, lambda server, turn: steady(server, SHARE * peak[OURS], turn)
        ),
        "overload": {
            OURS: [
                _open(our, sent, OVERLOAD * peak[OURS], effort.overload_seconds, turn)
                for turn in range(effort.rounds)
            ]
        },
        "stored_peak": {OURS: stored_peaks},
        "stored_70_percent": {
            OURS: [
                _open(our, stored, SHARE * _median_rate(stored_peaks), effort.open_seconds, turn)
                for turn in range(effort.rounds)
            ]
        },
    }


def _in_turns(
    servers: Sequence[Running], rounds: int, measure: Callable[[Running, int], dict[str, Any]]
) -> dict[str, Runs]:
    """Results of each server; every round begins with another one."""
    found: dict[str, Runs] = {server.name: [] for server in servers}
    for turn in range(rounds):
        first = turn % len(servers)
        for server in [*servers[first:], *servers[:first]]:
            found[server.name].append(measure(server, turn))
    return found


def _peak(server: Running, bodies: Path, effort: Effort) -> dict[str, Any]:
    return server.load(bodies, connections=PEAK_CONNECTIONS, seconds=effort.peak_seconds)


def _open(server: Running, bodies: Path, rate: float, seconds: float, seed: int) -> dict[str, Any]:
    return server.load(
        bodies, connections=OPEN_CONNECTIONS, rate=round(rate, 1), seconds=seconds, seed=seed
    )


def _median_rate(runs: Runs) -> float:
    return statistics.median(run["ok_per_second"] for run in runs)
