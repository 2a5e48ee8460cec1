"""What goes wrong, by the names in schedule.yaml; each says which of its promises held.

Those of a day take the place of its first round, those of a night the place of its run.
"""

import json
import random
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.faults.damage import flipped_byte
from benchmarks.faults.load import Load
from benchmarks.month.ledger import NEGATIVE
from benchmarks.month.life import Figures, Life
from benchmarks.month.shop import HOUR
from benchmarks.month.site import BAD_INPUT, HELD, PROMOTED, Ended
from sasrec.data.schema import TIMESTAMP

PATIENCE = 120.0
BOT, BOT_EVENTS = "bot", 1000
LISTS_OF_BOT_DAY = 5


# -- by day ----------------------------------------------------------------------------------------


def plain_day(life: Life) -> Figures:
    """Nothing goes wrong."""
    return {"visits": life.visits()}


def worker_killed(life: Life) -> Figures:
    """kill -9 of one worker while lists are asked for."""
    killed = 0.0

    def kill() -> None:
        nonlocal killed
        random.Random(life.shop.storefront.day).choice(life.server.workers()).kill()
        killed = time.monotonic()

    with Load(life.server, callers=2, pause=0.05) as load:
        visits = life.visits(kill)
        _until(lambda: len(life.server.workers()) == 2, "a new worker")
        life.server.wait_for_workers()
        back = time.monotonic()
    return {
        "visits": visits,
        "misfortune": "worker-killed",
        "seconds_to_recover": back - killed,
        **_of_load(load, killed),
        "promises": {"every visitor got a list": life.caller.failed == 0},
    }


def clock_ahead(life: Life) -> Figures:
    """One client's clock is two hours ahead."""
    visits = life.visits()
    claimed = datetime.fromtimestamp((life.clock.now() + 2 * HOUR) / 1e6, UTC)
    user, items = life.shop.storefront.user_ids[0], life.shop.storefront.item_ids[:3]
    life.caller.tell(
        [
            {
                "event_id": f"ahead-{item}",
                "user_id": user,
                "item_id": item,
                "event_type": "lookup",
                "timestamp": claimed.isoformat(),
            }
            for item in items
        ]
    )
    answer = life.caller.recommend(user, 100)
    shown = {slot["item_id"] for slot in answer["items"]} if answer else set(items)
    return {
        "visits": visits,
        "misfortune": "clock-ahead",
        "promises": {"what it sent counts at once": not shown.intersection(items)},
    }


def rollback(life: Life) -> Figures:
    """Somebody takes the champion back by hand."""
    before, previous = life.site.champion, life.site.store.aliases().previous
    ended = life.site.command("serving.registry", "rollback", "--why", "looked odd")
    asked = time.monotonic()
    _until(lambda: _served_by(life) == {previous}, "the previous version")
    return {
        "misfortune": "rollback",
        "seconds_to_recover": time.monotonic() - asked,
        "visits": life.visits(),
        "promises": {
            "the command succeeds": ended.status == 0,
            "the version before serves": life.site.champion == previous != before,
        },
    }


def champion_rots(life: Life) -> Figures:
    """A bit of the champion flips on the disk, and a worker has to start from it."""
    champion, previous = life.site.champion, life.site.store.aliases().previous
    flipped_byte(life.site.store.path(champion))
    life.server.workers()[0].kill()
    with Load(life.server, callers=2, pause=0.05) as load:
        visits = life.visits()
        _until(lambda: len(life.server.workers()) == 2, "a new worker")
        life.server.wait_for_workers()
        _until(lambda: previous in _served_by(life), "the version before, from the new worker")
    said = life.site.command("serving.registry", "verify", champion)
    life.site.command("serving.registry", "rollback", "--why", "its disk rotted")
    return {
        "visits": visits,
        "misfortune": "champion-rots",
        **_of_load(load, 0.0),
        "promises": {
            "the new worker serves the version before": True,
            "verify says so": said.status == BAD_INPUT,
            "every visitor got a list": life.caller.failed == 0,
        },
    }


