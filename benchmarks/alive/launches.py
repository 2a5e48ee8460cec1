"""What new items get on their first day, and what it costs: drawn on purpose, by chance, or not.

Days at the simulated shop. One model, with features of the items, is trained on what the shop met
until it opens, and then serves for some days; whatever is launched meanwhile is put into the live
catalogue in its hour, and its row is made of its features. The lists are those of the service
(`serving.engine.recommendation`), with counts of impressions as of the hour before.
"""

import argparse
import contextlib
import copy
import io
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.provenance import provenance
from sasrec.data.packed import EvaluationSet, PackedSequences
from sasrec.data.simulated import Storefront
from sasrec.data.simulated.crowd import position_bias
from sasrec.data.simulated.logging_policy import SLOTS, PopularityPolicy, Served
from sasrec.data.vocabulary import Vocabulary
from sasrec.model.item_features import ItemFeatures
from sasrec.off_policy.policy import Policy
from sasrec.presets import preset
from sasrec.training.loop import train
from serving.engine.engine import Engine
from serving.engine.items import write_items
from serving.engine.live_items import FEW_IMPRESSIONS, LiveEngine
from serving.engine.recommendation import recommend
from serving.engine.request_history import History
from serving.schemas import RecommendRequest

RESULT = Path(__file__).parents[1] / "results" / "alive-launches.json"
HOURS = 24  # of a day; the simulator calls each of them a day
OPENING_DAYS, PLAYED_DAYS = 40, 6
USERS, SESSIONS_PER_DAY = 2500, 0.13
SHARE = 0.05
COLUMNS, BUCKETS = ["category", "title:words"], 1024
WAYS = {
    "new items on purpose": Policy("introduces", new_share=SHARE),
    "uniform exploration of the same size": Policy("explores", epsilon=SHARE),
    "neither": Policy("greedy"),
}


def play(seed: int) -> dict[str, Any]:
    """A row per way, all at the same shop from the same opening."""
    shop = Storefront(
        seed=seed,
        users=USERS,
        days=(OPENING_DAYS + PLAYED_DAYS) * HOURS,
        sessions_per_day=SESSIONS_PER_DAY / HOURS,
    )
    policy = PopularityPolicy(shop.crowd, np.random.default_rng(seed))
    for _ in range(OPENING_DAYS * HOURS):
        policy.learn(shop.run_day(policy))
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        _train(shop, model, seed)
        engine = Engine(model)
        return {name: _days(copy.deepcopy(shop), engine, way) for name, way in WAYS.items()}


def _train(shop: Storefront, folder: Path, seed: int) -> None:
    events, items = shop.events(), shop.items()
    known = np.flatnonzero(shop.catalogue.launch_day < shop.day)
    vocabulary = Vocabulary(shop.item_ids[number] for number in known)
    index = np.zeros(len(shop.item_ids), dtype=np.int64)
    index[known] = 1 + np.arange(len(known))
    lengths = np.bincount(events.user, minlength=USERS)
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    histories = PackedSequences(index[events.item], cu_seqlens, events.time)
    # The newest event of every fifth user is held out, and chooses the epoch.
    held_out = np.flatnonzero(lengths >= 3)[::5]
    kept = np.ones(len(events.item), dtype=bool)
    kept[cu_seqlens[held_out + 1] - 1] = False
    shorter = lengths.copy()
    shorter[held_out] -= 1
    cut = np.concatenate([[0], np.cumsum(shorter)]).astype(np.int32)
    training = PackedSequences(histories.items[kept], cut, histories.timestamps[kept])
    validation = EvaluationSet(
        "validation",
        [shop.user_ids[user] for user in held_out],
        training.select(held_out),
        histories.select(held_out, 1),
    )
    chosen = preset("default", seed=seed, feature_buckets=BUCKETS, dim=32, patience=3)
    with contextlib.redirect_stderr(io.StringIO()):
        result = train(
            training,
            validation,
            vocabulary,
            chosen.model,
            chosen.train,
            folder.parent / "run",
            item_features=ItemFeatures.of(items, vocabulary, columns=COLUMNS, buckets=BUCKETS),
        )
    result.recommender.save(folder)
    write_items(folder, vocabulary, items=items, interactions=shop.interactions())


