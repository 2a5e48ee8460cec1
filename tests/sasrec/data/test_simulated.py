"""The storefront is worth learning from, logs what it says, and knows the truth it claims."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sasrec.data.cleaning import clean
from sasrec.data.simulated import Storefront
from sasrec.data.simulated.logging_policy import PopularityPolicy, draw_slots
from sasrec.data.splits import leave_one_out
from sasrec.off_policy.policy import Policy, slot_propensities


@pytest.fixture(scope="module")
def storefront() -> Storefront:
    shop = Storefront(seed=3, users=600, days=40)
    shop.source()
    return shop


def test_a_seed_gives_the_same_tables():
    first, second = (Storefront(seed=1, users=60, days=8).source() for _ in range(2))
    assert first.interactions.equals(second.interactions)
    assert first.impressions.equals(second.impressions)
    assert not Storefront(seed=2, users=60, days=8).source().interactions.equals(first.interactions)


def test_tables_hold_to_the_contracts_and_the_calendar(storefront):
    source, report = clean(storefront.source(), now=datetime(2025, 7, 1, tzinfo=UTC))
    assert report.duplicates_dropped == report.ties_separated == 0
    launched = dict(
        zip(*(source.items[c].to_pylist() for c in ("item_id", "created_at")), strict=True)
    )
    for table in (source.interactions, source.impressions):
        rows = table.select(["item_id", "timestamp"]).to_pylist()
        assert all(launched[row["item_id"]] <= row["timestamp"] for row in rows)
    assert pc.count_distinct(source.items["title"]).as_py() == len(source.items)


def test_every_click_is_an_interaction(storefront):
    clicks = storefront.interactions().filter(pc.field("event_type") == "click")
    rewards = pc.sum(storefront.impressions()["reward"]).as_py()
    assert len(clicks) == rewards > 0


def test_popular_items_are_served_more_than_uniformly(storefront):
    served = storefront.impressions().to_pandas()
    popularity = storefront.interactions().to_pandas()["item_id"].value_counts()
    mean = served.assign(p=served["item_id"].map(popularity)).groupby("policy")["p"].mean()
    assert mean["popularity"] > 1.1 * mean["uniform"]


def test_true_probabilities_are_true(storefront):
    served = storefront.impressions().to_pandas()
    decile = served["true_probability"].rank(pct=True).mul(10).astype(int).clip(upper=9)
    by_decile = served.groupby(decile)[["reward", "true_probability"]].agg(["mean", "count"])
    expected = by_decile["true_probability"]["mean"]
    error = np.sqrt(expected * (1 - expected) / by_decile["reward"]["count"])
    assert (np.abs(by_decile["reward"]["mean"] - expected) < 4 * error).all()


def test_propensities_are_exact():
    rng = np.random.default_rng(0)
    n, scores = 40_000, np.array([2.0, 1.0, 0.0, -1.0])
    items, propensity = draw_slots(
        np.tile(scores, (n, 1)), np.ones((n, 4), bool), np.full(n, 0.2), 2, rng
    )
    first = 0.8 * np.exp(scores) / np.exp(scores).sum() + 0.2 / 4
    assert np.allclose(propensity[:, 0], first[items[:, 0]])
    assert np.allclose(np.bincount(items[:, 0]) / n, first, atol=0.01)
    after_best = items[:, 0] == 0
    rest = np.exp(scores[1:])
    second = np.concatenate([[0], 0.8 * rest / rest.sum() + 0.2 / 3])
    assert np.allclose(propensity[after_best, 1], second[items[after_best, 1]])
    counts = np.bincount(items[after_best, 1], minlength=4) / after_best.sum()
    assert np.allclose(counts, second, atol=0.015)


def test_propensities_are_those_of_the_serving_policy():
    rng = np.random.default_rng(1)
    scores, eligible = rng.normal(size=(50, 30)), rng.random((50, 30)) < 0.6
    items, propensity = draw_slots(scores, eligible, np.full(50, 0.3), 8, rng)
    policy = Policy("mixed", temperature=1.0, epsilon=0.3)
    for row in range(50):
        candidates = np.flatnonzero(eligible[row])
        expected = slot_propensities(
            items[row], candidates, scores[row, candidates], len(candidates), policy
        )
        assert np.allclose(propensity[row], expected)


def test_propensities_weigh_the_log_to_the_uniform_policy(storefront):
    """The mean weight of any other policy under the log is 1; that of a wrong propensity is not."""
    log = storefront.impressions().to_pandas().query("policy == 'popularity'")
    weight = 1 / log["candidates"] / log["propensity"]
    standard_error = weight.std() / np.sqrt(len(weight))
    assert abs(weight.mean() - 1) < 4 * standard_error < 0.1


def test_order_is_worth_more_than_the_last_event_and_that_more_than_popularity(storefront):
    """NDCG@10 of each user's last look-up: popularity < first-order counts < the oracle."""
    interactions = clean(storefront.source())[0].interactions
    split = leave_one_out(interactions)
    targets = split.targets.filter(pc.equal(split.targets["fold"], "test"))
    best = storefront.best_ndcg(targets)

    item_number = {item: n for n, item in enumerate(storefront.item_ids)}
    events = interactions.to_pandas()
    events["item"] = events["item_id"].map(item_number)
    events["follower"] = events.groupby("user_id")["item"].shift(-1)
    last = events.groupby("user_id").cumcount(ascending=False)
    train = events[last >= 2]
    popularity = np.bincount(train["item"], minlength=len(item_number)).astype(float)
    bigram = np.zeros((len(item_number), len(item_number)))
    np.add.at(bigram, (train["item"], train["follower"].astype(int)), 1)

    previous = events[last == 1].set_index("user_id")["item"]
    met = train.groupby("user_id")["item"].apply(np.array)
    reached = {"popularity": [], "bigram": []}
    for user, item_id in zip(
        *(targets[c].to_pylist() for c in ("user_id", "item_id")), strict=True
    ):
        scores = {"popularity": popularity, "bigram": bigram[previous[user]] + 1e-6 * popularity}
        for name, score in scores.items():
            score = score.copy()
            score[met[user]] = -1
            rank = 1 + (score > score[item_number[item_id]]).sum()
            reached[name].append(1 / np.log2(1 + rank) if rank <= 10 else 0.0)
    assert 1.3 * np.mean(reached["popularity"]) < np.mean(reached["bigram"]) < 0.7 * best


