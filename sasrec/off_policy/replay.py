"""Logged impressions seen again by a model: what it scores, and what its policy would have shown.

For every request the model reads the history strictly before it, scores the catalogue, and gives
each slot's probability under a policy, given the slots above as they were logged.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sasrec.data.packed import PackedSequences
from sasrec.data.schema import PLACED_BY_RULE
from sasrec.data.vocabulary import PADDING, Vocabulary
from sasrec.errors import DataError
from sasrec.off_policy.calibration import Calibration
from sasrec.off_policy.estimators import LoggedSlots
from sasrec.off_policy.policy import Policy
from sasrec.scoring.ranking import score_blocks
from sasrec.scoring.scorer import Scorer

BLOCK_SCORES = 2**21  # float64, and a handful of temporaries of that size


@dataclass(frozen=True)
class Requests:
    """R logged lists of up to K slots, in time order.

    Attributes:
        users: (R,) ids.
        histories: of each user strictly before the request.
        items: (R, K) int64 vocabulary indices; `PADDING` for an unknown item or an empty slot.
        filled: (R, K) bool, the slots that were logged and drawn: not those that a rule has placed,
            of which `items` holds what stood there.
        reward, propensity: (R, K) float64, meaningful where filled.
        policies: (R, K) names of the logging policies.
    """

    users: np.ndarray
    histories: PackedSequences
    items: np.ndarray
    filled: np.ndarray
    reward: np.ndarray
    propensity: np.ndarray
    policies: np.ndarray

    @classmethod
    def build(
        cls, impressions: pa.Table, interactions: pa.Table, vocabulary: Vocabulary
    ) -> "Requests":
        """Group impressions by request, and find what each user had done before.

        Impressions whose reward is not known yet (null) are left out.

        Args:
            impressions: schema `IMPRESSIONS`.
            interactions: schema `INTERACTIONS`, all that is logged.
            vocabulary: of the model.

        Raises:
            DataError: a slot of a request is logged twice, or its position is negative.
        """
        log = impressions.filter(pc.is_valid(impressions["reward"])).sort_by(
            [("timestamp", "ascending"), ("request_id", "ascending"), ("position", "ascending")]
        )
        request = log["request_id"].to_numpy()
        opens = np.concatenate([[True], request[1:] != request[:-1]]) if len(log) else np.array([])
        row = np.cumsum(opens).astype(int) - 1
        slot = log["position"].to_numpy().astype(int)
        _check_slots(request, row, slot)
        shape = (int(opens.sum()), int(slot.max(initial=-1)) + 1)

        def grid(values: np.ndarray, empty: object) -> np.ndarray:
            cells = np.full(shape, empty, dtype=values.dtype)
            cells[row, slot] = values
            return cells

        placed = pc.starts_with(log["policy"], PLACED_BY_RULE).to_numpy()
        first = np.flatnonzero(opens)
        users = log["user_id"].to_numpy()[first]
        asked_at = log["timestamp"].cast(pa.int64()).to_numpy()[first]
        return cls(
            users=users,
            histories=histories_before(interactions, users, asked_at, vocabulary),
            items=grid(vocabulary.encode(log["item_id"]), PADDING),
            filled=grid(~placed, False),
            reward=grid(log["reward"].to_numpy().astype(float), 0.0),
            propensity=grid(log["propensity"].to_numpy(), 1.0),
            policies=grid(log["policy"].to_numpy(), ""),
        )


@dataclass(frozen=True)
class Replay:
    """What a model makes of R logged lists; all arrays are (R, K), meaningful where filled.

    Attributes:
        score: the model's score of the served item; NaN where it has none.
        target: probability of the served item under the model's policy.
        unsupported: share of the policy's choice on items that no impression shows.
        served_value, policy_value: q and v of `sasrec.off_policy.estimators` under a calibration.
    """

    score: np.ndarray
    target: np.ndarray
    unsupported: np.ndarray
    served_value: np.ndarray
    policy_value: np.ndarray

    def logged_slots(self, requests: Requests) -> LoggedSlots:
        """The filled slots, as the off-policy estimators take them."""
        filled = requests.filled
        request, position = np.nonzero(filled)
        return LoggedSlots(
            user=requests.users[request],
            position=position,
            reward=requests.reward[filled],
            propensity=requests.propensity[filled],
            target=self.target[filled],
            unsupported=self.unsupported[filled],
            served_value=self.served_value[filled],
            policy_value=self.policy_value[filled],
        )


def served_scores(scorer: Scorer, requests: Requests, *, repeats: bool = False) -> np.ndarray:
    """The scorer's scores (R, K) of what was served; NaN for items it does not score.

    Args:
        repeats: whether items of the history are scored.
    """
    score = np.full(requests.items.shape, np.nan)
    for block in score_blocks(scorer, requests.histories, filter_seen=not repeats):
        items = requests.items[block.rows]
        found = np.take_along_axis(block.scores.cpu().numpy(), items, axis=1)
        score[block.rows] = np.where(np.isfinite(found), found, np.nan)
    return score


def replay(
    scorer: Scorer,
    requests: Requests,
    policies: Sequence[Policy],
    *,
    candidates: int,
    calibration: Calibration,
    repeats: bool = False,
) -> dict[str, Replay]:
    """Let each policy over the scorer's best `candidates` fill every slot, given those above.

    The catalogue is scored once for all policies. The probabilities are those of
    `sasrec.off_policy.policy.slot_propensities`, for all items at once.

    Args:
        repeats: whether a slot may hold an item of the history.

    Returns:
        policy name -> what it would have done.
    """
    shown = np.bincount(requests.items[requests.filled], minlength=1)
    shape = requests.items.shape
    results = {p.name: Replay(*(np.zeros(shape) for _ in fields(Replay))) for p in policies}
    users = max(1, BLOCK_SCORES // len(shown))
    for block in score_blocks(scorer, requests.histories, not repeats, users_per_block=users):
        scores = block.scores.cpu().numpy().astype(np.float64)
        never_shown = np.pad(shown, (0, max(0, scores.shape[1] - len(shown)))) == 0
        for policy in policies:
            _fill_slots(
                scores, block.rows, requests, policy, candidates, calibration, never_shown,
                results[policy.name],
            )  # fmt: skip
    return results


def _fill_slots(
    scores: np.ndarray,
    users: slice,
    requests: Requests,
    policy: Policy,
    candidates: int,
    calibration: Calibration,
    never_shown: np.ndarray,
    result: Replay,
) -> None:
    """Write rows `users` of `result` from their scores (b, V + 1)."""
    eligible = np.isfinite(scores)
    value = np.where(eligible, calibration.p_interact(np.where(eligible, scores, 0.0)), 0.0)
    wanted = _best(scores, candidates)
    rows = np.arange(len(scores))
    for slot in range(requests.items.shape[1]):
        here = users, slot
        item = requests.items[here]
        chance = _slot_distribution(wanted, eligible, policy)
        examined = calibration.examination(slot)
        served = scores[rows, item]
        result.score[here] = np.where(np.isfinite(served), served, np.nan)
        result.target[here] = chance[rows, item]
        result.unsupported[here] = chance[:, never_shown].sum(axis=1)
        result.served_value[here] = value[rows, item] * examined
        result.policy_value[here] = (chance * value).sum(axis=1) * examined
        wanted[rows, item] = -np.inf
        eligible[rows, item] = False


def _best(scores: np.ndarray, candidates: int) -> np.ndarray:
    """The scores (b, V + 1) of each row's best `candidates`, -inf elsewhere."""
    if candidates >= scores.shape[1]:
        return scores.copy()
    top = np.argpartition(-scores, candidates - 1, axis=1)[:, :candidates]
    best = np.full_like(scores, -np.inf)
    np.put_along_axis(best, top, np.take_along_axis(scores, top, axis=1), axis=1)
    return best


