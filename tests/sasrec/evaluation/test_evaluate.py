"""One evaluation: the figures, their protocol, and what survives the disk."""

from dataclasses import replace

import numpy as np
import pytest

from sasrec.data.packed import EvaluationSet
from sasrec.errors import DataError
from sasrec.evaluation.result import (
    CHAMPION,
    METRICS,
    MODEL,
    ORDER_SHUFFLED,
    USER_METRICS,
    WITHOUT_TREND,
    Evaluation,
)
from tests.sasrec.markov_world import ITEMS, World
from tests.sasrec.small_sequences import Lookup, evaluation_set, packed


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def evaluation(world):
    return world.evaluate(world.model(0.1), baselines=world.baselines(), champion=world.model(0.5))


def test_roles_are_scored_on_the_same_users(evaluation, world):
    assert list(evaluation.metrics) == [
        MODEL, CHAMPION, "popularity", "recent popularity", "bigram Markov", ORDER_SHUFFLED
    ]  # fmt: skip
    assert all(len(table) == len(world.test) for table in evaluation.per_user.values())
    assert evaluation.users["user_id"].to_pylist() == world.test.user_ids


def test_every_metric_can_be_named_in_a_gate(evaluation):
    assert evaluation.metrics[MODEL].keys() == METRICS
    assert set(evaluation.per_user[MODEL].column_names) == USER_METRICS


def test_the_better_model_scores_better(evaluation):
    ndcg = {role: figures["ndcg@10"] for role, figures in evaluation.metrics.items()}
    assert ndcg[MODEL] > ndcg[CHAMPION] > ndcg["popularity"]


def test_a_model_that_uses_the_order_loses_without_it(evaluation):
    ndcg = {role: figures["ndcg@10"] for role, figures in evaluation.metrics.items()}
    assert ndcg[ORDER_SHUFFLED] < 0.8 * ndcg[MODEL]
    assert evaluation.baselines == ["popularity", "recent popularity", "bigram Markov"]


def test_the_model_without_its_trend_is_scored_beside_it_and_nothing_to_beat(world):
    better, alone = world.model(0.1), world.model(0.5)
    found = world.evaluate(better, baselines=world.baselines(), without_trend=alone)
    assert found.metrics[WITHOUT_TREND]["ndcg@10"] < found.metrics[MODEL]["ndcg@10"]
    assert WITHOUT_TREND not in found.baselines


def test_headline_is_the_first_target_and_window_is_all_of_them(world):
    knows_the_first = np.zeros((ITEMS + 1, ITEMS + 1))
    first = world.test.targets.items[0::2][0]
    knows_the_first[:, first] = 1
    one_user = EvaluationSet(
        "test",
        world.test.user_ids[:1],
        world.test.histories.select(np.array([0])),
        world.test.targets.select(np.array([0])),
    )
    small = World()
    small.test = one_user
    figures = small.evaluate(Lookup(knows_the_first)).metrics[MODEL]
    assert figures["hr@5"] == 1
    assert figures["mrr@5"] == 1
    assert figures["window_recall@5"] >= 0.5


def test_figures_are_means_of_the_table_inside_their_intervals(evaluation):
    for role, table in evaluation.per_user.items():
        for name in table.column_names:
            interval = evaluation.intervals[role][name]
            assert evaluation.metrics[role][name] == pytest.approx(
                np.nanmean(table[name].to_numpy())
            )
            assert interval.low - 1e-9 <= interval.value <= interval.high + 1e-9


def test_protocol_says_what_the_figures_mean(evaluation):
    text = str(evaluation.protocol)
    for part in (
        "made up split 0123456789ab",
        "test fold",
        "400 users",
        "full catalogue of 40 items",
        "seen items kept",
        "1,000 user-level resamples, seed 0",
    ):
        assert part in text


def test_examples_are_titles(evaluation):
    for example in evaluation.examples:
        assert example.came_next[0].startswith("Title <")
        assert len(example.recommended) == 10
        assert example.rank is not None


def test_what_is_saved_is_what_is_loaded(evaluation, tmp_path):
    evaluation.save(tmp_path)
    loaded = Evaluation.load(tmp_path)
    assert loaded.protocol == evaluation.protocol
    assert loaded.metrics == evaluation.metrics
    assert loaded.intervals == evaluation.intervals
    assert loaded.examples == evaluation.examples
    assert loaded.exposure == evaluation.exposure
    assert loaded.users.equals(evaluation.users)
    for role, table in evaluation.per_user.items():
        assert loaded.per_user[role].equals(table)


def test_a_history_that_reaches_into_the_future_is_refused(world):
    leaking = World()
    leaking.test = EvaluationSet(
        "test", world.test.user_ids, world.test.histories, packed([[1, 2]] * len(world.test))
    )
    with pytest.raises(DataError, match="history of user 'u0' holds an event at or after"):
        leaking.evaluate(leaking.model(0))


def test_nan_scores_are_refused(world):
    with pytest.raises(DataError, match="scorer 'lookup': score is NaN"):
        world.evaluate(Lookup(np.full((ITEMS + 1, ITEMS + 1), np.nan)))


def test_a_split_decides_whether_a_repeat_can_be_a_hit(world):
    again = np.eye(ITEMS + 1)  # the newest item once more
    small = World()
    newest = small.test.histories.cu_seqlens[1:] - 1
    small.test = evaluation_set(
        list(small.test.histories), [[item] for item in small.test.histories.items[newest]]
    )
    assert small.evaluate(Lookup(again)).metrics[MODEL]["hr@10"] == 0
    small.test = replace(small.test, repeats=True)
    judged = small.evaluate(Lookup(again))
    assert judged.metrics[MODEL]["hr@10"] == 1
    assert "seen items kept" in str(judged.protocol)
