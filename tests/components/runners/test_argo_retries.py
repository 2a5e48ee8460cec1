"""What Argo makes of the retries that the platform settings compile to."""

from datetime import UTC, datetime, timedelta

import pytest

from components.runners.platform import Resources, retrying_seconds
from tests.components.kfp.argo import Clock, Defaults, Phase, Retries, retry

STARTED = datetime(2026, 1, 3, 3, 30, tzinfo=UTC)
RESOURCES = Resources(retries=2, backoff_seconds=30, timeout_seconds=6 * 3600)


def tried(phases, seconds, window, policy="OnFailure"):
    clock = Clock(STARTED)

    def attempt(number):
        clock.wait(seconds)
        return phases[number]

    retries = Retries(limit=2, backoff_seconds=30, factor=2, max_seconds=window)
    return retry(attempt, retries, Defaults(policy), clock, STARTED + timedelta(days=3))


def test_a_stage_that_fails_after_hours_is_tried_again_until_it_succeeds():
    phases = [Phase.FAILED, Phase.FAILED, Phase.SUCCEEDED]
    node = tried(phases, RESOURCES.timeout_seconds, retrying_seconds(RESOURCES))
    assert node.attempts == phases


def test_a_window_of_ten_minutes_would_end_it_after_the_first():
    node = tried([Phase.FAILED, Phase.SUCCEEDED], RESOURCES.timeout_seconds, 600)
    assert node.attempts == [Phase.FAILED]
    assert node.message == "Max duration limit exceeded"


def test_the_limit_holds():
    node = tried([Phase.FAILED] * 5, 60, retrying_seconds(RESOURCES))
    assert (len(node.attempts), node.message) == (3, "No more retries left")


@pytest.mark.parametrize(
    ("policy", "phase", "attempts"),
    [
        ("OnFailure", Phase.FAILED, 2),
        ("OnFailure", Phase.ERROR, 1),
        ("OnError", Phase.FAILED, 1),
        ("OnError", Phase.ERROR, 2),
        ("Always", Phase.FAILED, 2),
        ("Always", Phase.ERROR, 2),
    ],
)
def test_the_policy_of_the_install_says_which_ends_are_tried_again(policy, phase, attempts):
    node = tried([phase, Phase.SUCCEEDED], 60, retrying_seconds(RESOURCES), policy)
    assert len(node.attempts) == attempts
