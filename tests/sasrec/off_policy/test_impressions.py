"""From a simulated log to a calibration, policy values, and the reasons where there are none."""

from datetime import datetime

import numpy as np
import pyarrow.compute as pc
import pytest

from sasrec.data.cleaning import clean
from sasrec.data.simulated import Storefront
from sasrec.data.splits import global_time
from sasrec.data.vocabulary import Vocabulary
from sasrec.off_policy.calibration import reliability
from sasrec.off_policy.impressions import SOFTENED, learn_from_impressions
from sasrec.off_policy.policy import GREEDY, UNIFORM
from sasrec.off_policy.replay import Requests, histories_before, served_scores
from sasrec.scoring.baselines import BigramMarkov


@pytest.fixture(scope="module")
def shop():
    """A storefront whose truth is known, and a model that learnt from its first weeks."""
    storefront = Storefront(seed=0, users=1500, days=40)
    source, _ = clean(storefront.source())
    split = global_time(source.interactions, validation_fraction=0.2, test_fraction=0.2)
    vocabulary = Vocabulary(split.known_items)
    users = pc.unique(source.interactions["user_id"]).to_numpy(zero_copy_only=False)
    cut = np.full(len(users), int(split.t1.timestamp() * 1e6))
    train = histories_before(source.interactions, users, cut, vocabulary)
    model = BigramMarkov(train, len(vocabulary))
    return storefront.impressions(), source.interactions, split.describe(), vocabulary, model


@pytest.fixture(scope="module")
def feedback(shop):
    impressions, interactions, split, vocabulary, model = shop
    return learn_from_impressions(
        model, vocabulary, impressions, interactions,
        split=split, policies=[GREEDY, UNIFORM], candidates=200,
    )  # fmt: skip


def test_calibration_is_within_two_percent_of_the_truth_on_the_uniform_bucket(shop, feedback):
    """The simulator knows P(interacted | served); the calibration has seen only clicks."""
    impressions, interactions, split, vocabulary, model = shop
    after = impressions.filter(
        pc.greater_equal(impressions["timestamp"], datetime.fromisoformat(split["t2"]))
    )
    uniform = after.filter(pc.equal(after["policy"], "uniform"))
    requests = Requests.build(uniform, interactions, vocabulary)
    with_truth = uniform.set_column(
        uniform.column_names.index("reward"), "reward", uniform["true_probability"]
    )
    truth = Requests.build(with_truth, interactions, vocabulary).reward
    score = served_scores(model, requests)
    known = requests.filled & np.isfinite(score)
    assert known.sum() > 500
    predicted = feedback.calibration.p_interact(score[known], np.nonzero(known)[1])
    assert reliability(predicted, truth[known]).ece < 0.02


def test_calibration_is_judged_on_later_impressions(feedback):
    found = feedback.findings["calibration"]
    assert found["ece"] < 0.02
    assert found["fitted_on"] > 5000
    assert found["impressions"] > 5000
    assert len(found["reliability"]["predicted"]) == 10


def test_policies_are_valued_or_refused(feedback):
    values = feedback.findings["off_policy"]
    assert set(values) == {"greedy", "uniform", SOFTENED.name}
    assert values["greedy"]["refusals"][0].startswith("effective sample size")
    assert values["uniform"]["refusals"] == []
    assert values[SOFTENED.name]["refusals"] == []
    # Following the model pays more than what was logged, which pays more than chance.
    assert values[SOFTENED.name]["low"] > values["uniform"]["logged_value"]
    assert values["uniform"]["high"] < values["uniform"]["logged_value"]


def test_the_uniform_value_is_what_the_uniform_bucket_earned(shop, feedback):
    impressions = shop[0]
    bucket = impressions.filter(pc.equal(impressions["policy"], "uniform"))
    earned = pc.mean(bucket["reward"]).as_py()
    value = feedback.findings["off_policy"]["uniform"]
    error = np.sqrt(earned * (1 - earned) / len(bucket))
    assert value["low"] - 2 * error < earned < value["high"] + 2 * error


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"t1": None}, "the split has no cut in time"),
        ({"t1": "2030-01-01T00:00:00+00:00", "t2": "2030-01-02T00:00:00+00:00"}, "needs 30"),
        ({"t2": "2030-01-02T00:00:00+00:00"}, "no impression was logged after t2"),
    ],
)
def test_what_cannot_be_measured_says_why(shop, change, reason):
    impressions, interactions, split, vocabulary, model = shop
    got = learn_from_impressions(
        model, vocabulary, impressions, interactions,
        split=split | change, policies=[GREEDY], candidates=200,
    )  # fmt: skip
    assert reason in got.findings["calibration"]["missing"]
    assert reason in got.findings["off_policy"]["missing"]
