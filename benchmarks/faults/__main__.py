"""All faults in their long forms: what was done, what came of it, and which targets held.

python -m benchmarks.faults
python -m benchmarks.faults swap kills
"""

import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.faults.disk import fail_fsync, fill_disk
from benchmarks.faults.history_away import take_history_away
from benchmarks.faults.hostile import (
    hostile_bodies,
    random_paths_and_users,
    read_by_schema,
    server_to_annoy,
)
from benchmarks.faults.item_kills import kill_while_items_change
from benchmarks.faults.kills import kill_under_load
from benchmarks.faults.server import Server
from benchmarks.faults.site import Site, make_site
from benchmarks.faults.swap import swap_under_load
from benchmarks.provenance import provenance

RESULT = Path(__file__).parents[1] / "results" / "faults.json"
Result = dict[str, Any]


def _annoyed(site: Site, folder: Path, *, by: Callable[[Server], Result]) -> Result:
    with server_to_annoy(site, folder) as server:
        return by(server)


FAULTS: dict[str, Callable[..., Result]] = {
    "swap": partial(swap_under_load, swaps=20, rollbacks=4),
    "kills": partial(kill_under_load, kills=100, whole_server_every=2),
    "item_kills": partial(kill_while_items_change, kills=40, whole_server_every=2),
    "history_away": partial(take_history_away, seconds=15.0),
    "disk_full": partial(fill_disk, refusals=500),
    "fsync_fails": partial(fail_fsync, refusals=500),
    "hostile_bodies": partial(_annoyed, by=partial(hostile_bodies, bodies=10_000, huge=20)),
    "random_paths": partial(_annoyed, by=partial(random_paths_and_users, requests=1_000)),
    "schema": partial(_annoyed, by=partial(read_by_schema, examples=300)),
}


def targets(name: str, result: Result) -> dict[str, bool]:
    """What must hold of a fault's result."""
    checks: dict[str, Callable[[Result], dict[str, bool]]] = {
        "swap": lambda r: {
            "0 failed requests": r["failed_requests"] == 0,
            "every broken version refused by every worker": all(
                n == r["workers"] for n in r["broken_versions_refused_by_workers"].values()
            ),
            "skew <= 2 s": r["skew_seconds"]["worst"] <= 2,
            "rollback <= 1 s": r["rollback_seconds"]["worst"] <= 1,
        },
        "kills": lambda r: {
            "0 acknowledged events lost": not r["lost_from_the_log"] + r["lost_from_histories"],
            "0 applied twice": r["applied_twice"] == 0,
        },
        "item_kills": lambda r: {
            "0 acknowledged changes of items lost": not r["lost_from_the_log"] + r["not_served"],
        },
        "history_away": lambda r: {
            f"{kind}: {target}": held
            for kind in ("stopped", "hung")
            for target, held in _away(r[kind]).items()
        },
        "disk_full": _disk,
        "fsync_fails": _disk,
        "hostile_bodies": lambda r: {
            "no 5xx": r["server_errors"] == 0,
            "worker survived": r["worker_survived"],
            "memory flat (+5 MB at most from the middle to the end)": r["memory_megabytes"][-1]
            <= r["memory_megabytes"][5] + 5,
        },
        "random_paths": lambda r: {
            "no new series": r["series_after"] == r["series_before"],
            "canary in no log": r["canary_in_logs"] == 0,
        },
        "schema": lambda r: {"no violation": r["exit_status"] == 0 and not r["failures"]},
    }
    return checks[name](result)


def _away(r: Result) -> dict[str, bool]:
    return {
        "100 % answered 200, degraded": r["requests"] == r["answered_200"] == r["degraded"],
        "p99 <= 60 ms": r["milliseconds"]["p99"] <= 60,
        "recovery <= 5 s": r["recovery_seconds"] <= 5,
        "every event acknowledged, and there after": r["events_sent"] == r["events_acknowledged"]
        and r["events_missing_after_recovery"] == 0,
    }


def _disk(r: Result) -> dict[str, bool]:
    return {
        "events are 202 or 503": set(r["events_by_status"]) == {"202", "503"},
        "recommendations go on": set(r["recommendations_by_status_meanwhile"]) == {"200"},
        "events are 202 afterwards": set(r["events_by_status_afterwards"]) == {"202"},
        "nothing acknowledged is lost": r["acknowledged_and_lost"] == 0,
    }


def main(
    faults: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(FAULTS)}.")] = None,
) -> None:
    """Bring the faults about, write the result, and say which targets held."""
    results = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    missed = 0
    for name in faults or FAULTS:
        with tempfile.TemporaryDirectory(prefix="sasrec-faults-") as scratch:
            folder = Path(scratch)
            started = time.monotonic()
            result = FAULTS[name](make_site(folder / "site"), folder)
        held = targets(name, result)
        results[name] = {
            **result,
            "targets": held,
            "took_seconds": round(time.monotonic() - started, 1),
            "provenance": provenance(),
        }
        RESULT.write_text(json.dumps(results, indent=2) + "\n")
        for target, ok in held.items():
            print(f"{'held  ' if ok else 'MISSED'}  {name}: {target}", flush=True)
        missed += not all(held.values())
    raise typer.Exit(bool(missed))


if __name__ == "__main__":
    typer.run(main)
