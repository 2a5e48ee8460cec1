"""Champions that come and go under load, some of them broken."""

import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.faults import damage
from benchmarks.faults.load import Answer, Load, milliseconds
from benchmarks.faults.server import Server
from benchmarks.faults.site import Site

WORKERS = 2
PATIENCE = 60.0
SETTLED = 0.5  # seconds without an answer of another version


def swap_under_load(site: Site, folder: Path, *, swaps: int, rollbacks: int) -> dict[str, Any]:
    """Promote `swaps` versions, of which each kind of `damage` spoils one.

    The broken ones get the alias past the checks of `promote`, as a disk that rots would.

    Args:
        rollbacks: how many of the good promotions are taken back, which is timed.
    """
    good = swaps - len(damage.KINDS)
    assert good > rollbacks
    skews, switches, back, refused = [], [], [], Counter[str]()
    seed = 0
    with Server(site, folder / "server.log", workers=WORKERS) as server, Load(server) as load:
        server.wait_for_workers()
        _settle(load, _champion(site))
        for kind in damage.KINDS:
            seed += 1
            refused[kind.__name__] = _offer_broken(server, load, site, seed, kind)
        for number in range(good):
            seed += 1
            version = site.add_version(seed)
            moved = time.monotonic()
            site.store.promote(version, why="swap")
            first, last_old = _settle(load, version, since=moved)
            switches.append(last_old - moved)
            skews.append(max(0.0, last_old - first))
            if number < rollbacks:
                moved = time.monotonic()
                site.store.rollback(why="swap")
                back.append(_settle(load, _champion(site), since=moved)[1] - moved)
    statuses = Counter(answer.status for answer in load.answers)
    return {
        "swaps": swaps,
        "rollbacks": rollbacks,
        "workers": WORKERS,
        "requests": len(load.answers),
        "failed_requests": len(load.answers) - statuses[200],
        "degraded_requests": sum(answer.degraded is not None for answer in load.answers),
        "broken_versions_refused_by_workers": dict(refused),
        "seconds_until_all_serve_it": _worst(switches),
        "skew_seconds": _worst(skews),
        "rollback_seconds": _worst(back),
        "milliseconds": milliseconds(load.answers),
    }


def _champion(site: Site) -> str:
    champion = site.store.aliases().champion
    assert champion is not None
    return champion


def _worst(seconds: list[float]) -> dict[str, float]:
    return {
        "mean": round(sum(seconds) / len(seconds), 3),
        "worst": round(max(seconds), 3),
    }


def _offer_broken(
    server: Server, load: Load, site: Site, seed: int, kind: Callable[[Path], None]
) -> int:
    """Give a broken version the alias, wait until every worker refused it, and take it back.

    Returns:
        How many workers refused it; none may have served it.
    """
    serving = _champion(site)
    version = site.add_version(seed)
    kind(site.store.path(version))
    started = time.monotonic()
    _move_alias(site, version)
    deadline = started + PATIENCE
    refusal = re.compile(rf"sasrec:(\d+)\] hot swap: refused version {version}")
    while len(refusals := set(refusal.findall(server.log.read_text()))) < WORKERS:
        assert time.monotonic() < deadline, f"{kind.__name__}: refused by workers {refusals}"
        time.sleep(0.05)
    time.sleep(SETTLED)
    served = {answer.version for answer in load.since(started)}
    assert served == {serving}, f"{kind.__name__}: {served} served"
    site.store.rollback(why="broken")
    return len(refusals)


def _move_alias(site: Site, version: str) -> None:
    aliases = site.store.aliases()
    promoted = aliases.promoted(version, "champion")
    site.store._aliases.write(promoted, expected_generation=aliases.generation)


def _settle(load: Load, version: str, since: float | None = None) -> tuple[float, float]:
    """Wait until every answer is of `version`.

    Returns:
        When the first answer of it came, and when the last of any other was asked for; the moment
        of the change itself if there was none after it.
    """
    started = time.monotonic() if since is None else since
    while True:
        assert time.monotonic() < started + PATIENCE, f"{version} is not served by all"
        time.sleep(0.05)
        answers = [answer for answer in load.since(started) if answer.version is not None]
        others = [answer.started for answer in answers if answer.version != version]
        last_other = max(others, default=started)
        ours = [answer for answer in answers if answer.version == version]
        if ours and _quiet(ours, last_other):
            return min(answer.ended for answer in ours), last_other


def _quiet(answers: list[Answer], last_other: float) -> bool:
    return max(answer.started for answer in answers) > last_other + SETTLED
