import numpy as np
import pytest

from sasrec.data.packed import PackedSequences
from sasrec.data.vocabulary import Vocabulary
from sasrec.errors import DataError
from serving.monitoring.drift import FILE, Distribution, TrainingSnapshot, measure
from tests.serving.sites import ITEM_IDS, save_model


def test_psi_of_known_shares():
    training = Distribution(edges=[0.5], shares=[0.5, 0.5])
    values = np.array([0] * 750 + [1] * 250)
    assert training.psi(values) == pytest.approx(0.25 * np.log(1.5) - 0.25 * np.log(0.5))


def test_psi_of_the_same_distribution_is_near_zero_and_of_another_is_not():
    rng = np.random.default_rng(0)
    training = Distribution.of(rng.normal(size=20_000))
    assert training.psi(rng.normal(size=2000)) < 0.02
    assert 0.1 < training.psi(rng.normal(0.4, size=2000)) < 0.25
    assert training.psi(rng.normal(1.0, size=2000)) > 0.25


def test_too_few_observations_say_nothing():
    assert Distribution(edges=[0.5], shares=[0.5, 0.5]).psi(np.zeros(199)) is None


def test_an_empty_bin_is_large_and_finite():
    assert 1 < Distribution(edges=[0.5], shares=[0.5, 0.5]).psi(np.zeros(500)) < 10


@pytest.fixture
def model(tmp_path):
    return save_model(tmp_path / "model", seed=1)


def histories(rng, users=400):
    """Item number n is chosen with weight 1 / n; 1 to 15 events each."""
    lengths = rng.integers(1, 16, users)
    weight = 1 / np.arange(1, 61)
    items = rng.choice(np.arange(1, 61), lengths.sum(), p=weight / weight.sum())
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return PackedSequences(items, cu_seqlens, np.arange(lengths.sum()))


def test_the_snapshot_survives_a_file_and_sees_what_changed(model):
    rng = np.random.default_rng(1)
    TrainingSnapshot.take(model, histories(rng)).save(model)
    snapshot = TrainingSnapshot.load(model)
    later = histories(rng)
    usual = [ITEM_IDS[i - 1] for i in later.items]
    lengths = np.concatenate([np.arange(n) for n in later.lengths])
    same = measure(
        snapshot, Vocabulary(ITEM_IDS), item_ids=usual, history_lengths=lengths,
        top_scores=np.empty(0),
    )  # fmt: skip
    assert same.psi.keys() == {"item_popularity", "sequence_length"}
    assert max(same.psi.values()) < 0.1
    assert same.unknown_items == 0
    moved = measure(
        snapshot, Vocabulary(ITEM_IDS), item_ids=[*ITEM_IDS[-20:] * 15, *["new"] * 100],
        history_lengths=lengths + 10, top_scores=np.empty(0),
    )  # fmt: skip
    assert min(moved.psi.values()) > 0.25
    assert moved.unknown_items == 0.25


def test_a_version_without_a_snapshot_has_none_and_a_broken_one_is_named(model):
    assert TrainingSnapshot.load(model) is None
    (model / FILE).write_text("{}")
    with pytest.raises(DataError, match=f"{FILE}.*register the model again"):
        TrainingSnapshot.load(model)
