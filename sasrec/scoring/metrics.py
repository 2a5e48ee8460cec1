"""Metrics of ranked recommendations: formula and source beside each.

Accuracy metrics take the 1-based ranks of a user's relevant items (`sasrec.scoring.ranking`) and
return one value per user, which the bootstrap resamples. List metrics take top-k lists `(B, k)` in
which 0 (`PADDING`) marks an empty place; where every list is empty, a figure of all is NaN.
"""

import numpy as np

from sasrec.data.packed import PackedSequences
from sasrec.data.vocabulary import PADDING


def accuracy(ranks: np.ndarray, cu_seqlens: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """Accuracy at k of each user over all R of their relevant items; with R = 1, of the next item.

    - `hr`: 1 if any relevant item is in the first k.
    - `recall`: relevant items in the first k, over R.
    - `ndcg`: Σ 1 / log2(1 + rank) over relevant items in the first k, over the most that
      min(k, R) items can reach (Järvelin and Kekäläinen, 2002, binary gains).
    - `mrr`: 1 / rank of the first relevant item in the first k, else 0 (Voorhees, 1999).
    - `map`: average precision over all relevant items: Σ over hits in the first k of
      (hits up to that rank / rank), over R (Buckley and Voorhees, 2000; `AP@k` of trec_eval).

    Args:
        ranks: (M,) float, inf for a miss. No item twice for one user: see `distinct_targets`.
        cu_seqlens: (B + 1,) int, the ranks of user b are `cu_seqlens[b]:cu_seqlens[b + 1]`, R >= 1.
        k: cutoff.

    Returns:
        metric name with the cutoff, such as "ndcg@10" -> (B,) float64 in [0, 1].
    """
    relevant = np.diff(cu_seqlens)
    users = len(relevant)
    owner = np.repeat(np.arange(users), relevant)
    order = np.lexsort((ranks, owner))
    owner, ranks = owner[order], ranks[order]
    hits_so_far = np.arange(1, len(ranks) + 1) - cu_seqlens[owner]
    hit = ranks <= k

    def total(gain: np.ndarray) -> np.ndarray:
        return np.bincount(owner, weights=np.where(hit, gain, 0.0), minlength=users)

    hits = total(np.ones(len(ranks)))
    ideal = np.cumsum(1 / np.log2(np.arange(2, k + 2)))
    best = ranks[cu_seqlens[:-1]]
    return {
        f"hr@{k}": (hits > 0).astype(float),
        f"recall@{k}": hits / relevant,
        f"ndcg@{k}": total(1 / np.log2(1 + ranks)) / ideal[np.minimum(relevant, k) - 1],
        f"mrr@{k}": np.where(best <= k, 1 / best, 0.0),
        f"map@{k}": total(hits_so_far / ranks) / relevant,
    }


def distinct_targets(targets: PackedSequences) -> PackedSequences:
    """The first occurrence of each target of a user; every unknown (`PADDING`) target is kept."""
    owner = np.repeat(np.arange(len(targets)), targets.lengths)
    unknown = targets.items == PADDING
    identity = np.where(unknown, -1 - np.arange(len(owner)), targets.items)
    _, first = np.unique(np.stack([owner, identity]), axis=1, return_index=True)
    first.sort()
    lengths = np.bincount(owner[first], minlength=len(targets))
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return PackedSequences(targets.items[first], cu_seqlens, targets.timestamps[first])


def inverse_popularity_weights(
    popularity: np.ndarray, items: np.ndarray, gamma: float = 1.0
) -> np.ndarray:
    """Weights (n,) with mean 1 that undo the popularity bias of observed targets.

    1 / p with p ∝ popularity^((γ + 1) / 2) (Yang et al., 2018, "Unbiased offline recommender
    evaluation for missing-not-at-random implicit feedback", section 4.2); γ = 1 takes the chance of
    being observed as proportional to popularity. The debiased NDCG is the mean of weight · ndcg.
    A target outside the vocabulary has no known propensity and weight 0.

    Args:
        popularity: (V + 1,) training events of each item.
        items: (n,) target items.
    """
    counts = np.maximum(popularity[items], 1).astype(float)
    weights = np.where(items == PADDING, 0.0, counts ** (-(gamma + 1) / 2))
    return weights / weights.mean() if weights.any() else weights


def coverage(lists: np.ndarray, num_items: int) -> float:
    """Share of the catalogue that is recommended to anyone (Ge et al., 2010)."""
    recommended = np.setdiff1d(lists, [PADDING])
    return len(recommended) / num_items if len(recommended) else np.nan


def gini(lists: np.ndarray, num_items: int) -> float:
    """Inequality of exposure over the whole catalogue: 0 all equal, near 1 one item takes all.

    Σ_i (2i − V − 1) x_i / (V Σ x) for exposures x sorted ascending (Fleder and Hosanagar, 2009).
    """
    exposure = np.sort(np.bincount(lists[lists != PADDING], minlength=num_items + 1)[1:])
    if not exposure.any():
        return np.nan
    place = np.arange(1, num_items + 1)
    return float(((2 * place - num_items - 1) * exposure).sum() / (num_items * exposure.sum()))


def exposure_curve(lists: np.ndarray, num_items: int, points: int = 21) -> np.ndarray | None:
    """Share of all recommendations that go to the most recommended 0, 5, ... 100 % of items.

    The Lorenz curve read from the top, (points,) in [0, 1]; equal exposure is the diagonal.
    None where every list is empty.
    """
    exposure = np.sort(np.bincount(lists[lists != PADDING], minlength=num_items + 1)[1:])[::-1]
    if not exposure.any():
        return None
    cumulative = np.concatenate([[0], np.cumsum(exposure)]) / exposure.sum()
    shares = np.linspace(0, num_items, points)
    return np.interp(shares, np.arange(num_items + 1), cumulative)


def novelty(lists: np.ndarray, popularity: np.ndarray) -> np.ndarray:
    """Mean self-information −log2 p(item) of each list (B,), in bits (Zhou et al., 2010).

    p(item) is the item's share of training events, add-one smoothed so that a new item counts.
    """
    share = (popularity + 1) / (popularity[1:] + 1).sum()
    return _mean_over_list(-np.log2(share), lists)


def average_popularity(lists: np.ndarray, popularity: np.ndarray) -> np.ndarray:
    """Mean training events of the items in each list (B,) (ARP: Yin et al., 2012)."""
    return _mean_over_list(popularity.astype(float), lists)


def popularity_lift(
    lists: np.ndarray, histories: PackedSequences, popularity: np.ndarray
) -> np.ndarray:
    """How much more popular a list is than its user's own history: list mean / history mean − 1.

    Popularity lift (Abdollahpouri et al., 2020), per user (B,); NaN without a history.
    """
    owner = np.repeat(np.arange(len(histories)), histories.lengths)
    total = np.bincount(owner, weights=popularity[histories.items], minlength=len(histories))
    with np.errstate(invalid="ignore", divide="ignore"):
        return average_popularity(lists, popularity) / (total / histories.lengths) - 1


def intra_list_diversity(lists: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """Share of pairs within each list (B,) whose categories differ (Smyth and McClave, 2001).

    Args:
        categories: (V + 1,) integer code of each item's category, -1 where unknown; pairs with an
            unknown category are left out, and a list without a pair is NaN.
    """
    codes = np.where(lists == PADDING, -1, categories[lists])
    first, second = np.triu_indices(lists.shape[1], 1)
    known = (codes[:, first] >= 0) & (codes[:, second] >= 0)
    differ = known & (codes[:, first] != codes[:, second])
    with np.errstate(invalid="ignore"):
        return differ.sum(1) / known.sum(1)


def serendipity(lists: np.ndarray, popular: np.ndarray, targets: PackedSequences) -> np.ndarray:
    """Share of each list (B,) that is relevant and that popularity would not have shown.

    |list ∩ relevant − popular| / k (Ge et al., 2010, with popularity as the primitive model).

    Args:
        popular: (B, k) the popularity baseline's list for the same users.
    """
    size = max(int(a.max(initial=0)) for a in (lists, popular, targets.items)) + 1
    row = np.arange(len(lists))[:, None] * size
    owner = np.repeat(np.arange(len(targets)), targets.lengths)
    relevant = np.isin(row + lists, owner * size + targets.items)
    unexpected = ~np.isin(row + lists, row + popular)
    return (relevant & unexpected & (lists != PADDING)).mean(axis=1)


def _mean_over_list(value: np.ndarray, lists: np.ndarray) -> np.ndarray:
    filled = lists != PADDING
    with np.errstate(invalid="ignore"):
        return np.where(filled, value[lists], 0.0).sum(1) / filled.sum(1)
