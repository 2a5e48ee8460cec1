"""What a quick run between nights learns from: everybody with something new, and some others."""

import numpy as np

from sasrec.data.packed import PackedSequences


def replayed(
    histories: PackedSequences, since: int, share: float, *, seed: int = 0
) -> PackedSequences:
    """Histories with an event after `since`, and a random share of the rest.

    Whoever learned from new events alone would forget the others' tastes (McCloskey and Cohen,
    1989); a share of old histories holds them (replay: Rolnick et al., 2019).

    Args:
        histories: of at least one event each.
        since: microseconds; what is later is new.
        share: of the histories without a new event, in [0, 1].
    """
    newest = histories.timestamps[histories.cu_seqlens[1:] - 1]
    drawn = np.random.default_rng(seed).random(len(histories)) < share
    return histories.select(np.flatnonzero((newest > since) | drawn))
