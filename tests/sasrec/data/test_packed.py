import numpy as np
import pyarrow as pa
import pytest

from sasrec.data.packed import PackedSequences
from sasrec.data.vocabulary import PADDING, Vocabulary
from sasrec.errors import DataError


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary(["a", "b", "c"])


def test_select_keeps_the_newest_events_in_the_order_asked():
    histories = PackedSequences(
        np.array([1, 2, 3, 3, 1]), np.array([0, 3, 3, 5], dtype=np.int32), np.array([1, 2, 3, 4, 6])
    )
    packed = histories.select(np.array([2, 1, 0]), max_length=2)
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
