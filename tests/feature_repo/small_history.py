"""A small history whose truth is easy to recompute."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from sasrec.data.schema import INTERACTIONS

START = datetime(2024, 1, 1, tzinfo=UTC)
END = START + timedelta(days=60)


def make_interactions(users: int, events: int, seed: int) -> pa.Table:
    """Events of a few very active and many quiet users, some a microsecond apart."""
    rng = np.random.default_rng(seed)
    owner = (users * rng.random(events) ** 2).astype(np.int64)
    # A coarse clock makes ties, separated by 1 us as sasrec.data.cleaning does.
    moment = np.sort(rng.integers(0, 60 * 24 * 60, events)) * 60_000_000
    order = np.lexsort((moment, owner))
    owner, moment = owner[order], moment[order]
    for i in range(1, events):
        if owner[i] == owner[i - 1] and moment[i] <= moment[i - 1]:
            moment[i] = moment[i - 1] + 1
    start = int(START.timestamp() * 1e6)
    return pa.table(
        {
            "user_id": [f"u{o}" for o in owner],
            "item_id": [f"i{i}" for i in rng.integers(0, 50, events)],
            "timestamp": pa.array(start + moment).cast(pa.timestamp("us", tz="UTC")),
            "event_type": rng.choice(["view", "purchase"], events),
            "value": pa.nulls(events, pa.float32()),
            "sequence": np.arange(events),
        },
        schema=INTERACTIONS,
    ).take(rng.permutation(events))
