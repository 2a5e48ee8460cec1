"""Differences between roles, overall and by slice."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from sasrec.errors import DataError
from sasrec.evaluation import comparison
from sasrec.evaluation.result import CHAMPION, MODEL
from tests.sasrec.markov_world import World


@pytest.fixture(scope="module")
def evaluation():
    world = World()
    return world.evaluate(world.model(0.1), champion=world.model(0.5))


def ndcg(evaluation, role):
    return evaluation.per_user[role]["ndcg@10"].to_numpy()


def test_difference_and_ratio_are_of_the_means(evaluation):
    model, champion = ndcg(evaluation, MODEL), ndcg(evaluation, CHAMPION)
    difference = comparison.difference(evaluation, CHAMPION, "ndcg@10")
    ratio = comparison.ratio(evaluation, CHAMPION, "ndcg@10")
    assert difference.value == pytest.approx(model.mean() - champion.mean())
    assert ratio.value == pytest.approx(model.mean() / champion.mean())
    assert 0 < difference.low < difference.value < difference.high


def test_a_slice_difference_is_of_its_own_users(evaluation):
    slices = comparison.slice_differences(
        evaluation, CHAMPION, "ndcg@10", slicings=["category"], minimum_users=1
    )
    labels = np.array(evaluation.users["category"].to_pylist())
    gain = ndcg(evaluation, MODEL) - ndcg(evaluation, CHAMPION)
    assert [s.label for s in slices] == ["blue", "red", "unknown"]
    for one in slices:
        assert one.difference.value == pytest.approx(gain[labels == one.label].mean())
        assert one.difference.users == (labels == one.label).sum()


def test_an_allowance_is_relative_to_the_reference(evaluation):
    (without, *_), (allowed, *_) = (
        comparison.slice_differences(
            evaluation,
            CHAMPION,
            "ndcg@10",
            slicings=["category"],
            minimum_users=1,
            allowance=allowance,
        )
        for allowance in ({}, {"category": 0.1})
    )
    gap = allowed.difference.value - without.difference.value
    assert gap == pytest.approx(0.1 * without.reference)


def test_small_slices_are_left_out(evaluation):
    slices = comparison.slice_differences(
        evaluation, CHAMPION, "ndcg@10", slicings=["category"], minimum_users=len(evaluation.users)
    )
    assert slices == []


def test_slices_are_in_reading_order(evaluation):
    labels = [f"decile {1 + n % 10}" for n in range(len(evaluation.users))]
    users = evaluation.users.set_column(
        evaluation.users.column_names.index("item_popularity"), "item_popularity", pa.array(labels)
    )
    slices = comparison.slice_differences(
        dataclasses.replace(evaluation, users=users),
        CHAMPION,
        "ndcg@10",
        slicings=["item_popularity"],
        minimum_users=1,
    )
    assert [s.label for s in slices] == [f"decile {n}" for n in range(1, 11)]


def test_an_unknown_slicing_is_named(evaluation):
    with pytest.raises(DataError, match="'colour' is not a slicing; found"):
        comparison.slice_differences(
            evaluation, CHAMPION, "ndcg@10", slicings=["colour"], minimum_users=1
        )
