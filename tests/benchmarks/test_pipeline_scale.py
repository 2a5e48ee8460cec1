"""The bars of the scale benchmark are computed from what was measured, and from nothing else."""

import duckdb

from benchmarks.pipeline_scale.__main__ import bars
from benchmarks.pipeline_scale.shop import DAYS, write_shop


def night(seconds: float, peak: float) -> dict:
    stages = {name: {"seconds": seconds, "peak_gib": peak} for name in ("ingest", "publish")}
    return {"measured": stages}


def test_bars_are_those_whose_parts_were_measured():
    assert bars({}) == []
    results = {
        str(10**7): {"full": night(20.0, 2.0), "day": night(3.0, 1.0)},
        str(10**8): {"full": night(220.0, 5.0)},
    }
    measured = {what: (most, round(value, 6)) for what, most, value, _ in bars(results)}
    assert measured == {
        "10 M, ingest to sequences": (90.0, 40.0),
        "10 M, memory of a stage": (3.0, 2.0),
        "100 M, memory of a stage": (6.0, 5.0),
        "100 M, time per event against 10 M": (1.2, 1.1),
        "a day on top of 10 M": (0.2, 0.15),
    }


def test_the_second_night_finds_the_first_and_a_day_more(tmp_path):
    write_shop(6_000, tmp_path)
    first, second = (
        duckdb.read_parquet(f"{tmp_path}/{night}/interactions.parquet")
        for night in ("first", "second")
    )
    days = "count(DISTINCT strftime(timestamp, '%Y-%m-%d'))"
    assert first.aggregate(f"count(*), {days}").fetchall() == [(6_000, DAYS)]
    assert second.aggregate(f"count(*), {days}").fetchall() == [(6_100, DAYS + 1)]
    assert not first.except_(second).fetchall()
