"""Ranks of known targets and top-k lists over the full catalogue, in blocks of users.

Ties: items with equal scores are ordered by a hash of (history, item). The order is the same on
every run, for every block size and device, and knows nothing of the target, so a constant scorer
gets what chance gets. An item scored -inf is never recommended: as a target it is a miss.
"""

import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from sasrec.data.packed import EvaluationSet, PackedSequences
from sasrec.errors import DataError
from sasrec.scoring.scorer import Scorer

# Scores held at once: 32 MB of float32, large enough for matrix products, small beside any model.
BLOCK_SCORES = 2**23
FIRST_BLOCK_USERS = 32


def next_item(evaluation: EvaluationSet) -> EvaluationSet:
    """The same users with their first target alone: the next-item protocol."""
    targets = evaluation.targets
    if not targets.lengths.all():
        user = evaluation.user_ids[int(np.argmin(targets.lengths))]
        raise DataError(f"{evaluation.name}: user '{user}' has no target; leave such users out")
    first = targets.cu_seqlens[:-1]
    one_each = np.arange(len(evaluation) + 1, dtype=np.int32)
    return replace(
        evaluation,
        targets=PackedSequences(targets.items[first], one_each, targets.timestamps[first]),
    )


def target_ranks(
    scorer: Scorer,
    evaluation: EvaluationSet,
    *,
    filter_seen: bool = True,
    users_per_block: int | None = None,
) -> np.ndarray:
    """1-based rank of every target among the whole catalogue, parallel to `targets.items`.

    Returns:
        (M,) float64; inf for a miss: a target outside the vocabulary, already seen when
        `filter_seen`, or scored -inf. Other targets of the user stay in the candidate set.

    Raises:
        DataError: a score is NaN.
    """
    ranks = np.full(len(evaluation.targets.items), np.inf)
    offsets = evaluation.targets.cu_seqlens
    for block in score_blocks(scorer, evaluation.histories, filter_seen, users_per_block):
        first, last = offsets[block.start], offsets[block.stop]
        owners = np.repeat(
            np.arange(block.stop - block.start), evaluation.targets.lengths[block.rows]
        )
        ranks[first:last] = block.ranks(owners, evaluation.targets.items[first:last])
    return ranks