class _Lists:
    """What the service would show, and what came of it.

    Attributes:
        shown: impressions by item id.
        first, thirtieth: hours of the shop until an item had one impression, and enough of them.
        clicks: the true click probability of every slot.
    """

    def __init__(self, shop: Storefront, engine: Engine, policy: Policy) -> None:
        self.shop, self.engine, self.policy = shop, engine, policy
        self.shown: Counter[str] = Counter()
        self.first: dict[str, int] = {}
        self.thirtieth: dict[str, int] = {}
        self.clicks: list[np.ndarray] = []
        self._number = {item_id: number for number, item_id in enumerate(shop.item_ids)}
        self._asked = 0

    def serve(self, users: np.ndarray, eligible: np.ndarray) -> Served:
        """Lists for `users` (n,); as `sasrec.data.simulated.storefront.Policy` has it."""
        engine = LiveEngine(self.engine, self._launched(), self.shown)
        events = self.shop.events()
        ends = np.searchsorted(events.user, users, side="right")
        starts = np.searchsorted(events.user, users, side="left")
        items = np.empty((len(users), SLOTS), dtype=np.int64)
        propensity = np.empty(items.shape)
        for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
            history = History(
                [self.shop.item_ids[number] for number in events.item[start:end]],
                events.time[start:end].tolist(),
            )
            self._asked += 1
            request = RecommendRequest.model_validate({"k": SLOTS, "request_id": f"r{self._asked}"})
            answer = recommend(engine, request, history, self.policy, candidates=200)
            items[row] = [self._number[item_id] for item_id in answer.item_ids]
            propensity[row] = answer.slate.propensities
            self._count(answer.item_ids)
        assert np.take_along_axis(eligible, items, axis=1).all()
        truth = np.take_along_axis(self.shop.crowd.click_probability(users), items, axis=1)
        self.clicks.append((truth * position_bias(SLOTS)).ravel())
        names = np.full(len(users), self.policy.name)
        return Served(items, propensity, np.zeros(items.shape, np.float32), names)

    def _launched(self) -> dict[str, dict[str, Any]]:
        """A record of each item that the model does not know and that is there, as of this hour."""
        launch = self.shop.catalogue.launch_day
        numbers = np.flatnonzero((launch >= OPENING_DAYS * HOURS) & (launch <= self.shop.day))
        return {
            self.shop.item_ids[number]: {
                "update_id": "launch",
                "item_id": self.shop.item_ids[number],
                "title": self.shop.catalogue.title[number],
                "category": self.shop.catalogue.category[number],
                "available": True,
                "created_at": None,
                "attributes": {},
                "deleted": False,
            }
            for number in numbers.tolist()
        }

    def _count(self, item_ids: list[str]) -> None:
        self.shown.update(item_ids)
        for item_id in item_ids:
            self.first.setdefault(item_id, self.shop.day)
            if self.shown[item_id] == FEW_IMPRESSIONS:
                self.thirtieth[item_id] = self.shop.day


def _days(shop: Storefront, engine: Engine, policy: Policy) -> dict[str, Any]:
    """The days with one policy. Launches of the last day have no whole day and do not count."""
    lists = _Lists(shop, engine, policy)
    opened = shop.day
    for _ in range(PLAYED_DAYS * HOURS):
        shop.run_day(lists.serve)
    launch = shop.catalogue.launch_day
    judged = np.flatnonzero((launch >= opened) & (launch <= shop.day - HOURS))
    first = [_hours(lists.first, shop, number) for number in judged.tolist()]
    thirtieth = [_hours(lists.thirtieth, shop, number) for number in judged.tolist()]
    return {
        "launches": len(judged),
        "thirty_within_a_day": float(np.mean([hours < HOURS for hours in thirtieth])),
        "hours_to_first_median": float(np.median(first)),
        "never_shown": float(np.mean(np.isinf(first))),
        "true_click_through": float(np.mean(np.concatenate(lists.clicks))),
        "slots": int(sum(map(len, lists.clicks))),
    }


def _hours(reached: dict[str, int], shop: Storefront, number: int) -> float:
    when = reached.get(shop.item_ids[number])
    return np.inf if when is None else float(when - shop.catalogue.launch_day[number])


def main(arguments: argparse.Namespace) -> None:
    """Play the seeds that are missing, then sum up all there are."""
    folder = RESULT.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        target = folder / f"seed{seed}.json"
        if not target.exists():
            result = {"seed": seed, "rows": play(seed), "provenance": provenance()}
            target.write_text(json.dumps(result, indent=1) + "\n")
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("seed*.json"))]
    summary: dict[str, Any] = {
        "seeds": [result["seed"] for result in results],
        "share": SHARE,
        "days": PLAYED_DAYS,
        "rows": {
            way: {
                figure: _over([result["rows"][way][figure] for result in results])
                for figure in results[0]["rows"][way]
            }
            for way in WAYS
        },
        "provenance": [result["provenance"] for result in results],
    }
    RESULT.write_text(json.dumps(summary, indent=1) + "\n")
    table = Table(title=f"launches at the simulated shop, seeds {summary['seeds']}")
    for column in ("way", "thirty impressions in a day", "hours to the first", "true CTR"):
        table.add_column(column)
    for way, row in summary["rows"].items():
        figures = ("thirty_within_a_day", "hours_to_first_median", "true_click_through")
        means = [row[figure]["mean"] for figure in figures]
        table.add_row(way, *("never" if mean is None else f"{mean:.4g}" for mean in means))
    Console().print(table)


def _over(values: list[float]) -> dict[str, Any]:
    """Over the seeds; a median that is infinite is written as a text, as JSON has no infinity."""
    if not np.isfinite(values).all():
        return {"mean": None, "values": [v if np.isfinite(v) else "never" for v in values]}
    return {"mean": float(np.mean(values)), "std": float(np.std(values)), "values": values}