def test_without_look_ups_everything_met_was_served(storefront):
    shop = Storefront(seed=6, users=200, days=6, lookups=0.0)
    shop.source()
    events = shop.events()
    assert len(events.item) > 0
    assert np.isfinite(events.propensity).all()
    assert np.isnan(storefront.events().propensity).any()


def test_events_are_the_interactions_in_canonical_order(storefront):
    events = storefront.events()
    cleaned = clean(storefront.source())[0].interactions
    assert [storefront.user_ids[u] for u in events.user] == cleaned["user_id"].to_pylist()
    assert [storefront.item_ids[i] for i in events.item] == cleaned["item_id"].to_pylist()
    assert events.time.tolist() == cleaned["timestamp"].cast(pa.int64()).to_pylist()


def test_as_an_environment_it_answers_any_policy(storefront):
    """A policy that knows the truth earns more clicks than the logging policy."""
    shop = Storefront(seed=5, users=400, days=10)
    popularity = PopularityPolicy(shop.crowd, np.random.default_rng(0))
    for _ in range(3):
        popularity.learn(shop.run_day(popularity))
    before = len(shop.impressions())

    def best(users, eligible):
        lists = popularity(users, eligible)
        truth = np.where(eligible, shop.crowd.click_probability(users), -1.0)
        items = np.argsort(-truth, axis=1)[:, : lists.items.shape[1]]
        return type(lists)(items, np.ones(items.shape), lists.score, np.full(len(users), "best"))

    met = shop.run_day(best)
    log = shop.impressions().to_pandas()
    assert len(log) > before
    assert log.groupby("policy")["reward"].mean()["best"] > 2 * log["reward"].mean()
    assert set(met) <= set(range(len(shop.catalogue)))
    assert isinstance(shop.interactions(), pa.Table)