def top_k(
    scorer: Scorer,
    histories: PackedSequences,
    k: int,
    filter_seen: bool = True,
    *,
    users_per_block: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k best items of each history, best first.

    Returns:
        items (B, k) int64 and scores (B, k) float32; `PADDING` and -inf where fewer than k remain.

    Raises:
        DataError: a score is NaN.
    """
    items = np.zeros((len(histories), k), dtype=np.int64)
    scores = np.full((len(histories), k), -np.inf, dtype=np.float32)
    for block in score_blocks(scorer, histories, filter_seen, users_per_block):
        items[block.rows], scores[block.rows] = block.top_k(k)
    return items, scores


class ScoreBlock:
    """Scores of consecutive users, seen items already at -inf.

    Attributes:
        start, stop: the users, as rows of the histories.
        scores: (stop - start, V + 1) float32.
        keys: (stop - start,) int64, a hash of each history: the seed of its tie order.
    """

    def __init__(self, start: int, scores: torch.Tensor, keys: torch.Tensor) -> None:
        self.start, self.stop = start, start + len(scores)
        self.scores = scores
        self.keys = keys

    @property
    def rows(self) -> slice:
        """This block's users within the histories."""
        return slice(self.start, self.stop)

    def ranks(self, owners: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Ranks (n,) float64 of `items` (n,), each for the user `owners` (n,) of this block."""
        device = self.scores.device
        owner = torch.from_numpy(owners).to(device)
        item = torch.from_numpy(items.astype(np.int64)).to(device)
        chunks = zip(owner.split(len(self.scores)), item.split(len(self.scores)), strict=True)
        ranks = [self._ranks(o, i) for o, i in chunks]
        return torch.cat(ranks).cpu().numpy() if ranks else np.zeros(0)

    def _ranks(self, owner: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        score = self.scores[owner, item]
        one_each = torch.equal(owner, torch.arange(len(self.scores), device=owner.device))
        rivals = self.scores if one_each else self.scores[owner]
        rank = 1 + _count(rivals > score[:, None])
        equal = rivals == score[:, None]
        tied = (_count(equal) > 1) & (score > -torch.inf)
        if tied.any():
            row, rival = equal[tied].nonzero(as_tuple=True)
            key, own_item = self.keys[owner[tied]], item[tied]
            ahead = tie_order(key[row], rival) < tie_order(key, own_item)[row]
            rank[tied] += torch.bincount(row[ahead], minlength=len(own_item))
        return torch.where(score > -torch.inf, rank.double(), torch.inf)

    def top_k(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Items (b, k) int64 and scores (b, k) float32, best first."""
        kth = self.scores.topk(min(k, self.scores.shape[1]), dim=1).values[:, -1:]
        found = self.scores >= kth.clamp(min=torch.finfo(kth.dtype).min)  # never -inf
        row, item, score, tie = (
            column.cpu().numpy() for column in self._candidates(*found.nonzero(as_tuple=True))
        )
        order = np.lexsort((tie, -score, row))
        row, item, score = row[order], item[order], score[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        kept = place < k
        items = np.zeros((len(self.scores), k), dtype=np.int64)
        scores = np.full((len(self.scores), k), -np.inf, dtype=np.float32)
        items[row[kept], place[kept]] = item[kept]
        scores[row[kept], place[kept]] = score[kept]
        return items, scores

    def _candidates(self, row: torch.Tensor, item: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return row, item, self.scores[row, item], tie_order(self.keys[row], item)


def score_blocks(
    scorer: Scorer,
    histories: PackedSequences,
    filter_seen: bool,
    users_per_block: int | None = None,
) -> Iterator[ScoreBlock]:
    """Score `histories` in consecutive blocks of users; by default `BLOCK_SCORES` scores at a time.

    Raises:
        DataError: a score is NaN.
    """
    start = 0
    size = users_per_block or FIRST_BLOCK_USERS
    while start < len(histories):
        block = histories.select(np.arange(start, min(start + size, len(histories))))
        with torch.inference_mode():
            scores = scorer.logits(block)
            best = scores.amax(dim=1)
            if best.isnan().any():
                row = start + int(best.isnan().nonzero()[0])
                raise DataError(
                    f"scorer '{scorer.name}': score is NaN for the history at row {row}"
                )
            if filter_seen:
                scores = _without_seen(scores, block)
            yield ScoreBlock(start, scores, history_keys(block).to(scores.device))
        start += len(block)
        size = users_per_block or max(1, BLOCK_SCORES // scores.shape[1])


def _count(true: torch.Tensor) -> torch.Tensor:
    """How many of each row (n, m) are true, (n,) int64; summed in int32, four times faster."""
    return true.sum(dim=1, dtype=torch.int32).long()


def _without_seen(scores: torch.Tensor, histories: PackedSequences) -> torch.Tensor:
    owners = np.repeat(np.arange(len(histories)), histories.lengths)
    seen = (torch.from_numpy(owners), torch.from_numpy(histories.items))
    return scores.index_put(
        tuple(index.to(scores.device) for index in seen),
        torch.tensor(-torch.inf, device=scores.device),
    )


def history_keys(histories: PackedSequences) -> torch.Tensor:
    """A hash (B,) int64 of each history's items: the same wherever the history is met."""
    return torch.tensor([zlib.crc32(items.tobytes()) for items in histories], dtype=torch.int64)


def tie_order(keys: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """A hash (n,) int64 of (history key, item); among equal scores the smaller comes first.

    The finalizer of splitmix64 (Steele, Lea and Flood, 2014), in wrapping int64 arithmetic.
    """
    mixed = (keys << 32) + items
    for shift, multiplier in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        mixed = (mixed ^ (mixed >> shift)) * multiplier
    return mixed ^ (mixed >> 31)
