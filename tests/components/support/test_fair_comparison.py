"""Champion against candidate: who saw what, and that having seen the test window gains nothing."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch

from components.support.champion import Champion
from components.support.fair_comparison import fair_comparison
from components.support.recipe import Recipe
from sasrec.data.dataset import SequenceDataset
from sasrec.data.vocabulary import Vocabulary
from sasrec.errors import DataError
from sasrec.evaluation.evaluate import evaluate
from sasrec.evaluation.result import CHAMPION, MODEL
from sasrec.gates import GateConfig, decide
from sasrec.presets import preset
from sasrec.scoring.ranking import history_keys
from tests.sasrec.markov_world import World

DEFAULT, LARGE = (Recipe(p.model, p.train) for p in (preset("default"), preset("large")))
T1 = datetime(2026, 1, 1, tzinfo=UTC)
GATES = GateConfig.model_validate(
    {
        "gates": [
            {
                "name": "champion",
                "check": "non_inferior",
                "metric": "ndcg@10",
                "margin": 0.05,
                "when_missing": "ignore",
            }
        ]
    }
)


class Memory:
    """A model that has learned every test user's next event by heart."""

    name = "memory"

    def __init__(self, world):
        first = world.test.targets.items[world.test.targets.cu_seqlens[:-1]]
        keys = history_keys(world.test.histories).tolist()
        self.vocabulary = world.vocabulary
        self._next = dict(zip(keys, first.tolist(), strict=True))

    def logits(self, histories):
        scores = torch.zeros(len(histories), len(self.vocabulary) + 1)
        for row, key in enumerate(history_keys(histories).tolist()):
            scores[row, self._next[key]] = 1
        scores[:, 0] = -torch.inf
        return scores


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def dataset(world):
    return SequenceDataset(
        description={"kind": "global-time", "sha256": "0", "t1": T1.isoformat(), "t2": None},
        vocabulary=world.vocabulary,
        train_users=[f"u{row}" for row in range(len(world.train))],
        train=world.train,
        validation=world.test,
        test=world.test,
    )


@pytest.fixture(scope="module")
def saw_everything(world):
    return Champion("v1", Memory(world), DEFAULT, T1 + timedelta(days=30))


def compare(world, dataset, champion, *, recipe=DEFAULT, minimum_users=10, trained=None):
    """The evaluation of a good candidate, with a champion as the comparison has it."""
    candidate = world.model(0.1)

    def train_recipe(asked):
        if trained is None:
            raise DataError("a column that its features name is gone")
        assert asked == champion.recipe
        return trained

    comparison = fair_comparison(
        champion, candidate, recipe, dataset, train_recipe, minimum_users=minimum_users
    )
    measured = evaluate(
        candidate,
        world.test,
        world.catalogue,
        split=dataset.description,
        champion=comparison.scorer,
        champion_users=comparison.users,
        resamples=200,
    )
    return replace(measured, findings={CHAMPION: comparison.finding})


def reason(measured):
    [result] = decide(measured, GATES).results
    return result.reason


def test_a_champion_that_saw_the_test_window_gains_nothing_by_it(world, dataset, saw_everything):
    unfair = evaluate(
        world.model(0.1),
        world.test,
        world.catalogue,
        split=dataset.description,
        champion=saw_everything.recommender,
        resamples=200,
    )
    assert unfair.metrics[CHAMPION]["hr@10"] > 0.9  # what it knows by heart and has not yet met
    assert decide(unfair, GATES).decision == "hold"

    same = compare(world, dataset, saw_everything)
    assert same.metrics[CHAMPION] == pytest.approx(same.metrics[MODEL], nan_ok=True)
    assert decide(same, GATES).decision == "promote"
    assert "its recipe is the candidate's" in reason(same)

    other = compare(world, dataset, saw_everything, recipe=LARGE, trained=world.model(100))
    assert other.metrics[CHAMPION]["ndcg@10"] < other.metrics[MODEL]["ndcg@10"]
    assert decide(other, GATES).decision == "promote"
    assert "its recipe trained at today's cut" in reason(other)


def test_a_better_recipe_of_the_champion_is_still_not_replaced(world, dataset, saw_everything):
    better = compare(world, dataset, saw_everything, recipe=LARGE, trained=Memory(world))
    assert decide(better, GATES).decision == "hold"


def test_a_champion_that_is_no_fresher_is_compared_as_it_serves(world, dataset, saw_everything):
    earlier = replace(saw_everything, seen_until=T1 - timedelta(microseconds=1))
    measured = compare(world, dataset, earlier)
    assert measured.metrics[CHAMPION]["hr@10"] > 0.9
    assert "as it serves, on events neither has seen" in reason(measured)


def test_a_recipe_that_cannot_be_trained_leaves_the_events_that_the_champion_has_not_seen(
    world, dataset, saw_everything
):
    first = world.test.targets.timestamps[world.test.targets.cu_seqlens[:-1]]
    moment = int(np.median(first))
    later = T1 + timedelta(days=1)  # the world's clock counts from 1970: move it past the cut
    shift = int(later.timestamp() * 1_000_000) - moment
    targets = replace(world.test.targets, timestamps=world.test.targets.timestamps + shift)
    moved = replace(dataset, test=replace(world.test, targets=targets))
    champion = replace(saw_everything, seen_until=later)
    world_now = World()
    world_now.test = moved.test

    measured = compare(world_now, moved, champion, recipe=LARGE)
    compared = ~np.isnan(measured.per_user[CHAMPION]["ndcg@10"].to_numpy())
    assert compared.tolist() == (first > moment).tolist()
    assert measured.intervals[CHAMPION]["ndcg@10"].users == compared.sum()
    assert f"on the {compared.sum()} users whose next event is after" in reason(measured)
    assert "a column that its features name is gone" in reason(measured)

    too_few = compare(world_now, moved, champion, recipe=LARGE, minimum_users=1000)
    assert CHAMPION not in too_few.metrics
    assert "1,000 are needed" in reason(too_few)


def test_a_champion_that_knows_no_item_of_today_is_not_evaluated(world, dataset, saw_everything):
    stranger = Memory(world)
    stranger.vocabulary = Vocabulary([f"renamed-{n}" for n in range(len(world.vocabulary))])
    measured = compare(world, dataset, replace(saw_everything, recommender=stranger))
    assert CHAMPION not in measured.metrics
    assert reason(measured) == "not evaluated: the champion shares no items"


def test_without_a_champion_there_is_nothing_to_compare(world, dataset):
    assert reason(compare(world, dataset, None)) == "not evaluated: there is no champion"


def test_under_leave_one_out_only_a_model_that_was_never_refit_is_no_fresher(saw_everything):
    split = {"kind": "leave-one-out", "t1": None}
    assert not saw_everything.is_no_fresher(split)
    assert replace(saw_everything, seen_until=None).is_no_fresher(split)
    assert not replace(saw_everything, seen_until=None).is_no_fresher(
        {"kind": "global-time", "t1": T1.isoformat()}
    )
