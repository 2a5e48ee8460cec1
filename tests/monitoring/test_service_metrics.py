"""What workers count adds up over processes, and stays right when one of them dies."""

import os
import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving import metrics

WORKER = """
import sys
from serving import metrics
metrics.GENERATION.set(int(sys.argv[1]))
metrics.IN_FLIGHT.set(2)
for _ in range(int(sys.argv[2])):
    metrics.observe_request("recommend", 200, 0.003)
print("ready", flush=True)
sys.stdin.read()
"""
SCRAPE = """
from sasrec.off_policy import policy
from serving import metrics
{}
print(metrics.exposition().decode())
"""


def start(environment, *arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, *map(str, arguments)],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def scrape(environment, before=""):
    """The samples that a process with this environment exposes, after a line of its own."""
    done = subprocess.run(
        [sys.executable, "-c", SCRAPE.format(before)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(done.stdout)
        for sample in family.samples
    }


@pytest.fixture
def environment(tmp_path):
    return os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}


def test_counts_survive_a_worker_and_its_gauges_do_not(environment):
    first, second = start(environment, 7, 3), start(environment, 8, 4)
    count = ("reco_requests_total", ("route", "recommend"), ("status", "200"))
    before = scrape(environment)
    assert before[count] == 7
    assert before[("reco_requests_in_flight",)] == 4
    generations = {k: v for k, v in before.items() if k[0] == "reco_champion_generation"}
    assert sorted(v for v in generations.values() if v) == [7, 8]

    first.kill()
    first.wait()
    third = start(environment, 8, 5)
    after = scrape(environment)
    assert after[count] == 12
    assert after[("reco_requests_in_flight",)] == 4
    generations = [v for k, v in after.items() if k[0] == "reco_champion_generation" and v]
    assert generations == [8, 8]
    for process in (second, third):
        process.stdin.close()
        process.wait()


def test_counts_that_may_stay_zero_are_there_from_the_start():
    alone = {k: v for k, v in os.environ.items() if k != "PROMETHEUS_MULTIPROC_DIR"}
    samples = scrape(alone, "metrics.configure_policies([policy.UNIFORM])")
    reasons = {dict(labels)["reason"] for name, *labels in samples if name == "reco_degraded_total"}
    assert reasons == set(metrics.DEGRADATIONS)
    uniform = ("policy", "uniform")
    assert samples[("reco_exploration_configured_ratio", uniform)] == 1
    assert ("reco_explored_impressions_total", uniform) in samples


@pytest.mark.parametrize(
    ("position", "bucket"), [(0, "1"), (2, "3"), (3, "4-10"), (9, "4-10"), (10, "11-100")]
)
def test_positions_fall_into_five_buckets(position, bucket):
    assert metrics.position_bucket(position) == bucket
