"""Slices of users over which a model must not be worse than its reference.

Every slicing puts each user in exactly one slice, by what is known when the next item is asked
for, or by that item itself.
"""

from itertools import pairwise

import numpy as np
import pyarrow as pa

from sasrec.data.packed import EvaluationSet, PackedSequences
from sasrec.data.vocabulary import PADDING
from sasrec.evaluation.catalogue import UNKNOWN_CATEGORY, Catalogue

HOUR = 3_600_000_000  # microseconds
DAY = 24 * HOUR
HISTORY_EDGES = (5, 10, 20, 50, 100, 200)
ACTIVITY_EDGES = (0, 5, 20)
GAPS = ((HOUR, "up to 1 hour"), (DAY, "up to 1 day"), (7 * DAY, "up to 1 week"))
LAST_GAP = "over 1 week"
DECILES = 10
NEW_SHARE_OF_TIME = 0.1


def slice_users(evaluation: EvaluationSet, catalogue: Catalogue) -> pa.Table:
    """One string column per slicing, one row per user of a next-item evaluation set.

    - `history_length`: events in the history.
    - `item_popularity`: decile of the next item; each holds a tenth of the training events, from
      `decile 1` (the long tail) to `decile 10` (the hits).
    - `item_age`: `new` when the next item was first seen in the last tenth of the training time or
      never, `unknown` when it is outside the vocabulary, else `established`.
    - `cold_items`: `cold` when the next item has no training event, whether or not it is in the
      vocabulary, else `warm`.
    - `time_since_last_event`: from the newest event of the history to the next item.
    - `user_activity`: events in the 28 days before the next item.
    - `category`: of the next item.
    - `item.<column>`: of the next item, for each of `Catalogue.labels`, such as `item.brand`.
    """
    histories, items = evaluation.histories, evaluation.targets.items
    asked_at = evaluation.targets.timestamps
    return pa.table(
        {
            "history_length": _binned(histories.lengths, HISTORY_EDGES),
            "item_popularity": _popularity_decile(items, catalogue.popularity),
            "item_age": _item_age(items, catalogue),
            "cold_items": np.where(catalogue.popularity[items] > 0, "warm", "cold").tolist(),
            "time_since_last_event": _gap(histories, asked_at),
            "user_activity": _binned(_events_since(histories, asked_at - 28 * DAY), ACTIVITY_EDGES),
            "category": _category(items, catalogue),
        }
        | {f"item.{name}": of_item[items] for name, of_item in catalogue.labels.items()}
    )


def _binned(values: np.ndarray, edges: tuple[int, ...]) -> list[str]:
    labels = [f"up to {edges[0]}" if edges[0] else "0"]
    labels += [f"{low + 1}-{high}" for low, high in pairwise(edges)]
    labels.append(f"over {edges[-1]}")
    return [labels[bin_] for bin_ in np.searchsorted(edges, values)]


def _popularity_decile(items: np.ndarray, popularity: np.ndarray) -> list[str]:
    order = np.argsort(popularity[1:], kind="stable") + 1
    events_below = np.zeros(len(popularity))
    events_below[order] = np.cumsum(popularity[order]) - popularity[order]
    total = max(popularity[1:].sum(), 1)
    decile = 1 + np.minimum(events_below / total * DECILES, DECILES - 1).astype(int)
    return ["unknown" if item == PADDING else f"decile {decile[item]}" for item in items]


def _item_age(items: np.ndarray, catalogue: Catalogue) -> list[str]:
    seen = catalogue.first_seen[catalogue.popularity > 0]
    if not len(seen):
        return ["new"] * len(items)
    new_from = seen.max() - NEW_SHARE_OF_TIME * (seen.max() - seen.min())
    age = np.where(catalogue.first_seen[items] > new_from, "new", "established")
    return np.where(items == PADDING, "unknown", age).tolist()


def _gap(histories: PackedSequences, asked_at: np.ndarray) -> list[str]:
    filled = histories.lengths > 0
    labels = np.full(len(histories), "no history", dtype=object)
    newest = histories.timestamps[histories.cu_seqlens[1:][filled] - 1]
    names = [name for _, name in GAPS] + [LAST_GAP]
    bins = np.searchsorted([edge for edge, _ in GAPS], asked_at[filled] - newest)
    labels[filled] = [names[bin_] for bin_ in bins]
    return labels.tolist()


def _events_since(histories: PackedSequences, since: np.ndarray) -> np.ndarray:
    owner = np.repeat(np.arange(len(histories)), histories.lengths)
    recent = histories.timestamps >= since[owner]
    return np.bincount(owner, weights=recent, minlength=len(histories)).astype(int)


def _category(items: np.ndarray, catalogue: Catalogue) -> list[str]:
    codes = catalogue.categories[items]
    return [
        "unknown" if code == UNKNOWN_CATEGORY else catalogue.category_names[code] for code in codes
    ]
