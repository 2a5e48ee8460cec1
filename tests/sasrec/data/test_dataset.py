"""Sequences in files are those in memory, and files that are not whole are refused."""

from dataclasses import fields

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sasrec.data.arrays import ArrayWriter, map_array
from sasrec.data.cleaning import clean
from sasrec.data.dataset import SequenceDataset
from sasrec.data.event_weights import read_event_weights
from sasrec.data.frame_histories import histories_before
from sasrec.data.mapped import map_packed, save_packed
from sasrec.data.packed import PackedSequences
from sasrec.data.simulated import Storefront
from sasrec.data.splits import global_time
from sasrec.errors import DataError
from sasrec.model.config import ModelConfig
from sasrec.training.batches import Batches
from sasrec.training.config import TrainConfig
from sasrec.training.loop import train

WEIGHTS = {"purchase": 3.0, "click": 0.5}


@pytest.fixture(scope="module")
def shop():
    """Interactions, their split and the histories, as the feature store would answer."""
    source, _ = clean(Storefront(seed=2, users=80, days=20).source())
    events = source.interactions
    cut = global_time(events)
    histories = histories_before(events, cut.cutoffs)
    # A type for each event that weights can be told apart by.
    kinds = pa.array(["purchase", "click", "view"])
    items = histories["item_ids"].combine_chunks()
    drawn = kinds.take(pa.array(np.arange(len(items.flatten())) % 3))
    types = pa.ListArray.from_arrays(items.offsets, drawn)
    return cut, histories.append_column("event_types", types)


@pytest.fixture(scope="module")
def folder(shop, tmp_path_factory):
    """Written in pieces of seven users."""
    cut, histories = shop

    def ask(entities):
        start = cut.cutoffs["fold"].to_pylist().index(entities["fold"][0].as_py())
        answered = histories.slice(start, len(entities))
        for first in range(0, len(answered), 7):
            yield answered.slice(first, 7)

    folder = tmp_path_factory.mktemp("sequences")
    SequenceDataset.write(folder, cut, ask, WEIGHTS)
    return folder


def assert_equal(found: PackedSequences, expected: PackedSequences) -> None:
    for field in fields(PackedSequences):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        assert (one is None) == (other is None), field.name
        assert one is None or np.array_equal(one, other), field.name


def assert_same(found: SequenceDataset, expected: SequenceDataset) -> None:
    assert found.description == expected.description
    assert found.vocabulary.item_ids == expected.vocabulary.item_ids
    assert list(found.train_users) == list(expected.train_users)
    assert_equal(found.train, expected.train)
    for one, other in ((found.validation, expected.validation), (found.test, expected.test)):
        assert list(one.user_ids) == list(other.user_ids)
        assert len(one.user_ids) == len(one) > 0
        assert_equal(one.histories, other.histories)
        assert_equal(one.targets, other.targets)


def test_a_stream_of_pieces_gives_what_all_in_memory_gives(shop, folder):
    expected = SequenceDataset.from_histories(*shop, WEIGHTS)
    assert_same(SequenceDataset.load(folder), expected)
    assert set(expected.train.weights.tolist()) == {3.0, 0.5, 1.0}
    assert expected.test.histories.weights is None


def test_saving_and_loading_changes_nothing(shop, folder, tmp_path):
    mapped = SequenceDataset.load(folder)
    mapped.save(tmp_path)
    assert_same(SequenceDataset.load(tmp_path), mapped)


def test_loading_maps_files_and_a_batch_is_all_that_is_copied(folder):
    train = SequenceDataset.load(folder).train
    arrays = train.items, train.cu_seqlens, train.timestamps, train.weights
    assert all(isinstance(array, np.memmap) and not array.flags.writeable for array in arrays)
    batches = Batches(train, max_length=10, batch_tokens=64, seed=0, weights=train.weights)
    # Beside the files there are numbers of windows, and nothing that counts events.
    held = [value for value in vars(batches).values() if isinstance(value, np.ndarray)]
    own = [array for array in held if not isinstance(array, np.memmap)]
    assert {len(array) for array in own} == {len(batches.lengths)}
    batch = batches.load(batches.epoch(0)[0])
    assert batch.tokens == len(batch.items) <= batches.budget
    chosen = train.select(np.arange(3))
    assert not any(isinstance(array, np.memmap) for array in vars(chosen).values())
    assert (chosen.items.dtype, chosen.cu_seqlens.dtype) == (np.int64, np.int32)