def bot(life: Life) -> Figures:
    """One user makes a thousand events in a minute."""
    items = life.shop.storefront.item_ids
    rng = random.Random(1)
    started = time.monotonic()
    for number in range(0, BOT_EVENTS, 100):
        life.caller.tell(
            [
                {
                    "event_id": f"bot-{number + place}",
                    "user_id": BOT,
                    "item_id": rng.choice(items[:20]),
                    "event_type": "lookup",
                }
                for place in range(100)
            ]
        )
    took = time.monotonic() - started
    return {"visits": life.visits(), "misfortune": "bot", "bot_seconds": took, "promises": {}}


def forgotten(life: Life) -> Figures:
    """A user asks to be forgotten."""
    visits = life.visits()
    events = life.ledger.events()
    user = next(e["user_id"] for e in reversed(events) if e["event_type"] != NEGATIVE)
    life.crowd.gone.add(user)
    ended = life.site.command("feature_repo.forget", user)
    life.forgotten.add(user)
    return {
        "visits": visits,
        "misfortune": "forgotten",
        "forgotten": user,
        "promises": {"the command says that nothing is left": ended.status == 0},
    }


def withdrawn(life: Life) -> Figures:
    """What sells best is withdrawn for a round."""
    before = life.visits  # the round itself shows that it is in no list
    counts = np.bincount(life.shop.storefront.events().item)
    best = life.shop.storefront.item_ids[int(counts.argmax())]
    life.caller.withdraw([best])
    life.crowd.withdrawn.add(best)
    time.sleep(1.0)  # every worker looks four times a second
    return {"visits": before(), "misfortune": "withdrawn", "promises": {}}


def trend(life: Life) -> Figures:
    """Everybody wants five things that few wanted before."""
    appeal = life.shop.storefront.catalogue.appeal
    appeal[np.argsort(appeal)[:5]] += 5.0
    return {"visits": life.visits(), "misfortune": "trend", "promises": {}}


# -- by night --------------------------------------------------------------------------------------


def plain_night(life: Life, name: str) -> Figures:
    """The run of the schedule."""
    return life.night(name)


def pipeline_killed(life: Life, name: str) -> Figures:
    """kill -9 of the run at a random instant; then the same command again."""
    usual = life.steps["opening"]["seconds"]
    after = float(np.random.default_rng(life.shop.storefront.day).uniform(0.15, 0.7)) * usual
    running = life.site.start_run(name)
    running.kill_after(after)
    killed = running.wait()
    stages = life.site.stages(name)
    figures = life.night(name)
    return figures | {
        "misfortune": "pipeline-killed",
        "killed_after_seconds": after,
        "killed_in": next((s for s, of in stages.items() if of["status"] != "done"), None),
        "cpu_seconds": figures["cpu_seconds"] + killed.cpu_seconds,
        "promises": {"the same command ends well": figures["status"] in (PROMOTED, HELD)},
    }


def skipped(life: Life, name: str) -> Figures:
    """Nobody starts the run."""
    return {"misfortune": "skipped", "status": None, "cpu_seconds": 0.0, "promises": {}}


def broken_file(life: Life, name: str) -> Figures:
    """The night imports a file whose last row was cut; then it runs without it."""
    broken = life.folder / "broken.csv"
    broken.write_text("user_id,item_id,timestamp\nu00001,i00001,2030-01-02T00:00:00Z\nu00001,i0")
    before = life.site.store.aliases()
    refused = life.site.run(f"{name}-broken", "--dataset", str(broken))
    same = life.site.store.aliases() == before
    return life.night(name) | {
        "misfortune": "broken-file",
        "refused_with": refused.last_line,
        "promises": {
            "refused as bad input": refused.status == BAD_INPUT,
            "in one line that names the file": _one_line_about(refused, broken.name),
            "nothing else changed": same,
        },
    }


