"""The table that the benchmark prints."""

from benchmarks.features.table import table


def test_a_target_is_met_or_missed_or_not_measured():
    lines = table({"disk": {"result": {"p99": 1.5}}}).splitlines()
    assert "| the disk alone: 4 KiB and fdatasync, p99 |  | 1.5 ms |  |" in lines
    assert "| peak memory, 100 M | 12 GiB | not measured | |" in lines
    built = {"events": 10**6, "build_and_extract_s": 5.5, "peak_memory_gib": 1.0}
    lines = table({"build 1e+06": {"result": built}}).splitlines()
    assert "| build + extraction, 1 M interactions | 5 s | 5.5 s | missed |" in lines
    assert "| peak memory, 1 M | 12 GiB | 1 GiB | met |" in lines
