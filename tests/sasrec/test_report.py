"""The report: complete, self-contained, verdict first, and safe with whatever titles hold."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from sasrec.gates import GateConfig, decide
from sasrec.off_policy.estimators import LoggedSlots, estimate
from sasrec.report import figure, render_report
from tests.sasrec.markov_world import World

TRAINING = [
    {"epoch": 1, "loss": 3.0, "ndcg@10": 0.1},
    {"epoch": 2, "loss": 2.5},
    {"epoch": 3, "loss": 2.0, "ndcg@10": 0.2},
]


@pytest.fixture(scope="module")
def evaluation():
    world = World()
    return world.evaluate(
        world.model(0.1), baselines=world.baselines(), champion=world.model(100, seed=1)
    )


@pytest.fixture(scope="module")
def verdict(evaluation):
    return decide(evaluation, GateConfig.load())


@pytest.fixture(scope="module")
def page(evaluation, verdict):
    data = {"events": 1234, "events_per_user": {"min": 5}, "notes": ["made up"], "last": None}
    return render_report(
        evaluation, verdict, title="run 7", training=TRAINING, data=data, facts={"code": "abc"}
    )


def test_the_verdict_comes_first(page, verdict):
    body = page[page.index("<body>") :]
    assert body.index("<strong>Promote</strong>") < body.index("<h2>Gates</h2>")
    for result in verdict.results:
        assert f'<th scope="row">{result.gate}</th>' in body


def test_a_held_model_is_told_why_at_the_top(evaluation):
    world = World()
    bad = world.evaluate(world.model(100), baselines=world.baselines(), champion=world.model(0.1))
    held = decide(bad, GateConfig.load())
    top = render_report(bad, held, title="run 8").split("<body>")[1].split("<h2>Gates</h2>")[0]
    assert "<strong>Hold</strong>" in top
    reasons = re.findall(r"<li><b>(.*?)</b>", top)
    assert reasons == [result.gate for result in held.results if result.passed is False]
    assert "beats bigram Markov" in reasons


def test_nothing_is_loaded_from_elsewhere(page):
    """No URL but the names of XML namespaces, no script, no external style."""
    urls = set(re.findall(r"https?://[^\"'\s<)]+", page))
    assert urls <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "<script" not in page
    assert "<link" not in page
    assert not re.search(r"(src|href)=\"(?!#)", page)


def test_tags_are_closed_and_titles_escaped(page):
    class Balance(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open = []

        def handle_starttag(self, tag, attrs):
            if tag != "meta":
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

        def handle_startendtag(self, tag, attrs):
            pass

    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert "Title &lt;" in page
    assert "Title <" not in page


def test_charts_take_the_colour_of_the_page(page):
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(drawings) == 4  # roles, training, slices, exposure
    for drawing in drawings:
        assert "currentColor" in drawing
        assert 'role="img"' in drawing
        assert re.search(r'aria-label="[^"]{10,}"', drawing)


def test_the_same_run_gives_the_same_page(page, evaluation, verdict):
    again = render_report(evaluation, verdict, title="run 7", training=TRAINING)
    assert re.findall(r"<svg.*?</svg>", page, re.DOTALL) == re.findall(
        r"<svg.*?</svg>", again, re.DOTALL
    )


def test_figures_and_their_intervals_are_shown(page, evaluation):
    interval = evaluation.intervals["model"]["ndcg@10"]
    assert f"{interval.value:.3g}<small>{interval.low:.3g} – {interval.high:.3g}</small>" in page


def test_an_untrained_run_without_baselines_still_reports():
    world = World(users=30)
    evaluation = world.evaluate(world.model(0.1))
    verdict = decide(evaluation, GateConfig.load())
    assert verdict.decision == "refuse"
    page = render_report(evaluation, verdict, title="bare")
    assert "<strong>Refuse</strong>" in page
    assert "not evaluated: &#39;popularity&#39; was not evaluated" in page


def test_what_the_order_of_events_is_worth_is_said(page, evaluation):
    with_order = evaluation.metrics["model"]["ndcg@10"]
    without = evaluation.metrics["model, order shuffled"]["ndcg@10"]
    change = f"{without:.4f} in place of {with_order:.4f}: {without / with_order - 1:+.1%}"
    assert f"ndcg@10 is {change}" in page


def test_policies_are_shown_with_their_intervals_and_refusals(evaluation, verdict, page):
    assert "Not estimated: no impressions were given" in page

    def finding(policy, target):
        rng = np.random.default_rng(0)
        log = LoggedSlots(
            user=np.arange(3000),
            position=np.zeros(3000, dtype=int),
            reward=(rng.random(3000) < 0.1).astype(float),
            propensity=np.full(3000, 0.1),
            target=target,
        )
        return estimate(log, policy=policy).to_finding()

    rare = np.where(np.arange(3000) < 300, 1.0, 0.0)
    values = {"same": finding("same", np.full(3000, 0.1)), "greedy": finding("greedy", rare)}
    valued = dataclasses.replace(evaluation, findings={"off_policy": values})
    table = render_report(valued, verdict, title="run 7").split("What the log says")[1]
    shown = values["same"]["snips"]
    figures = [f"{shown[name]:.3g}" for name in ("value", "low", "high")]
    assert "{}<small>{} – {}</small>".format(*figures) in table
    assert table.count("refused:") == 1
    assert "refused: effective sample size 300 of 3,000 slots is below 1,000" in table


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.123"), (999.6, "1,000"), (12345.6, "12,346"), (-1234, "-1,234"), (None, "–")],
)
def test_figures_are_short_and_never_in_powers_of_ten(value, text):
    assert figure(value) == text