def bad_model(life: Life, name: str) -> Figures:
    """A model trained on shuffled histories is offered to the gate."""
    champion = life.site.champion
    running = life.site.start_run(name)
    deadline = time.monotonic() + PATIENCE
    while life.site.stages(name).get("extract_sequences", {}).get("status") != "done":
        assert time.monotonic() < deadline, "the run extracts no sequences"
        time.sleep(0.01)
    running.signal(signal.SIGSTOP)
    [items] = (life.site.runs / name).glob(
        "artifacts/*/extract-sequences/sequences/train/items.npy"
    )
    shuffled = np.lib.format.open_memmap(items, mode="r+")
    np.random.default_rng(0).shuffle(shuffled)
    shuffled.flush()
    running.signal(signal.SIGCONT)
    figures = life.after_run(name, running.wait())
    verdict = json.loads((life.site.runs / name / "verdict.json").read_text())
    return figures | {
        "misfortune": "bad-model",
        "reason": [gate["gate"] for gate in verdict["results"] if gate["passed"] is False],
        "promises": {
            "the gate holds it": figures["status"] == HELD,
            "the champion stays": life.site.champion == champion,
        },
    }


def another_architecture(life: Life, name: str) -> Figures:
    """The team makes the model wider, and a warm start is asked for all the same."""
    figures = life.night(name, "--set=model.dim=48", "--set=train.warm_start=champion")
    summary = json.loads((life.site.runs / name / "summary.json").read_text())
    return figures | {
        "misfortune": "another-architecture",
        "warm_start": summary["training"]["warm_start"],
        "promises": {
            "the run ends with a verdict": figures["status"] in (PROMOTED, HELD),
            "and says why it began from scratch": "scratch" in summary["training"]["warm_start"],
        },
    }


def wider_schema(life: Life, name: str) -> Figures:
    """The shop's export has one more column, and some events that its till made."""
    folder = life.folder / "wider"
    folder.mkdir(exist_ok=True)
    moment = life.clock.now() - HOUR
    shop = life.shop.storefront
    rows = [
        {
            "user_id": user,
            "item_id": shop.item_ids[n % len(shop.item_ids)],
            "timestamp": moment + n,
            "event_type": "purchase",
            "store": f"till-{n % 3}",
        }
        for n, user in enumerate(shop.user_ids[:50])
        if user not in life.forgotten
    ]
    table = pa.Table.from_pylist(rows)
    place = table.column_names.index("timestamp")
    table = table.set_column(place, "timestamp", table["timestamp"].cast(TIMESTAMP))
    pq.write_table(table, folder / "interactions.parquet")
    life.ledger.note({"event_id": f"till-{n}", **row} for n, row in enumerate(rows))
    figures = life.night(name, "--dataset", str(folder))
    return figures | {
        "misfortune": "wider-schema",
        "promises": {"the run ends with a verdict": figures["status"] in (PROMOTED, HELD)},
    }


BY_DAY: dict[str | None, Callable[[Life], Figures]] = {
    None: plain_day,
    "worker-killed": worker_killed,
    "clock-ahead": clock_ahead,
    "rollback": rollback,
    "champion-rots": champion_rots,
    "bot": bot,
    "forgotten": forgotten,
    "withdrawn": withdrawn,
    "trend": trend,
}
BY_NIGHT: dict[str | None, Callable[[Life, str], Figures]] = {
    None: plain_night,
    "pipeline-killed": pipeline_killed,
    "skipped": skipped,
    "broken-file": broken_file,
    "bad-model": bad_model,
    "another-architecture": another_architecture,
    "wider-schema": wider_schema,
}


# -- looking ---------------------------------------------------------------------------------------


def _until(reached: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s in vain for {what}"
        time.sleep(0.1)


def _served_by(life: Life) -> set[str]:
    """Versions that answered some requests, each over a connection of its own."""
    lists = (life.caller.recommend("somebody", 1) for _ in range(8))
    return {answer["model_version"] for answer in lists if answer}


def _of_load(load: Load, since: float) -> Figures:
    answers = load.since(since)
    return {
        "load_lists": len(answers),
        "load_failed": sum(answer.status != 200 for answer in answers),
        "load_degraded": sum(answer.degraded is not None for answer in answers),
    }


def _one_line_about(ended: Ended, name: str) -> bool:
    errors = [line for line in ended.output.splitlines() if line.startswith("error:")]
    return len(errors) == 1 and name in errors[0] and "Traceback" not in ended.output
