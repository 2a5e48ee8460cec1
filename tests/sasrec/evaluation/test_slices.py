"""Each slicing against users written out by hand."""

import numpy as np
import pyarrow as pa

from sasrec.data.packed import EvaluationSet
from sasrec.data.vocabulary import PADDING, Vocabulary
from sasrec.evaluation.catalogue import Catalogue
from sasrec.evaluation.slices import DAY, HOUR, slice_users
from tests.sasrec.small_sequences import packed


def users_of(histories, history_times, targets, target_times, catalogue):
    ids = [f"u{n}" for n in range(len(histories))]
    return slice_users(
        EvaluationSet(
            "test",
            ids,
            packed(histories, np.concatenate(history_times)),
            packed([[t] for t in targets], target_times),
        ),
        catalogue,
    ).to_pydict()


def catalogue(train, times=None, num_items=4):
    vocabulary = Vocabulary([f"i{n}" for n in range(1, num_items + 1)])
    return Catalogue.build(vocabulary, packed(train, times))


def test_history_length_gap_and_activity():
    now = 100 * DAY
    got = users_of(
        [[1] * 3, [1] * 6, []],
        [[0, DAY, now - HOUR], [now - 6 * DAY] * 6, []],
        [1, 1, 1],
        [now, now, now],
        catalogue([[1]]),
    )
    assert got["history_length"] == ["up to 5", "6-10", "up to 5"]
    assert got["time_since_last_event"] == ["up to 1 hour", "up to 1 week", "no history"]
    assert got["user_activity"] == ["1-5", "6-20", "0"]


def test_popularity_deciles_hold_equal_shares_of_events():
    """Events 60, 30, 9, 1: the hit begins at decile 5, the tail is decile 1."""
    train = [[1] * 60 + [2] * 30 + [3] * 9 + [4]]
    got = users_of([[1]] * 5, [[0]] * 5, [1, 2, 3, 4, PADDING], [10**15] * 5, catalogue(train))
    assert got["item_popularity"] == ["decile 5", "decile 2", "decile 1", "decile 1", "unknown"]


def test_item_age_is_by_the_last_tenth_of_training_time():
    train, times = [[1, 2, 3]], [0, 85, 100]
    got = users_of([[1]] * 4, [[0]] * 4, [2, 3, 4, PADDING], [200] * 4, catalogue(train, times))
    assert got["item_age"] == ["established", "new", "new", "unknown"]


def test_cold_items_have_no_training_event_known_or_not():
    got = users_of([[1]] * 3, [[0]] * 3, [1, 4, PADDING], [10] * 3, catalogue([[1, 2, 3]]))
    assert got["cold_items"] == ["warm", "cold", "cold"]


def test_columns_of_the_items_are_slicings():
    """Text and truth values with few labels; not the contract's own columns, not a description."""
    vocabulary = Vocabulary([f"i{n}" for n in range(1, 101)])
    facts = pa.table(
        {
            "item_id": ["gone", *vocabulary.item_ids],
            "title": ["Gone", *vocabulary.item_ids],
            "brand": ["acme", "acme", None, *["other"] * 98],
            "imported": [True, False, True, *[None] * 98],
            "description": [f"all about {n}" for n in range(101)],
            "price": [float(n % 3) for n in range(101)],
            "category": ["c"] * 101,
        }
    )
    got = users_of(
        [[1]] * 4, [[0]] * 4, [1, 2, 3, PADDING], [10**15] * 4,
        Catalogue.build(vocabulary, packed([[1]]), facts),
    )  # fmt: skip
    assert got["item.brand"] == ["acme", "unknown", "other", "unknown"]
    assert got["item.imported"] == ["false", "true", "unknown", "unknown"]
    assert [name for name in got if name.startswith("item.")] == ["item.brand", "item.imported"]