def _slot_distribution(wanted: np.ndarray, eligible: np.ndarray, policy: Policy) -> np.ndarray:
    """Probability (b, V + 1) of each item in the next slot; a row with nothing left is all 0."""
    highest = wanted.max(axis=1, keepdims=True)
    exhausted = np.isneginf(highest)
    if policy.temperature == 0:
        ranked = np.zeros_like(wanted)
        np.put_along_axis(ranked, wanted.argmax(axis=1)[:, None], 1.0, axis=1)
    else:
        ranked = np.exp((wanted - np.where(exhausted, 0.0, highest)) / policy.temperature)
        ranked /= np.maximum(ranked.sum(axis=1, keepdims=True), 1e-300)
    uniform = eligible / np.maximum(eligible.sum(axis=1, keepdims=True), 1)
    return np.where(exhausted, uniform, (1 - policy.epsilon) * ranked + policy.epsilon * uniform)


def histories_before(
    interactions: pa.Table, users: np.ndarray, asked_at: np.ndarray, vocabulary: Vocabulary
) -> PackedSequences:
    """What each of `users` (R,) had done strictly before `asked_at` (R,) microseconds.

    Items outside the vocabulary are left out; a user who is not known has an empty history.
    """
    log = interactions.sort_by([("user_id", "ascending"), ("timestamp", "ascending")])
    user = log["user_id"].combine_chunks().dictionary_encode()
    code = user.indices.to_numpy()
    time = log["timestamp"].cast(pa.int64()).to_numpy()
    items = vocabulary.encode(log["item_id"])
    code, time, items = (column[items != PADDING] for column in (code, time, items))

    wanted = pc.index_in(pa.array(users, pa.string()), value_set=user.dictionary)
    wanted = wanted.fill_null(-1).to_numpy()
    start = np.searchsorted(code, wanted)
    stop = _count_before(code, time, wanted, asked_at)
    lengths = np.where(wanted >= 0, stop - start, 0)
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)])
    source = np.repeat(start - cu_seqlens[:-1], lengths) + np.arange(cu_seqlens[-1])
    return PackedSequences(
        items[source], cu_seqlens.astype(np.int32), time[source], asked_at=asked_at
    )


def _count_before(
    code: np.ndarray, time: np.ndarray, wanted: np.ndarray, asked_at: np.ndarray
) -> np.ndarray:
    """(R,) rows of (code, time), sorted, that lie strictly before (wanted, asked_at)."""
    is_event = np.repeat([False, True], [len(wanted), len(code)])
    both = np.concatenate([wanted, code]), np.concatenate([asked_at, time])
    order = np.lexsort((is_event, both[1], both[0]))  # on a tie the question comes first
    events_until = np.cumsum(is_event[order])
    counts = np.empty(len(order), dtype=np.int64)
    counts[order] = events_until
    return counts[: len(wanted)]


def _check_slots(request: np.ndarray, row: np.ndarray, slot: np.ndarray) -> None:
    if (slot < 0).any():
        raise DataError(f"impressions: position of request '{request[np.argmin(slot)]}' is < 0")
    repeated = (row[1:] == row[:-1]) & (slot[1:] == slot[:-1])
    if repeated.any():
        name = request[1:][np.argmax(repeated)]
        raise DataError(f"impressions: request '{name}' holds a slot twice; keep each event once")
