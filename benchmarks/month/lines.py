"""What a month showed: each line with its figure."""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.month.references import BEST, NO_RETRAINING, POPULARITY
from benchmarks.month.shop import DAY, FIRST_VISITS, HOUR
from benchmarks.month.site import HELD, PROMOTED

Step = dict[str, Any]
SERVICE = "the service"
TEAMS = (SERVICE, POPULARITY, NO_RETRAINING, BEST)
SETTLED = 2  # nights after which memory is compared


def summarise(steps: Iterable[Step], *, rounds_a_day: int) -> dict[str, Any]:
    """All figures of a month that is over, or of the days that are.

    Args:
        steps: as `Life.steps` has them.
        rounds_a_day: rounds of visits.
    """
    steps = list(steps)
    rounds = [step for step in steps if step["kind"] == "round"]
    runs = [step for step in steps if step["kind"] in ("night", "refresh")]
    nights = [step for step in runs if "disk" in step]
    days = sorted({step["day"] for step in rounds})
    return {
        "days": len(days),
        "events": _events(runs),
        "requests": _requests(rounds),
        "runs": _outcomes(runs),
        "misfortunes": _misfortunes(steps),
        "by_day": [_day([step for step in rounds if step["day"] == day]) for day in days],
        "new_items": _new_items(rounds, hours=(DAY - FIRST_VISITS) / HOUR / rounds_a_day),
        "disk": _disk(nights),
        "memory": _memory(nights, runs),
        "bill": _bill(rounds, runs, nights),
        "alerts": _alerts(steps),
        "left": next((step for step in steps if step["kind"] == "closing"), {}),
    }


def lines(summary: dict[str, Any]) -> list[str]:
    """The summary for people: a line for each thing that a month must show."""
    events, requests, runs = summary["events"], summary["requests"], summary["runs"]
    disk, memory, bill = summary["disk"], summary["memory"], summary["bill"]
    days = summary["by_day"]
    said = [
        f"{summary['days']} days",
        f"events: {events['acknowledged']:,} expected by the last run; of {events['runs']} runs "
        f"the worst has {events['lost']} lost, {events['twice']} twice, {events['unknown']} "
        f"unknown, {events['of_forgotten']} of forgotten users",
        f"lists: {requests['lists']:,} asked for, {requests['failed']} never got, "
        f"{sum(requests['degraded'].values())} degraded, {requests['disliked_shown']} slots of "
        f"disliked and {requests['withdrawn_shown']} of withdrawn items",
        f"runs: {runs['promoted']} promoted, {runs['held']} held, {runs['nothing_new']} with "
        f"nothing new, {runs['skipped']} skipped, {runs['failed']} failed",
        *(
            f"{m['step']}, {m['misfortune']}: "
            + ", ".join(
                f"{what}: {'yes' if kept else 'NO'}" for what, kept in m["promises"].items()
            )
            for m in summary["misfortunes"]
        ),
        "true click-through: "
        + ", ".join(
            f"{team} {np.mean([d['click_through'][team] for d in days]):.4f}" for team in TEAMS
        ),
        f"new items: {_hours(summary['new_items'])}",
        f"coverage {days[0]['coverage']:.2f} on the first day, {days[-1]['coverage']:.2f} on the "
        f"last; calibration error {_said(days[-1]['calibration_error'], 4)} on the last",
    ]
    if disk:
        said.append(
            f"disk: {disk['last_mib']:.0f} MiB after the last night, {disk['mib_per_day']:+.2f} a "
            "day in the second half: "
            + ", ".join(f"{part} {slope:+.2f}" for part, slope in disk["mib_per_day_of"].items())
        )
        said.append(
            f"left in the temporary folder: {summary['left'].get('temporary') or 'nothing'}"
        )
        said.append(
            f"memory: {_said(memory['worker_mib_per_day'], 2)} MiB a day and worker, at most "
            f"{memory['worker_mib']:.0f}; runs at most {memory['run_mib']:.0f}"
        )
    said.append(
        f"bill: {_said(bill['cpu_seconds_of_night'])} CPU seconds a night, "
        f"{_said(bill['cpu_seconds_of_refresh'])} a refresh, the service "
        f"{_said(bill['cpu_hours_per_million_lists'], 1)} hours per million lists with their events"
    )
    if summary["alerts"]:
        said.append(f"alerts: {summary['alerts']}")
    return said


def promises(summary: dict[str, Any]) -> dict[str, bool]:
    """Everything that was promised, and whether it held."""
    events, requests, runs = summary["events"], summary["requests"], summary["runs"]
    return {
        "every acknowledged event is in training exactly once": events["exact"],
        "every visitor got a list": requests["failed"] == 0,
        "nobody was shown what they dislike": requests["disliked_shown"] == 0,
        "nothing withdrawn was shown": requests["withdrawn_shown"] == 0,
        "no run failed": runs["failed"] == 0,
        "nothing is left in the temporary folder": not summary["left"].get("temporary"),
        "a forgotten user is in no file": not any(summary["left"].get("traces", {}).values()),
    } | {
        f"{m['misfortune']}: {what}": kept
        for m in summary["misfortunes"]
        for what, kept in m["promises"].items()
    }


def _events(runs: list[Step]) -> dict[str, Any]:
    compared = [run["ledger"] for run in runs if "ledger" in run]
    counts = {
        name: max((one[name] for one in compared), default=0)
        for name in ("lost", "twice", "unknown", "of_forgotten")
    }
    return {
        "runs": len(compared),
        "acknowledged": compared[-1]["expected"] if compared else 0,
        "exact": all(one["exact"] for one in compared),
        **counts,
    }


