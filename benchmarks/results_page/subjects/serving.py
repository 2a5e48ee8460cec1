"""Serving: throughput, latency, overload, runtimes, the index, faults."""

from statistics import median
from typing import Any

from benchmarks.results_page.files import read, source
from benchmarks.results_page.table import Row, Subject, number, share, times

SIZES = {3400: "3,400 items", 100000: "100,000 items", 1000000: "1 M items"}
SERVERS = {
    "ours": "this project",
    "bentoml_api": "`@bentoml.api`, defaults",
    "fastapi": "FastAPI + uvicorn",
}
PERCENTILES = ("p50", "p99", "p99.9")


def load() -> Subject:
    """Peak and latency beside two plain services."""
    rows = []
    for size, label in SIZES.items():
        record = read(f"serving-throughput-{size}")
        ratios = record["history_50"]["summary"]["ratios"]
        for server in ("bentoml_api", "fastapi"):
            rows += [
                Row(
                    f"peak requests/s, {label}",
                    number(peak(size, "ours")),
                    source(record),
                    f"{SERVERS[server]} {number(peak(size, server))}",
                    times(ratios[f"requests_to_{server}"]["median"]),
                ),
                Row(
                    f"p50 / p99 / p99.9 ms at 70 % of it, {label}",
                    _latencies(size, "ours"),
                    source(record),
                    f"{SERVERS[server]} {_latencies(size, server)}",
                    times(1 / ratios[f"p99_to_{server}"]["median"]),
                ),
            ]
    return Subject(
        "Serving under load",
        "Two workers and the load generator on two cores, over sockets, 50 items in the history, "
        "servers in turns, "
        "medians of three rounds (one at 1 M). Peak: a closed loop; latency: Poisson arrivals, "
        "counted from when a "
        "request was due. Latency's ratio is of p99, above one where this project is faster.",
        rows,
        plot="latency.svg",
        notes="The peers run the same engine and do less: they are sent the history, take the ten "
        "best and answer. "
        "This project also reads the stored history through Feast, checks a key, explores, "
        "computes propensities, "
        "logs the list and counts.",
    )


def overload() -> Subject:
    """Three times the peak, and what a click changes."""
    rows = []
    for size, label in SIZES.items():
        record = read(f"serving-throughput-{size}")
        own = record["history_50"]["summary"]["overload"]
        rows += [
            Row(
                f"share of the peak still answered at three times the peak, {label}",
                share(own["goodput_share"]["median"], 3),
                source(record),
            ),
            Row(
                f"p50 / p99 ms to refuse the rest, {label}",
                f"{number(own['refused_p50_ms']['median'])} / "
                f"{number(own['refused_p99_ms']['median'])}",
                source(record),
            ),
        ]
    return Subject("Serving under overload", "As above, at three times the peak rate.", rows)


def event_to_list() -> Subject:
    """From an acknowledged event to another worker's list; memory over time."""
    shift, soak = read("serving-shift"), read("serving-soak")
    shown = round(shift["share_within_100_ms"] * shift["events"])
    slope = soak["slope_mib_per_hour"]
    return Subject(
        "From an event to the next list, and memory",
        "Shift: from a 202 to a list of the other worker that knows of the event. Soak: the slope "
        "of the workers' "
        "memory after warm-up, with its 95 % interval.",
        [
            Row(
                "events that show in the other worker's next list within 100 ms",
                f"{shown} of {shift['events']}",
                source(shift),
            ),
            Row(
                "ms from an event to that list, p50 / most",
                f"{number(shift['milliseconds']['p50'])} / {number(shift['milliseconds']['max'])}",
                source(shift),
            ),
            Row(
                f"MiB an hour, {number(soak['seconds'] / 60)} minutes at {number(soak['rate'])} "
                "requests/s",
                f"{slope['estimate']} ({slope['low']} to {slope['high']})",
                source(soak),
            ),
        ],
        notes="The soak ran beside other work, so its latencies say nothing.",
    )


def runtimes() -> Subject:
    """Ways of running the same model."""
    record = read("serving-runtimes")
    own = next(name for name in record["items_3400"]["history_50"] if name.endswith("encoder"))
    rows = []
    for size, label in SIZES.items():
        case = record[f"items_{size}"]
        here = case["history_50"][own]["median"]
        rows += [
            Row(
                f"ms, {label}",
                number(here),
                source(record),
                f"{name} {number(result['median'])} (ready in {case['start_seconds'][name]} s)",
                times(result["median"] / here),
            )
            for name, result in case["history_50"].items()
            if name != own
        ]
    return Subject(
        "Runtimes of the model",
        "From a history of 50 items to the scores of all items, one thread, the median; eager "
        "torch with the encoder of "
        "one history is what serves.",
        rows,
    )


