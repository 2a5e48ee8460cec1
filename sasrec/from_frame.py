"""From a data frame to a recommender in one call."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from sasrec.data.cleaning import clean
from sasrec.data.packed import EvaluationSet, PackedSequences
from sasrec.data.repeats import choose_repeats
from sasrec.data.schema import IMPRESSIONS, ITEMS
from sasrec.data.source import Clock, Source
from sasrec.data.sources.columns import as_ids
from sasrec.data.sources.faults import told_as_data_errors
from sasrec.data.sources.times import as_order, as_timestamps
from sasrec.data.vocabulary import Vocabulary
from sasrec.errors import DataError
from sasrec.model.ids import kind_of
from sasrec.model.recommender import Recommender
from sasrec.presets import AUTO, with_sections
from sasrec.presets import preset as named_preset
from sasrec.presets.auto import DataFacts, choose
from sasrec.training.loop import train

FRAME = "data frame"
COLUMNS = ["user_id", "item_id", "timestamp"]


def fit(
    frame: pd.DataFrame,
    preset: str = AUTO,
    *,
    run_dir: Path | None = None,
    **overrides: object,
) -> Recommender:
    """Train on a frame with the columns `user_id`, `item_id` and `timestamp`.

    The newest event of a tenth of the users (at least 200, if there are so many) is held out to
    choose the epoch.

    Args:
        frame: one row per interaction; other columns do not matter. Timestamps are dates, epochs
            or, unless the model has a `time_bias`, any numbers that grow with time, such as
            positions; equal ones keep the order of the rows.
        preset: `auto`, which looks at the frame and says what it chose; a name in
            `sasrec.presets.PRESETS`; or a file such as `shop.yaml`.
        run_dir: where progress is kept and a killed run resumes; a temporary folder by default.
        overrides: fields of `ModelConfig` and `TrainConfig` that replace the preset's.

    Raises:
        DataError: bad input, in one line.
    """
    given = named_preset("default" if preset == AUTO else preset, **overrides)
    source = _source(frame, order_suffices=not given.model.time_bias)
    interactions = clean(source)[0].interactions
    vocabulary = Vocabulary(sorted(set(interactions["item_id"].to_pylist())))
    user_ids, histories = _pack(interactions, vocabulary)
    training, validation, repeats = _hold_out(user_ids, histories, given.train.seed)
    chosen = given
    if preset == AUTO:
        timed = source.clock == "real"
        facts = DataFacts.of(training.lengths, len(vocabulary), timed=timed, repeats=repeats)
        choice = choose(facts, kept=with_sections(overrides))
        print(*choice.lines(), sep="\n", file=sys.stderr)
        chosen = choice.preset.with_overrides(**overrides)
    with tempfile.TemporaryDirectory() as temporary:
        directory = run_dir or Path(temporary)
        result = train(training, validation, vocabulary, chosen.model, chosen.train, directory)
    result.recommender.histories = {
        user: histories.select(np.array([row])) for row, user in enumerate(user_ids)
    }
    result.recommender.item_kind = kind_of(frame["item_id"])
    return result.recommender


def _source(frame: pd.DataFrame, *, order_suffices: bool) -> Source:
    for column in COLUMNS:
        if column not in frame.columns:
            raise DataError(f"{FRAME}: column '{column}' is missing; found {list(frame.columns)}")
    if not len(frame):
        raise DataError(f"{FRAME}: there are no rows")
    with told_as_data_errors(FRAME, "give a column one type"):
        table = pa.Table.from_pandas(frame[COLUMNS], preserve_index=False)
    order = as_order(table["timestamp"]) if order_suffices else None
    clock: Clock = "real" if order is None else "row-order"
    if order is None:
        order, _ = as_timestamps(table["timestamp"], source=FRAME, name="timestamp")
    interactions = pa.table(
        {
            "user_id": as_ids(table["user_id"], source=FRAME, name="user_id"),
            "item_id": as_ids(table["item_id"], source=FRAME, name="item_id"),
            "timestamp": order,
            "event_type": pa.repeat("interaction", len(table)),
            "value": pa.nulls(len(table), pa.float32()),
            "sequence": np.arange(len(table)),
        }
    )
    return Source(FRAME, interactions, ITEMS.empty_table(), IMPRESSIONS.empty_table(), clock)


def _pack(interactions: pa.Table, vocabulary: Vocabulary) -> tuple[list[str], PackedSequences]:
    """User ids and their histories, from interactions sorted by user and time."""
    users = interactions["user_id"].combine_chunks().dictionary_encode()
    lengths = np.bincount(users.indices.to_numpy())
    histories = PackedSequences(
        vocabulary.encode(interactions["item_id"].to_pylist()),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        interactions["timestamp"].cast(pa.int64()).to_numpy(),
    )
    return users.dictionary.to_pylist(), histories


def _hold_out(
    user_ids: list[str], histories: PackedSequences, seed: int
) -> tuple[PackedSequences, EvaluationSet, float]:
    """Training histories without the newest event of some users, those users to validate on, and
    the share of their targets that they had before."""
    eligible = np.flatnonzero(histories.lengths >= 3)
    if not len(eligible):
        raise DataError(f"{FRAME}: no user has 3 events, so none can be held out for validation")
    count = min(len(eligible), max(200, len(user_ids) // 10))
    rows = np.sort(np.random.default_rng(seed).choice(eligible, count, replace=False))
    newest = histories.cu_seqlens[rows + 1] - 1
    kept = np.ones(len(histories.items), dtype=bool)
    kept[newest] = False
    lengths = histories.lengths.copy()
    lengths[rows] -= 1
    training = PackedSequences(
        histories.items[kept],
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        histories.timestamps[kept],
    )
    targets = PackedSequences(
        histories.items[newest],
        np.arange(count + 1, dtype=np.int32),
        histories.timestamps[newest],
    )
    users, before = [user_ids[row] for row in rows], training.select(rows)
    seen = [item in items for item, items in zip(targets.items, before, strict=True)]
    share = float(np.mean(seen))
    allowed = choose_repeats(share, None)["allowed"]
    return training, EvaluationSet("validation", users, before, targets, allowed), share
