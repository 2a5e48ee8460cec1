"""Lists for all users of a site, written to a file: for a newsletter, a cache or another system.

They are the lists that the service would draw: of the same histories, live items and recent counts,
by the same policies and with the same propensities, so that what comes of them can be judged. A
draw is seeded by user, version and publish, and an interrupted run goes on where it stopped.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.catalogue import open_catalogue
from feature_repo.extract import current_entities, stream_sequences
from feature_repo.history import HistoryStore, open_history
from feature_repo.history.protocol import LIMIT
from feature_repo.online import UserHistory, merge
from feature_repo.tables import HISTORY_LIMIT
from sasrec import progress
from sasrec.data.schema import TIMESTAMP
from sasrec.errors import DataError, SettingsError
from serving.engine.engine import Engine
from serving.engine.live_items import LiveEngine
from serving.engine.recommendation import Asked, Recommendation, recommend_batch
from serving.engine.request_history import by_role
from serving.engine.routing import choose_policy
from serving.engine.rules import PIN, Rules
from serving.registry import ModelStore, RegistryError, open_registry
from serving.schemas import RecommendRequest, RuleFields
from serving.settings import Settings
from serving.worker.site_rules import rules_of_site
from serving.worker.trend_follower import TrendFollower

USERS_PER_PART = 10_000  # what an interruption may cost
USERS_AT_ONCE = 256  # of one forward pass
PLAN = "plan.json"

LISTS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("score", pa.float32()),
        pa.field("propensity", pa.float64(), nullable=False),
        pa.field("policy", pa.string(), nullable=False),
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("model_version", pa.string(), nullable=False),
        pa.field("rule", pa.string()),
    ]
)
"""A row per slot. `score` is null where no item of the history is known, and popularity answered;
`request_id` is what an event names that came of the list; `rule` is what put the item there, null
where it was drawn."""


@dataclass(frozen=True)
class Plan:
    """What the lists are of. An interrupted run is continued only by one of the same plan.

    Attributes:
        as_of: of the publish, ISO 8601.
        users: how many, and `users_digest` which.
        policies: temperature, epsilon, share of new items and share of uniform lists, as the
            service has them.
        rules: of the site, as text.
    """

    model_version: str
    as_of: str
    k: int
    users: int
    users_digest: str
    policies: tuple[float, float, float, float]
    rules: str


def write_lists(
    settings: Settings,
    output: Path,
    *,
    k: int,
    users: Sequence[str] | None = None,
) -> Plan:
    """Write a list of `k` items for each user to `output`, a Parquet file of `LISTS`.

    Args:
        users: only these; one without a history gets what is popular. All of the site by default.

    Raises:
        DataError: there is no champion, nothing is published, or no user is named.
        SettingsError: the output cannot be written.
    """
    store = open_registry(settings.home)
    if (version := store.aliases().champion) is None:
        raise DataError(f"{settings.home}: no champion yet; run the pipeline first")
    as_of, known = current_entities(settings.feature_store)
    asked = known["user_id"].to_pylist() if users is None else sorted(set(users))
    if not asked:
        raise DataError("recommend: no user is named")
    site = rules_of_site(settings)
    plan = Plan(
        version,
        as_of.isoformat(),
        k,
        len(asked),
        hashlib.sha256("\n".join(asked).encode()).hexdigest(),
        (settings.temperature, settings.epsilon, settings.new_item_share, settings.gold_share),
        "" if site is None else repr(site),
    )
    parts = _open_parts(output, plan)
    with closing(open_history(settings.history_location)) as online:
        engine = _as_served(store, version, settings, online)
        lists = _Lists(engine, settings, online, plan, site)
        _write_parts(parts, asked, lists.answers)
    _join(parts, output)
    return plan


def _as_served(store: ModelStore, version: str, settings: Settings, online: HistoryStore) -> Engine:
    """The version with the live items and the counts of now, as a worker would have it."""
    try:
        engine = Engine(store.path(version), index_above=settings.index_above)
    except RegistryError as error:
        raise DataError(str(error)) from None
    TrendFollower(online, lambda: [engine]).look()
    with closing(open_catalogue(settings.history_location)) as catalogue:
        changes = catalogue.since(0)
    if not changes.items:
        return engine
    items = {record["item_id"]: record for record in changes.items}
    return LiveEngine(engine, items, changes.impressions)


def _write_parts(
    parts: Path,
    asked: Sequence[str],
    answers_of: Callable[[Sequence[str]], Iterator[list[Recommendation]]],
) -> None:
    """Write a file for each `USERS_PER_PART` users, but for those that are there."""
    with progress.bar(len(asked)) as advance:
        for number, start in enumerate(range(0, len(asked), USERS_PER_PART)):
            part = parts / f"{number:06}.parquet"
            of_part = asked[start : start + USERS_PER_PART]
            if part.exists():
                advance("lists", len(of_part))
                continue
            unfinished = part.with_suffix(".new")
            with pq.ParquetWriter(unfinished, LISTS) as writer:
                for answers in answers_of(of_part):
                    writer.write_table(_rows(answers))
                    advance("lists", len(answers))
            unfinished.replace(part)


def _open_parts(output: Path, plan: Plan) -> Path:
    """The folder beside the output that holds what is done; emptied where it is of another plan."""
    parts = output.with_name(f"{output.name}.parts")
    planned = json.dumps(asdict(plan), indent=2)
    try:
        if parts.exists() and _planned(parts) != planned:
            shutil.rmtree(parts)
        parts.mkdir(parents=True, exist_ok=True)
        (parts / PLAN).write_text(planned)
    except OSError as error:
        raise SettingsError(
            f"cannot write {output} ({error.strerror}): give --output a place that is yours"
        ) from None
    return parts


def _planned(parts: Path) -> str | None:
    try:
        return (parts / PLAN).read_text()
    except FileNotFoundError:
        return None


@dataclass(frozen=True)
class _Lists:
    """Draws the lists of one plan."""

    engine: Engine
    settings: Settings
    online: HistoryStore
    plan: Plan
    site: RuleFields | None

    def answers(self, users: Sequence[str]) -> Iterator[list[Recommendation]]:
        """The users' lists in their order, `USERS_AT_ONCE` or fewer at a time."""
        just_after = datetime.fromisoformat(self.plan.as_of) + timedelta(microseconds=1)
        cutoffs = pa.repeat(pa.scalar(just_after, TIMESTAMP), len(users))
        entities = pa.table({"user_id": pa.array(users, pa.string()), "cutoff": cutoffs})
        for piece in stream_sequences(self.settings.feature_store, entities):
            microseconds = piece["timestamps"].cast(pa.list_(pa.int64()))
            piece = piece.set_column(
                piece.schema.get_field_index("timestamps"), "timestamps", microseconds
            )
            for batch in piece.to_batches(max_chunksize=USERS_AT_ONCE):
                asked = [self._asked(row) for row in batch.to_pylist()]
                yield recommend_batch(self.engine, asked, candidates=self.settings.candidates)

    def _asked(self, row: dict[str, Any]) -> Asked:
        user, plan = row["user_id"], self.plan
        name = f"{plan.model_version} {plan.as_of} {plan.k} {user}"
        digest = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
        request = RecommendRequest.model_validate(
            {"user_id": user, "k": plan.k, "request_id": digest}
        )
        published = UserHistory(row["item_ids"], row["event_types"], row["timestamps"])
        stored = merge(published, self.online.latest(user, LIMIT), HISTORY_LIMIT)
        history = by_role(stored, self.engine.roles, self.settings.history_length)
        rules = Rules.of(request, self.site, datetime.now(UTC))
        return Asked(request, history, choose_policy(user, self.settings), rules=rules)


def _rows(answers: Sequence[Recommendation]) -> pa.Table:
    rows = [
        {
            "user_id": answer.user_id,
            "position": position,
            "item_id": item_id,
            "score": score,
            "propensity": propensity,
            "policy": answer.policy.name,
            "request_id": answer.request_id,
            "model_version": answer.model_version,
            "rule": PIN if position in answer.placed else None,
        }
        for answer in answers
        for position, (item_id, score, propensity) in enumerate(
            zip(answer.item_ids, answer.scores, answer.slate.propensities.tolist(), strict=True)
        )
    ]
    return pa.Table.from_pylist(rows, schema=LISTS)


def _join(parts: Path, output: Path) -> None:
    """One file of all parts; they go when it is there."""
    unfinished = parts / "all.new"
    with pq.ParquetWriter(unfinished, LISTS) as writer:
        for part in sorted(parts.glob("*.parquet")):
            for batch in pq.ParquetFile(part).iter_batches():
                writer.write_batch(batch)
    unfinished.replace(output)
    shutil.rmtree(parts)