def index() -> Subject:
    """All items scored, or found by an index and scored again."""
    record = read("serving-index")
    rows = [
        Row(
            f"ms to the best 200, {label} (recall@100)",
            f"index {number(case['index']['median'])} ({case['recall_at_100']:.4f})",
            source(record),
            f"all items scored {number(case['exact']['median'])}",
            times(case["exact"]["median"] / case["index"]["median"]),
        )
        for size, label in SIZES.items()
        for case in [record[f"items_{size}"]]
    ]
    return Subject(
        "The index of large catalogues", "One thread, random embeddings, the median.", rows
    )


def faults() -> Subject:
    """What was broken on purpose, and what came of it."""
    record = read("faults")
    kills, swap, disk, sync = (record[n] for n in ("kills", "swap", "disk_full", "fsync_fails"))
    bodies, schema = record["hostile_bodies"], record["schema"]
    lost = kills["lost_from_the_log"] + kills["lost_from_histories"]
    total = sum(kills["kills"].values())
    rows = [
        Row(
            f"acknowledged events lost in {total} × kill -9 of workers and servers",
            f"{lost} of {kills['acknowledged_events']:,}",
            source(kills),
        ),
        Row("events applied twice in those", str(kills["applied_twice"]), source(kills)),
        Row(
            f"requests failed in {swap['swaps']} swaps under load, "
            f"{len(swap['broken_versions_refused_by_workers'])} of them of broken versions",
            f"{swap['failed_requests']} of {swap['requests']:,}",
            source(swap),
        ),
        Row("seconds to roll back, worst", number(swap["rollback_seconds"]["worst"]), source(swap)),
        *_history_away(record["history_away"]),
        Row(
            "acknowledged events lost on a full disk",
            str(disk["acknowledged_and_lost"]),
            source(disk),
        ),
        Row(
            "acknowledged events lost when fsync fails",
            str(sync["acknowledged_and_lost"]),
            source(sync),
        ),
        Row(
            f"server errors to {bodies['bodies']:,} hostile bodies",
            str(bodies["server_errors"]),
            source(bodies),
        ),
        Row(
            "violations of the API's own schema (schemathesis)",
            f"{len(schema['failures'])} ({schema['test_cases']})",
            source(schema),
        ),
    ]
    return Subject(
        "Faults", "Real processes, each fault under load; `python -m benchmarks.faults`.", rows
    )


def small_costs() -> Subject:
    """Counting, and races for the alias."""
    metrics, race = read("metrics-overhead"), read("alias_race")
    return Subject(
        "Small costs",
        "Metrics: a request with and without counting. Aliases: processes that all want to promote "
        "at once.",
        [
            Row(
                "share of a request that counting takes",
                share(metrics["share_of_request"]),
                source(metrics),
            ),
            *(
                Row(
                    f"winners a generation, {race['writers']} writers, "
                    f"{race[store]['generations']} generations, {store}",
                    str(race[store]["winners_per_generation"]),
                    source(race),
                )
                for store in ("s3", "file")
            ),
        ],
    )


def peak(size: int, server: str) -> float:
    """Answered requests/s in a closed loop, the median of the rounds."""
    runs = read(f"serving-throughput-{size}")["history_50"]["runs"]["peak"][server]
    return median(run["ok_per_second"] for run in runs)


def latency(size: int, server: str, percentile: str) -> float:
    """Milliseconds at 70 % of the server's own peak, the median of the rounds."""
    runs = read(f"serving-throughput-{size}")["history_50"]["runs"]["own_70_percent"][server]
    return median(run["milliseconds"]["ok"][percentile] for run in runs)


def _latencies(size: int, server: str) -> str:
    return " / ".join(number(latency(size, server, p)) for p in PERCENTILES)


def _history_away(record: dict[str, Any]) -> list[Row]:
    return [
        Row(
            f"answers of 200, {'Redis stopped' if kind == 'stopped' else 'Redis hung'} (all "
            "degraded)",
            f"{record[kind]['answered_200']:,} of {record[kind]['requests']:,}",
            source(record),
        )
        for kind in ("stopped", "hung")
    ]