def _requests(rounds: list[Step]) -> dict[str, Any]:
    def added(name: str) -> dict[str, int]:
        return dict(sum((Counter(step[name]) for step in rounds), Counter()))

    return {
        "answers": added("answers"),
        "degraded": added("degraded"),
        **{
            name: sum(step[name] for step in rounds)
            for name in ("lists", "failed", "disliked_shown", "withdrawn_shown")
        },
    }


def _outcomes(runs: list[Step]) -> dict[str, Any]:
    def named(run: Step) -> str:
        if run["status"] is None:
            return "skipped"
        if run["nothing_new"]:
            return "nothing_new"
        return {PROMOTED: "promoted", HELD: "held"}.get(run["status"], "failed")

    counts = Counter(map(named, runs))
    held = [
        {"step": run["step"], "misfortune": run.get("misfortune"), "why": run["said"]}
        for run in runs
        if named(run) in ("held", "failed")
    ]
    return {
        name: counts[name] for name in ("promoted", "held", "nothing_new", "skipped", "failed")
    } | {"not_promoted": held}


def _misfortunes(steps: list[Step]) -> list[Step]:
    kept = (
        "step", "misfortune", "promises", "seconds_to_recover", "load_lists", "load_failed",
        "load_degraded", "killed_in", "reason", "refused_with", "warm_start",
    )  # fmt: skip
    return [
        {name: step[name] for name in kept if name in step}
        for step in steps
        if "misfortune" in step
    ]


def _day(rounds: list[Step]) -> dict[str, Any]:
    slots = {team: sum(s["click_through"][team]["slots"] for s in rounds) for team in TEAMS}
    promised = [step for step in rounds if step["calibration_error"] is not None]
    return {
        "day": rounds[0]["day"],
        "lists": sum(step["lists"] for step in rounds),
        "click_through": {
            team: sum(
                s["click_through"][team]["mean"] * s["click_through"][team]["slots"] for s in rounds
            )
            / max(1, slots[team])
            for team in TEAMS
        },
        "coverage": max(step["items_shown"] / step["items_launched"] for step in rounds),
        "calibration_error": _mean(step["calibration_error"] for step in promised),
    }


def _new_items(rounds: list[Step], hours: float) -> dict[str, Any]:
    reached = [row for step in rounds for row in step["new_items"]]
    marks = sorted({row["impressions"] for row in reached})
    return {
        "launched": sum(step["launched"] for step in rounds),
        "reached": {
            mark: {
                "items": sum(row["impressions"] == mark for row in reached),
                "median_hours": float(
                    np.median(
                        [row["rounds"] * hours for row in reached if row["impressions"] == mark]
                    )
                ),
            }
            for mark in marks
        },
    }


def _hours(new: dict[str, Any]) -> str:
    return f"{new['launched']} launched; " + ", ".join(
        f"impression {mark} by {of['items']}, after {of['median_hours']:.0f} h (median)"
        for mark, of in new["reached"].items()
    )


def _disk(nights: list[Step]) -> dict[str, Any]:
    if not nights:
        return {}
    half = nights[len(nights) // 2 :]
    parts = {part for night in nights for part in night["disk"]}
    slopes = {
        part: _slope([n["disk"].get(part, 0) / 2**20 for n in half]) for part in sorted(parts)
    }
    return {
        "last_mib": sum(nights[-1]["disk"].values()) / 2**20,
        "mib_per_day": sum(slopes.values()),
        "mib_per_day_of": slopes,
        "counts": [night["counts"] for night in nights],
    }


def _memory(nights: list[Step], runs: list[Step]) -> dict[str, Any]:
    """Of workers that lived from one night to the next, once they had settled."""
    grown, most, seen = [], 0.0, Counter[str]()
    for before, after in pairwise(nights):
        for pid, worker in after["workers"].items():
            most = max(most, worker["memory_mib"])
            seen[pid] += 1
            if pid in before["workers"] and seen[pid] > SETTLED:
                grown.append(worker["memory_mib"] - before["workers"][pid]["memory_mib"])
    return {
        "worker_mib_per_day": _mean(grown),
        "worker_mib": most,
        "run_mib": max((run.get("peak_memory_mib", 0) for run in runs), default=0),
    }


def _bill(rounds: list[Step], runs: list[Step], nights: list[Step]) -> dict[str, float | None]:
    """CPU seconds; the service's while it served, without those in which it started."""
    spent, asked = 0.0, 0
    for before, after in pairwise(nights):
        lived = before["workers"].keys() & after["workers"].keys()
        if len(lived) < len(after["workers"]):
            continue  # one of them started in between
        spent += sum(
            after["workers"][pid]["cpu_seconds"] - before["workers"][pid]["cpu_seconds"]
            for pid in lived
        )
        asked += sum(
            step["lists"] + step.get("load_lists", 0)
            for step in rounds
            if step["day"] == after["day"]
        )

    def of(kind: str) -> float | None:
        return _mean(
            run["cpu_seconds"]
            for run in runs
            if run["kind"] == kind and run["day"] >= 0 and run["status"] is not None
        )

    return {
        "cpu_seconds_of_night": of("night"),
        "cpu_seconds_of_refresh": of("refresh"),
        "cpu_hours_per_million_lists": spent / asked * 1e6 / 3600 if asked else None,
    }


def _alerts(steps: list[Step]) -> dict[str, list[str]]:
    fired: dict[str, list[str]] = {}
    for step in steps:
        for alert in step.get("alerts", []):
            fired.setdefault(alert, []).append(step["step"])
    return fired


def _mean(values: Iterable[float]) -> float | None:
    some = list(values)
    return float(np.mean(some)) if some else None


def _said(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _slope(values: list[float]) -> float:
    if len(values) < 2:
        return 0.0
    return float(np.polyfit(np.arange(len(values)), values, 1)[0])
