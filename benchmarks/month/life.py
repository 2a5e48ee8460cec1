"""The month, step by step: rounds of visits and refreshes by day, a run by night."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.server import Server
from benchmarks.faults.site import Site as ServedSite
from benchmarks.month.caller import Caller
from benchmarks.month.clock import ShopClock
from benchmarks.month.crowd import Crowd, Visits
from benchmarks.month.ledger import Ledger, compare
from benchmarks.month.references import References
from benchmarks.month.shop import DAY, HOUR, OPENING, Shop
from benchmarks.month.site import PROMOTED, Ended, MonthSite
from benchmarks.month.watch import Watch, watched
from sasrec.off_policy.calibration import reliability
from serving.security import create_keys

NIGHT = 3 * HOUR + HOUR // 2
WORKERS = 2
MARKS = (1, 30)  # impressions of a new item
SETTINGS = {
    # A machine that is shared is slow at times; what degrades is to be a misfortune.
    "SASREC_DEADLINE_SECONDS": "5",
}
Figures = dict[str, Any]


class Life:
    """One month of one seed, in one folder.

    Every step is written to `steps.jsonl` when it is done, so that a month that was stopped goes on
    where it was: what its visitors did is lived again in memory, from the lists they were shown.

    Attributes:
        shop, clock, site, crowd, ledger: the parts.
        server: while the service runs.
        forgotten: users who asked for it.
    """

    def __init__(self, folder: Path, shop: Shop, site: MonthSite, clock: ShopClock) -> None:
        self.folder, self.shop, self.site, self.clock = folder, shop, site, clock
        self.crowd = Crowd(shop, clock, shop.storefront.seed)
        self.ledger = Ledger(folder / "ledger.jsonl")
        self.rng = np.random.default_rng(shop.storefront.seed)
        self.forgotten: set[str] = set()
        self.server: Server
        self.caller: Caller
        self._watch: Watch | None = None
        self._looked = 0.0
        self._steps = folder / "steps.jsonl"
        self._lists = folder / "lists"
        self._lists.mkdir(exist_ok=True)
        self._impressions: dict[int, int] = {}

    # -- steps -------------------------------------------------------------------------------------

    @property
    def steps(self) -> dict[str, Figures]:
        """What every step that is done came to, by its name."""
        if not self._steps.exists():
            return {}
        return {s["step"]: s for s in map(json.loads, self._steps.read_text().splitlines())}

    def note(self, step: str, figures: Figures, **where: Any) -> None:
        """Write that a step is done."""
        if self._watch is not None:
            now = time.monotonic()
            figures["alerts"] = self._watch.fired_within(now - self._looked)
            self._looked = now
        with self._steps.open("a") as file:
            file.write(json.dumps({"step": step, **where, **figures}) + "\n")

    def open(self) -> None:
        """Sell for a while, import that, and train the first model."""
        self.shop.open(self.site.data)
        if "opening" in self.steps:
            return
        create_keys(self.site.home / "api_keys.json")
        self.clock.move_to(OPENING + NIGHT)
        ended = self.site.run("opening", "--dataset", str(self.site.data))
        if ended.status != PROMOTED:
            raise RuntimeError(f"the opening run ended with {ended.status}: {ended.last_line}")
        figures = self.of_run("opening", ended) | {"version": self.site.champion}
        self.note("opening", figures, kind="night", day=-1)

    @contextmanager
    def serve(self, *, watch: bool) -> Iterator[None]:
        """Within, the service is there, and the crowd's client.

        Args:
            watch: also start Prometheus, and note which alerts fire.
        """
        key = create_keys(self.site.home / "api_keys.json").admin[0]
        self.server = Server(
            ServedSite(self.site.home, key),
            self.site.logs / "service.log",
            workers=WORKERS,
            settings=SETTINGS | self.clock.environment | {"TMPDIR": str(self.site.temporary)},
        )
        self.caller = Caller(self.server.url, key, self.ledger)
        self.references = References(
            self.shop.storefront, self.site.store.path(self.steps["opening"]["version"])
        )
        with ExitStack() as stack:
            stack.enter_context(self.server)
            stack.callback(self.caller.close)
            if watch:
                self._watch = stack.enter_context(watched(self.site, self.server.url))
            self._looked = time.monotonic()
            yield

    # -- a round of visits -------------------------------------------------------------------------

    def relive(self, day: int, number: int) -> None:
        """A round that was lived before this process began."""
        lists = np.load(self._lists / f"{self.shop.tick(day, number)}.npy")
        self._count(self.shop.tick(day, number), lists)
        self.crowd.replay(lists)

    def visits(self, meanwhile: Callable[[], None] = lambda: None) -> Visits:
        """The crowd comes once, before the service as it is."""
        return self.crowd.visit(self.caller, self.references, meanwhile)

    def round(self, day: int, number: int, lived: Callable[["Life"], Figures]) -> None:
        """Move the clock to a round, launch what is new, and let `lived` let the crowd come."""
        tick = self.shop.tick(day, number)
        self.clock.move_to(self.shop.begins(day, number))
        self.caller.change_items([self.shop.item(new) for new in self.shop.launched_in(tick)])
        statuses, degraded = self.caller.statuses.copy(), self.caller.degraded.copy()
        failed, started = self.caller.failed, time.monotonic()
        told = lived(self)
        visits: Visits = told.pop("visits")
        np.save(self._lists / f"{tick}.npy", visits.lists)
        reached = self._count(tick, visits.lists)
        promised, truth = visits.calibration
        self.note(
            f"day {day} round {number}",
            {
                "lists": len(visits.lists),
                "click_through": {
                    name: {"slots": len(of), "mean": float(np.mean(of)) if of else 0.0}
                    for name, of in visits.click_through.items()
                },
                "promised": float(promised.mean()) if len(promised) else None,
                "calibration_error": reliability(promised, truth).ece if len(promised) else None,
                "items_shown": len(np.unique(visits.lists)),
                "items_launched": len(self.shop.launched_until(tick)),
                "launched": len(self.shop.launched_in(tick)),
                "new_items": reached,
                "disliked_shown": visits.disliked,
                "withdrawn_shown": visits.withdrawn,
                "answers": dict(self.caller.statuses - statuses),
                "degraded": dict(self.caller.degraded - degraded),
                "failed": self.caller.failed - failed,
                "seconds": time.monotonic() - started,
                **told,
            },
            kind="round",
            day=day,
        )

    def _count(self, tick: int, lists: np.ndarray) -> list[dict[str, int]]:
        """Count impressions of what was launched in the month; who reached a mark, and when.

        Returns:
            A row for each item and mark: which, and rounds since its launch.
        """
        launched = self.shop.storefront.catalogue.launch_day
        first = self.shop.tick(0, 0)
        reached = []
        for item, shown in zip(*np.unique(lists, return_counts=True), strict=True):
            if launched[item] < first:
                continue
            before = self._impressions.get(int(item), 0)
            self._impressions[int(item)] = before + int(shown)
            reached += [
                {"item": int(item), "impressions": mark, "rounds": int(tick - launched[item])}
                for mark in MARKS
                if before < mark <= before + shown
            ]
        return reached

    # -- runs --------------------------------------------------------------------------------------

    def of_run(self, name: str, ended: Ended) -> Figures:
        """What a run of the pipeline came to."""
        stages = self.site.stages(name)
        return {
            "status": ended.status,
            "said": ended.last_line,
            "nothing_new": "nothing new in" in ended.output,
            "seconds": ended.seconds,
            "cpu_seconds": ended.cpu_seconds,
            "stage_seconds": {stage: of["seconds"] for stage, of in stages.items()},
            "peak_memory_mib": max((of["peak_memory_mib"] for of in stages.values()), default=0),
        }

    def night(self, name: str, *extra: str) -> Figures:
        """A run as the schedule has it, and whether it learned from what was acknowledged."""
        return self.after_run(name, self.site.run(name, *extra))

    def after_run(self, name: str, ended: Ended) -> Figures:
        """As `night`, of a run that has ended."""
        figures = self.of_run(name, ended)
        if any((self.site.runs / name).glob("artifacts/*/ingest/interactions")):
            compared = compare(self.site.runs / name, self.site.data, self.ledger, self.forgotten)
            figures["ledger"] = compared.__dict__ | {"exact": compared.exact}
        return figures

    def end_day(self, day: int, lived: Callable[["Life", str], Figures]) -> None:
        """Move the clock to the night, let `lived` run the pipeline, and look at what has grown."""
        self.clock.move_to(OPENING + (day + 1) * DAY + NIGHT)
        name = f"night-{day:02d}"
        figures = lived(self, name)
        figures["disk"] = self.site.sizes()
        figures["counts"] = self.counts()
        figures["workers"] = self.workers()
        self.note(f"day {day} night", figures, kind="night", day=day)

    def refresh(self, day: int, number: int) -> None:
        """A quick run between two rounds."""
        name = f"refresh-{day:02d}-{number}"
        figures = self.night(name, "--refresh")
        self.note(f"day {day} refresh {number}", figures, kind="refresh", day=day)

    def close(self) -> None:
        """The service has ended: look at what is left, and where forgotten users still are."""
        left = sorted(path.name for path in self.site.temporary.iterdir())
        traces = {user: self.site.places_of(user) for user in sorted(self.forgotten)}
        self._watch = None
        self.note("closing", {"temporary": left, "traces": traces}, kind="closing")

    # -- what it costs and what grows --------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """How many there are of what a site keeps many of."""
        home = self.site.home
        return {
            "versions": len(self.site.store.versions()),
            "generations": len(list((home / "feature_store" / "generations").iterdir())),
            "segments": len(list((home / "event_log").glob("*.log"))),
            "runs": len(list(self.site.runs.iterdir())),
            "trainings": len(list((home / "training").iterdir())),
        }

    def workers(self) -> dict[str, dict[str, float]]:
        """CPU seconds since its start and memory in MiB of each worker, by its process."""
        return {
            str(worker.pid): {
                "cpu_seconds": round(sum(worker.cpu_times()[:2]), 1),
                "memory_mib": round(worker.memory_info().rss / 2**20, 1),
            }
            for worker in self.server.workers()
        }
