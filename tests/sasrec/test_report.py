"""The report: complete, self-contained, verdict first, and safe with whatever titles hold."""

import re
from html.parser import HTMLParser

import pytest

from sasrec.gates import GateConfig, decide
from sasrec.report import render_report
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
