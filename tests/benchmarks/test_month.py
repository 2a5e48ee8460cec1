"""Three days of the month with some of its misfortunes: what it promises, and that it goes on."""

import shutil

import numpy as np
import pytest

from benchmarks.month.__main__ import PLANS, Form, live
from benchmarks.month.clock import ShopClock
from benchmarks.month.lines import lines, promises, summarise
from benchmarks.month.shop import Shop

pytestmark = pytest.mark.timeout(900)

PLAN = PLANS[Form.SHORT]


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    if not (shutil.which("cc") or shutil.which("gcc")):
        pytest.skip("needs a C compiler, for the shop's clock")
    return live(tmp_path_factory.mktemp("month"), Form.SHORT, PLAN, seed=0)


@pytest.fixture(scope="module")
def summary(life):
    return summarise(life.steps.values(), rounds_a_day=PLAN.size.ticks)


def test_every_promise_holds(summary):
    broken = [promise for promise, kept in promises(summary).items() if not kept]
    assert not broken, "\n".join(lines(summary))
    assert {m["misfortune"] for m in summary["misfortunes"]} == {
        "bot",
        "skipped",
        "worker-killed",
        "forgotten",
        "pipeline-killed",
    }
    assert summary["events"]["acknowledged"] > 0


def test_a_month_that_was_stopped_goes_on_where_it_was(life, tmp_path):
    """What visitors did is lived again from the lists that they were shown."""
    again = Shop(PLAN.size, seed=0)
    shown = life.folder / "lists"
    again.open(tmp_path)
    life_again = type(life)(life.folder, again, life.site, ShopClock(life.folder / "clock"))
    for day in range(PLAN.size.days):
        life_again.relive(day, 0)
    before, after = life.shop.storefront.events(), again.storefront.events()
    np.testing.assert_array_equal(before.item, after.item)
    np.testing.assert_array_equal(before.user, after.user)
    assert len(list(shown.iterdir())) == PLAN.size.days
    assert life_again.steps == life.steps
