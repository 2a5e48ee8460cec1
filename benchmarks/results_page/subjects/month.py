"""What came of days that were lived, with what went wrong on them."""

from benchmarks.results_page.files import read, source
from benchmarks.results_page.table import Row, Subject, number


def lived() -> Subject:
    """The promises of a month, and how the lists did."""
    record = read("month-week")
    said, events = source(record), record["events"]
    runs, requests, disk = record["runs"], record["requests"], record["disk"]
    days, new, bill = record["by_day"], record["new_items"], record["bill"]
    rows = [
        Row(
            f"events lost, twice, unknown, of forgotten users: the worst of {events['runs']} runs",
            f"{events['lost']}, {events['twice']}, {events['unknown']}, {events['of_forgotten']} "
            f"of {events['acknowledged']:,}",
            said,
        ),
        Row(
            "lists that a visitor never got; that were degraded",
            f"{requests['failed']}; {sum(requests['degraded'].values())} of {requests['lists']:,}",
            said,
        ),
        Row(
            "runs promoted, held, skipped, failed",
            ", ".join(str(runs[name]) for name in ("promoted", "held", "skipped", "failed")),
            said,
        ),
        *(
            Row(
                f"{misfortune['step']}, {misfortune['misfortune']}: {promise}",
                "yes" if kept else "no",
                said,
            )
            for misfortune in record["misfortunes"]
            for promise, kept in misfortune["promises"].items()
        ),
        *(
            Row(
                f"true click-through, {team}",
                number(sum(day["click_through"][team] for day in days) / len(days)),
                said,
            )
            for team in days[0]["click_through"]
        ),
        Row(
            f"of {new['launched']} new items shown at all; 30 times",
            "; ".join(str(new["reached"][mark]["items"]) for mark in ("1", "30")),
            said,
        ),
        Row("MiB on the disk after the last night", number(disk["last_mib"]), said),
        Row(
            "of them MiB in runs' folders, a day more", number(disk["mib_per_day_of"]["runs"]), said
        ),
        Row("MiB a day more of each worker", number(record["memory"]["worker_mib_per_day"]), said),
        Row("CPU seconds of a night's run", number(bill["cpu_seconds_of_night"]), said),
        Row("CPU seconds of a refresh", number(bill["cpu_seconds_of_refresh"]), said),
        Row("alerts that fired", ", ".join(sorted(record["alerts"])), said),
    ]
    return Subject(
        "Days that were lived",
        f"One seed, {len(days)} days of a small simulated shop on a clock of its own, two rounds "
        "of visits a day, a small model and a single gate; `python -m benchmarks.month`.",
        rows,
        notes="The events that are missing are the bot's: a hundred of one request had one moment, "
        "and of equal events at one moment cleaning keeps one. It was mended after these days, as "
        "was what the quality exporter left in the temporary folder. The service explores, the "
        "references do not, and a day has eighty lists: its click-through says little. Memory grew "
        "with the versions that workers loaded; whether that ends a week cannot say. What a team "
        "takes from it is in [operations](operations.md).",
    )
