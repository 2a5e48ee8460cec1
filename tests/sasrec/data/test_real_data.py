"""The public data sets as their users have them: counts as published, a million rows in seconds."""

import time

import pytest

from sasrec.data.cleaning import clean
from sasrec.data.sources import load
from sasrec.data.splits import global_time, leave_one_out


@pytest.mark.parametrize(
    ("name", "events", "users", "items"),
    [
        ("ml-100k", 100_000, 943, 1_682),
        ("ml-1m", 999_611, 6_040, 3_416),
        ("amazon-beauty-5core", 198_502, 22_363, 12_101),
    ],
)
def test_published_counts_within_seconds(real_data, name, events, users, items):
    if not (real_data / name).is_dir():
        pytest.skip(f"needs real data: SASREC_DATA_DIR holds no {name}")
    began = time.perf_counter()
    source, report = clean(load(name, data_dir=real_data))
    split = leave_one_out(source.interactions)
    assert time.perf_counter() - began < 20
    assert (report.events, report.users, report.items) == (events, users, items)
    assert split.counts["test_users"] == users
    if source.clock == "real":
        assert global_time(source.interactions).counts["test_users"] > 0
