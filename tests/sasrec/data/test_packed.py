import numpy as np
import pyarrow as pa
import pytest

from sasrec.data.packed import pack
from sasrec.data.vocabulary import PADDING, Vocabulary
from sasrec.errors import DataError

HISTORIES = [["a", "b", "c"], [], ["c", "unknown", "a"], ["unknown"]]
TIMES = [[1, 2, 3], [], [4, 5, 6], [7]]


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary(["a", "b", "c"])


def test_unknown_items_leave_histories(vocabulary):
    packed = pack(HISTORIES, TIMES, vocabulary)
    assert packed.items.tolist() == [1, 2, 3, 3, 1]
    assert packed.timestamps.tolist() == [1, 2, 3, 4, 6]
    assert packed.cu_seqlens.tolist() == [0, 3, 3, 5, 5]
    assert packed.cu_seqlens.dtype == np.int32
    assert packed.items.dtype == np.int64


def test_unknown_items_stay_in_targets_as_padding(vocabulary):
    packed = pack(HISTORIES, TIMES, vocabulary, keep_unknown=True)
    assert packed.items.tolist() == [1, 2, 3, 3, PADDING, 1, PADDING]
    assert packed.lengths.tolist() == [3, 0, 3, 1]


def test_arrow_columns_pack_like_python_lists(vocabulary):
    ids = pa.chunked_array([pa.array(HISTORIES[:2], pa.list_(pa.string())), HISTORIES[2:]])
    times = pa.chunked_array([pa.array(TIMES, pa.list_(pa.timestamp("us", tz="UTC")))])
    from_arrow = pack(ids, times, vocabulary)
    from_python = pack(HISTORIES, TIMES, vocabulary)
    for field in ("items", "timestamps", "cu_seqlens"):
        assert np.array_equal(getattr(from_arrow, field), getattr(from_python, field))


def test_a_null_history_is_an_empty_one(vocabulary):
    ids = pa.chunked_array([pa.array([None, ["b"]], pa.list_(pa.string()))])
    times = pa.chunked_array([pa.array([None, [9]], pa.list_(pa.int64()))])
    assert pack(ids, times, vocabulary).lengths.tolist() == [0, 1]


def test_times_must_match_items(vocabulary):
    with pytest.raises(ValueError, match="differ in length"):
        pack([["a", "b"], ["c"]], [[1], [2, 3]], vocabulary)


def test_select_keeps_the_newest_events_in_the_order_asked(vocabulary):
    packed = pack(HISTORIES, TIMES, vocabulary).select(np.array([2, 1, 0]), max_length=2)
    assert [history.tolist() for history in packed] == [[3, 1], [], [2, 3]]
    assert packed.timestamps.tolist() == [4, 6, 2, 3]


def test_vocabulary_survives_saving_and_keeps_indices_when_extended(vocabulary, tmp_path):
    extended = vocabulary.extended(["b", "é", "é"])
    extended.save(tmp_path / "vocabulary.json")
    loaded = Vocabulary.load(tmp_path / "vocabulary.json")
    assert loaded.item_ids == ["a", "b", "c", "é"]
    assert loaded.encode(["é", "a", "nobody"]).tolist() == [4, 1, PADDING]
    assert loaded.encode(pa.array(["é", "a", "nobody"])).tolist() == [4, 1, PADDING]
    assert loaded.decode([4, 1]) == ["é", "a"]


@pytest.mark.parametrize(("ids", "message"), [(["a", "a"], "twice"), (["a", ""], "row 1 is empty")])
def test_vocabulary_refuses(ids, message):
    with pytest.raises(DataError, match=message):
        Vocabulary(ids)