def test_a_batch_of_mapped_sequences_is_one_of_those_in_memory(shop, folder):
    mapped, memory = SequenceDataset.load(folder), SequenceDataset.from_histories(*shop, WEIGHTS)
    options = {"max_length": 10, "batch_tokens": 64, "seed": 0, "whole_histories": True}
    one, other = (
        Batches(data.train, **options, weights=data.train.weights) for data in (mapped, memory)
    )
    for rows in one.epoch(1)[:5]:
        found, expected = vars(one.load(rows)), vars(other.load(rows))
        assert found["items"].dtype == expected["items"].dtype
        assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_training_on_files_goes_on_where_training_in_memory_stopped(shop, folder, tmp_path):
    mapped, memory = SequenceDataset.load(folder), SequenceDataset.from_histories(*shop, WEIGHTS)
    model = ModelConfig(dim=8, blocks=1, heads=1, max_length=10)

    def run(data, epochs, run_dir):
        settings = TrainConfig(epochs=epochs, batch_tokens=256, patience=10)
        return train(data.train, data.validation, data.vocabulary, model, settings, run_dir)

    run(memory, 1, tmp_path / "both")
    both = run(mapped, 2, tmp_path / "both").history
    alone = run(memory, 2, tmp_path / "alone").history
    assert [line["loss"] for line in both] == [line["loss"] for line in alone]
    assert [line["ndcg@10"] for line in both] == [line["ndcg@10"] for line in alone]


@pytest.fixture
def copy(folder, tmp_path):
    SequenceDataset.load(folder).save(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        "train/items.npy",
        "train/weights.npy",
        "test/users.arrow",
        "validation/targets/cu_seqlens.npy",
    ],
)
def test_a_file_that_is_cut_short_is_refused_by_name(copy, name):
    content = (copy / name).read_bytes()
    for left in (0, 40, len(content) - 5):
        (copy / name).write_bytes(content[:left])
        with pytest.raises(DataError, match=f"{name}: .*; extract the sequences again"):
            SequenceDataset.load(copy)


@pytest.mark.parametrize(
    "name", ["train/timestamps.npy", "validation/users.arrow", "split.json", "test/items.npy"]
)
def test_a_missing_file_is_refused_by_name(copy, name):
    (copy / name).unlink()
    with pytest.raises(DataError, match=f"{name}: this file is missing"):
        SequenceDataset.load(copy)


def test_files_that_do_not_belong_together_are_refused(copy):
    events = map_array(copy / "train/items.npy")
    with ArrayWriter(copy / "train/timestamps.npy", np.int64) as writer:
        writer.append(np.arange(len(events) - 1))
    with pytest.raises(DataError, match=r"train/timestamps.npy: holds .* events, but"):
        SequenceDataset.load(copy)
    save_packed(copy / "train", map_packed(copy / "test"))
    with pytest.raises(DataError, match=r"train/users.arrow: holds .* users"):
        SequenceDataset.load(copy)


def test_an_array_that_was_never_closed_is_refused(tmp_path):
    writer = ArrayWriter(tmp_path / "items.npy", np.int32)
    writer.append(np.arange(5))
    writer._file.flush()
    with pytest.raises(DataError, match=r"items.npy: holds .* bytes, but says \(0,\)"):
        map_array(tmp_path / "items.npy")


def test_an_answer_of_another_length_is_refused(shop, tmp_path):
    cut, histories = shop
    with pytest.raises(DataError, match="histories asked, 3 answered"):
        SequenceDataset.write(tmp_path, cut, lambda entities: iter([histories.slice(0, 3)]))
    with pytest.raises(DataError, match=r"split.json: this file is missing"):
        SequenceDataset.load(tmp_path)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [([3, 1, 3], {"buy": 3.0, "view": 1.0}), ([1, 1, 1], None), (None, None)],
)
def test_weights_of_types_are_read_from_the_interactions(tmp_path, weights, expected):
    columns = {"event_type": ["buy", "view", "buy"]}
    if weights:
        columns["weight"] = pa.array(weights, pa.float32())
    pq.write_table(pa.table(columns), tmp_path / "interactions")
    assert read_event_weights(tmp_path / "interactions") == expected


@pytest.mark.parametrize(
    ("weights", "problem"), [([3, 2], "an event type has one weight"), ([-1, -1], "positive")]
)
def test_weights_that_make_no_sense_are_refused(tmp_path, weights, problem):
    columns = {"event_type": ["buy", "buy"], "weight": pa.array(weights, pa.float32())}
    pq.write_table(pa.table(columns), tmp_path / "interactions")
    with pytest.raises(DataError, match=problem):
        read_event_weights(tmp_path / "interactions")


def test_users_ask_at_their_fold_s_cut(shop, tmp_path):
    cut, histories = shop
    SequenceDataset.from_histories(cut, histories).save(tmp_path)
    for data in (SequenceDataset.from_histories(cut, histories), SequenceDataset.load(tmp_path)):
        for fold, moment in ((data.validation, cut.t1), (data.test, cut.t2)):
            asked = set(fold.histories.select(np.arange(3)).moments.tolist())
            assert asked == {int(moment.timestamp()) * 1_000_000}
            assert fold.histories.timestamps.max() < min(asked) <= fold.targets.timestamps.min()
    with pytest.raises(ValueError, match="not known when"):
        _ = data.train.moments
