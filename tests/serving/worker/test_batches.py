"""Who is computed with others gets what they would get alone."""

import pytest

from sasrec.off_policy.policy import Policy
from serving.engine import recommendation
from serving.engine.engine import Engine
from serving.engine.recommendation import Asked
from serving.engine.request_history import History
from serving.registry import ModelStore
from serving.schemas import RecommendRequest
from serving.worker.batches import Job, recommend_all
from tests.serving.sites import ITEM_IDS

POLICIES = [
    Policy("greedy"),
    Policy("uniform", epsilon=1.0),
    Policy("mixture", temperature=2.0, epsilon=0.2),
]
HISTORIES = [[], ITEM_IDS[:1], ITEM_IDS[5:45], ["unheard-of"], ITEM_IDS[3:9], ITEM_IDS[7:9]]


@pytest.fixture
def engine(home):
    store = ModelStore(home / "models")
    return Engine(store.path(store.aliases().champion))


def jobs(*engines: Engine) -> list[Job]:
    return [
        Job(engine, Asked(request, History(items, list(range(len(items)))), policy))
        for row, items in enumerate(HISTORIES)
        for engine in engines
        for policy in POLICIES
        for request in [RecommendRequest(k=5, request_id=f"r-{row}-{policy.name}")]
    ]


def test_items_and_propensities_are_those_of_one_by_one(engine, home):
    champion = ModelStore(home / "models").aliases().champion
    asked = jobs(engine, Engine(ModelStore(home / "models").path(champion)))
    together = recommend_all(asked, candidates=50)
    for job, answer in zip(asked, together, strict=True):
        [alone] = recommend_all([job], candidates=50)
        assert answer.item_ids == alone.item_ids
        assert answer.slate.propensities == pytest.approx(alone.slate.propensities, rel=1e-4)
        assert answer.candidates == alone.candidates
        assert answer.seed == alone.seed


def test_a_list_that_fails_fails_alone(engine, monkeypatch):
    draw = recommendation.draw_slate

    def broken(*asked):
        if asked[3] == 7:
            raise ZeroDivisionError
        return draw(*asked)

    monkeypatch.setattr(recommendation, "draw_slate", broken)
    asked = jobs(engine)
    asked[4] = asked[4]._replace(asked=Asked(RecommendRequest(k=7), History.empty(), POLICIES[0]))
    answers = recommend_all(asked, candidates=50)
    assert [place for place, a in enumerate(answers) if isinstance(a, Exception)] == [4]
    assert isinstance(answers[4], ZeroDivisionError)
