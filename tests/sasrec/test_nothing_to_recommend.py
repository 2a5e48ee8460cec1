"""Every tested user has had every item, so all lists are empty: a figure of them is none."""

import numpy as np
import pytest

from sasrec.evaluation.result import CHAMPION, MODEL, Evaluation
from sasrec.gates import GateConfig, decide
from sasrec.report import render_report
from tests.sasrec.markov_world import ITEMS, World
from tests.sasrec.small_sequences import Lookup, evaluation_set


@pytest.fixture(scope="module")
def world():
    world = World(users=60)
    everything = [list(range(1, ITEMS + 1))] * 60
    world.test = evaluation_set(everything, [[n % ITEMS + 1] for n in range(60)])
    return world


def evaluated(world, tmp_path, champion):
    measured = world.evaluate(world.model(0.1), baselines=world.baselines(), champion=champion)
    measured.save(tmp_path)
    return Evaluation.load(tmp_path)


@pytest.mark.parametrize("champion", [None, "as the model", "knows no item"])
def test_the_gate_decides_and_the_report_is_drawn(world, tmp_path, champion):
    scorers = {
        "as the model": world.model(0.2),
        "knows no item": Lookup(np.full((ITEMS + 1, ITEMS + 1), -np.inf)),
    }
    measured = evaluated(world, tmp_path, scorers.get(champion))
    verdict = decide(measured, GateConfig.load())
    results = {result.gate: result for result in verdict.results}
    assert verdict.decision == "hold"
    assert results["recommends enough of the catalogue"].passed is None
    assert results["spreads its exposure"].reason == (
        "not evaluated: gini@10 of model is not defined for any user"
    )
    assert results["not impossibly good"].passed
    assert results["holds up against the champion"].effect == "promote"
    page = render_report(measured, verdict, title="all seen")
    assert "over the catalogue" not in page
    assert "nan" not in page.lower().replace("nance", "")


def test_one_role_without_a_list_is_left_out(world, tmp_path):
    silent = Lookup(np.full((ITEMS + 1, ITEMS + 1), -np.inf))
    measured = World(users=60).evaluate(World(users=60).model(0.1), champion=silent)
    assert MODEL in measured.exposure
    assert CHAMPION not in measured.exposure
    assert np.isnan(measured.metrics[CHAMPION]["gini@10"])
    assert "over the catalogue" in render_report(
        measured, decide(measured, GateConfig.load()), title="a champion that knows nothing"
    )
