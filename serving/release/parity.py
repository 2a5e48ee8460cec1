"""Does the service answer stored users as the model does offline? Asked before a version exists.

Every user is answered twice: by the code that serves (the online history, the engine, the slate),
and by the model alone on the history that the offline tables give for the same moment.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from feature_repo.extract import sequences_as_of
from feature_repo.history import open_history
from feature_repo.online import OnlineHistory, UserHistory
from feature_repo.publish import read_report
from feature_repo.store import current_generation
from feature_repo.tables import HISTORY_LIMIT
from sasrec.data.packed import PackedSequences
from sasrec.data.roles import Roles
from sasrec.data.schema import TIMESTAMP
from sasrec.data.vocabulary import PADDING
from sasrec.off_policy.policy import GREEDY
from sasrec.scoring.ranking import score_blocks
from sasrec.scoring.trend import Trend
from serving.engine.engine import Engine
from serving.engine.golden import TOLERANCE
from serving.engine.recommendation import recommend
from serving.engine.request_history import by_role
from serving.schemas import RecommendRequest
from serving.settings import Settings

ANSWER = 10
NAMED = 5


def serving_parity(
    model_dir: Path,
    settings: Settings,
    users: Sequence[str],
    *,
    roles: Roles | None = None,
    until: datetime | None = None,
    repeats: bool = False,
) -> dict[str, Any]:
    """Compare the two answers for `users`, as of the last publish.

    Answers agree when the served items have, offline, the scores of the best items: equal scores
    may trade places. Users without a known item in their newest `settings.history_length` events
    are left out: they get what is popular.

    Args:
        model_dir: a trained model, registered or not.
        settings: of the site; exploration is switched off for the comparison.
        roles: of event types, as the run reads what the service logged; all positive by default.
        until: what happened from this moment on is in no offline history; None for nothing.
        repeats: whether items of the history are recommended, as the evaluation has it.

    Returns:
        `agreement`, the share of users with equal answers; `users`, how many were compared;
        `differing`, some of the others. Or `missing`, the reason, where nobody can be compared.

    Raises:
        DataError: nothing is published.
    """
    engine = Engine(model_dir)
    as_of = datetime.fromisoformat(read_report(current_generation(settings.feature_store))["as_of"])
    offline, older = _offline_histories(engine, settings, users, as_of)
    compared = np.flatnonzero(offline.lengths > 0).tolist()
    if not compared:
        return {"missing": "no user of the test fold has a known item in the feature store"}
    users = [users[row] for row in compared]
    # The offline tables end before the run's moment, or with the publish.
    moment = as_of + timedelta(microseconds=1) if until is None else min(until, as_of)
    roles = roles or Roles.parse({})
    served = _served(
        engine, settings, users, roles, int(pa.scalar(moment, TIMESTAMP).value), repeats
    )
    equal = []
    bonus = _stored_bonus(model_dir, len(engine.vocabulary))
    for block in score_blocks(
        engine.recommender, offline.select(np.array(compared)), filter_seen=not repeats
    ):
        for row, scores in enumerate(block.scores + bonus, start=block.start):
            if not repeats:
                scores[torch.from_numpy(older[compared[row]])] = -torch.inf
            expected = scores.topk(min(ANSWER, len(engine.vocabulary))).values
            expected, items = expected[expected > -torch.inf], served[row]
            found = scores[torch.from_numpy(items)]
            equal.append(
                len(found) == len(expected)
                and bool(torch.allclose(found, expected, rtol=0, atol=TOLERANCE))
            )
    differing = [user for user, same in zip(users, equal, strict=True) if not same]
    return {
        "agreement": 1 - len(differing) / len(users),
        "users": len(users),
        "differing": differing[:NAMED],
    }


def _stored_bonus(model_dir: Path, num_items: int) -> torch.Tensor:
    """(V + 1,) what the counts that are stored with a model add to every score."""
    trend = Trend.load(Path(model_dir))
    if trend is None:
        return torch.zeros(num_items + 1)
    return torch.from_numpy(trend.bonus(trend.load_counts(Path(model_dir), num_items).counts))


def _offline_histories(
    engine: Engine, settings: Settings, users: Sequence[str], as_of: datetime
) -> tuple[PackedSequences, list[np.ndarray]]:
    """What the offline tables have of each user, unknown items left out.

    Returns:
        The newest events, which are encoded, and the items of all events before them, which are
        excluded as well.
    """
    cutoff = pa.array([as_of + timedelta(microseconds=1)] * len(users), TIMESTAMP)
    found = sequences_as_of(
        settings.feature_store,
        pa.table({"user_id": pa.array(users, pa.string()), "cutoff": cutoff}),
    )
    items, times, older = [], [], []
    for ids, moments in zip(found["item_ids"], found["timestamps"], strict=True):
        first = max(0, len(ids) - settings.history_length)
        of_user = engine.vocabulary.encode(ids.as_py())
        known = of_user[first:] != PADDING
        items.append(of_user[first:][known])
        times.append(moments.values.cast(pa.int64()).to_numpy()[first:][known])
        older.append(of_user[:first])
    cu_seqlens = np.cumsum([0, *map(len, items)]).astype(np.int32)
    return PackedSequences(np.concatenate(items), cu_seqlens, np.concatenate(times)), older


def _served(
    engine: Engine,
    settings: Settings,
    users: Sequence[str],
    roles: Roles,
    until: int,
    repeats: bool,
) -> list[np.ndarray]:
    """The items of each user's slate, for what serving had read before `until` microseconds."""
    online = OnlineHistory(settings.feature_store, open_history(settings.history_location))
    slates = []
    try:
        for user in users:
            stored = online.read(user, HISTORY_LIMIT)
            known = slice(int(np.searchsorted(stored.timestamps, until, side="left")))
            read = UserHistory(
                stored.item_ids[known], stored.event_types[known], stored.timestamps[known]
            )
            # Offline nothing is excluded but the history: what is disliked is another matter.
            history = replace(by_role(read, roles, settings.history_length), disliked=[])
            answer = recommend(
                engine,
                RecommendRequest.model_validate(
                    {"user_id": user, "k": ANSWER, "allow_repeats": repeats}
                ),
                history,
                GREEDY,
                candidates=settings.candidates,
            )
            slates.append(answer.slate.items)
    finally:
        online.close()
    return slates
