"""A month of a shop, as its team would live it, and what held.

python -m benchmarks.month --folder var/month
python -m benchmarks.month --folder var/week --schedule week --seed 1

A month that was stopped goes on where it was. It needs a C compiler, for the shop's clock.
"""

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import yaml

from benchmarks.month.clock import ShopClock
from benchmarks.month.life import Life
from benchmarks.month.lines import lines, promises, summarise
from benchmarks.month.misfortunes import BY_DAY, BY_NIGHT
from benchmarks.month.plot import draw
from benchmarks.month.shop import Shop, Size
from benchmarks.month.site import MonthSite
from benchmarks.provenance import provenance

SCHEDULES = yaml.safe_load(Path(__file__).with_name("schedule.yaml").read_text())
COMMON = ("events.roles.dislike=negative",)
SMALL = (
    *COMMON,
    "model.dim=32",
    "model.blocks=1",
    "model.max_length=50",
    "train.epochs=2",
    "train.learning_rate=0.01",
    "train.batch_tokens=512",
)
# A shop of some hundred users can show nothing within the bounds of real ones.
SMALL_GATES = """
gates:
  - name: accuracy floor
    check: metric_bound
    metric: ndcg@10
    minimum: 0.03
    when_missing: refuse
"""


class Form(StrEnum):
    """Which misfortunes, by the names in schedule.yaml; the shop is as large as they need."""

    MONTH = "month"
    WEEK = "week"
    SHORT = "short"


@dataclass(frozen=True)
class Plan:
    """How a form is lived.

    Attributes:
        settings: `--set` of every run.
        gates: what a model must show; the project's own when absent.
        refresh_every: days from one day with a refresh to the next; 0 for none.
        watched: whether Prometheus is there.
    """

    size: Size
    settings: tuple[str, ...] = COMMON
    gates: str | None = None
    refresh_every: int = 1
    watched: bool = True


PLANS = {
    Form.MONTH: Plan(Size(users=2500, history_days=40, days=30, ticks=4)),
    Form.WEEK: Plan(
        Size(users=600, history_days=30, days=7, ticks=2),
        settings=(*SMALL, "train.epochs=6"),
        gates=SMALL_GATES,
        refresh_every=3,
    ),
    Form.SHORT: Plan(
        Size(users=300, history_days=20, days=3, ticks=1),
        settings=SMALL,
        gates=SMALL_GATES.replace("0.03", "0"),
        refresh_every=0,
        watched=False,
    ),
}


def live(folder: Path, form: Form, plan: Plan, seed: int) -> Life:
    """Live a month, or what of it is not lived yet."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    gates = folder / "gates.yaml" if plan.gates else None
    if gates:
        gates.write_text(str(plan.gates))
    clock = ShopClock(folder / "clock")
    site = MonthSite(folder, clock, plan.settings, gates)
    life = Life(folder, Shop(plan.size, seed), site, clock)
    life.open()
    with life.serve(watch=plan.watched):
        for day in range(plan.size.days):
            refreshed = plan.refresh_every > 0 and day % plan.refresh_every == 0
            live_day(life, day, SCHEDULES[form].get(day, {}), refreshed=refreshed)
    life.close()
    return life


def live_day(life: Life, day: int, planned: dict[str, str], *, refreshed: bool) -> None:
    """A day and its night."""
    rounds = life.shop.size.ticks
    for number in range(rounds):
        if f"day {day} round {number}" in life.steps:
            life.relive(day, number)
        else:
            life.round(day, number, BY_DAY[planned.get("visits") if number == 0 else None])
        step = f"day {day} refresh {number}"
        if refreshed and number == rounds // 2 and step not in life.steps:
            life.refresh(day, number)
    if f"day {day} night" not in life.steps:
        life.end_day(day, BY_NIGHT[planned.get("night")])


def month(
    folder: Annotated[Path, typer.Option(help="Where it is lived.")] = Path("var/month"),
    schedule: Annotated[Form, typer.Option(help="What goes wrong.")] = Form.MONTH,
    days: Annotated[int | None, typer.Option(help="How long, if not all of it.")] = None,
    seed: Annotated[int, typer.Option(help="Of the shop.")] = 0,
) -> None:
    """Live a month, write its summary, and print what held."""
    plan = PLANS[schedule]
    if days is not None:
        plan = replace(plan, size=replace(plan.size, days=days))
    life = live(folder, schedule, plan, seed)
    summary = summarise(life.steps.values(), rounds_a_day=plan.size.ticks)
    result = summary | {"seed": seed, "schedule": schedule, "provenance": provenance()}
    text = json.dumps(result, indent=1).replace(str(life.folder), "DIR")
    (folder / "summary.json").write_text(text + "\n")
    draw([summary], folder / "month.png")
    for line in lines(summary):
        typer.echo(line)
    if broken := [promise for promise, kept in promises(summary).items() if not kept]:
        typer.echo(f"did not hold: {'; '.join(broken)}")
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(month)
