import numpy as np
import pytest
from scipy.stats import chisquare

from sasrec.off_policy.policy import Policy, draw_slate
from serving.engine.engine import Engine
from serving.engine.ranking import ExactRanking, top_candidates
from serving.engine.recommendation import draw_seed, recommend
from serving.engine.request_history import History
from serving.engine.routing import choose_policy, ranking_policy, serves_challenger
from serving.registry import ModelStore
from serving.schemas import RecommendRequest
from serving.settings import Settings
from tests.serving.sites import ITEM_IDS


@pytest.fixture
def engine(home):
    store = ModelStore(home / "models")
    return Engine(store.path(store.aliases().champion))


def test_policies_are_named_after_what_they_do():
    assert ranking_policy(Settings(epsilon=0)).name == "greedy"
    assert ranking_policy(Settings(epsilon=0.1)).name == "epsilon_greedy"
    assert ranking_policy(Settings(epsilon=0, temperature=1)).name == "plackett_luce"
    assert ranking_policy(Settings(epsilon=0.1, temperature=1)).name == "epsilon_plackett_luce"


def test_shares_of_users_are_as_set_and_independent():
    settings = Settings(gold_share=0.2, challenger_share=0.5)
    users = [f"user-{number}" for number in range(3000)]
    gold = np.array([choose_policy(user, settings).name == "uniform" for user in users])
    challenged = np.array([serves_challenger(user, settings) for user in users])
    assert abs(gold.mean() - 0.2) < 0.03
    assert abs(challenged.mean() - 0.5) < 0.03
    assert abs(challenged[gold].mean() - 0.5) < 0.07
    assert choose_policy(None, settings).name != "uniform"
    assert not serves_challenger(None, settings)


@pytest.mark.parametrize("category", [None, "books"])
def test_served_frequencies_match_the_logged_propensities(engine, category, monkeypatch):
    """The first slot of many requests, under exclusions and a filter."""
    history = History(ITEM_IDS[:4], [1, 2, 3, 4])
    scores = engine.scores(history.item_ids, history.timestamps)
    monkeypatch.setattr(engine, "rank_batch", lambda asked: [ExactRanking(scores)] * len(asked))
    policy = Policy("mixture", temperature=2.0, epsilon=0.2)
    propensity, count = {}, {}
    draws = 2000
    for number in range(draws):
        request = RecommendRequest(
            k=1, exclude=ITEM_IDS[10:50], category=category, request_id=f"r{number}"
        )
        answer = recommend(engine, request, history, policy, candidates=100)
        [item] = answer.item_ids
        propensity[item] = answer.slate.propensities[0]
        count[item] = count.get(item, 0) + 1
    assert len(propensity) == answer.eligible  # with so many draws, each was drawn
    assert sum(propensity.values()) == pytest.approx(1.0)
    observed = np.array([count[item] for item in propensity])
    expected = np.array([propensity[item] for item in propensity]) * draws
    assert chisquare(observed, expected).pvalue > 1e-4


def test_a_logged_slate_can_be_drawn_again(engine):
    history = History(ITEM_IDS[:2], [1, 2])
    policy = Policy("mixture", temperature=1.0, epsilon=0.3)
    request = RecommendRequest(k=10, request_id="again")
    answer = recommend(engine, request, history, policy, candidates=100)
    scores = engine.scores(history.item_ids, history.timestamps)
    eligible = engine.eligible(category=None, exclude=(), seen=history.item_ids)
    candidates = top_candidates(scores, eligible, 100)
    rng = np.random.default_rng(draw_seed("again"))
    again = draw_slate(candidates, scores[candidates], eligible, 10, policy, rng)
    assert engine.vocabulary.decode(again.items) == answer.item_ids
    assert again.propensities.tolist() == answer.slate.propensities.tolist()


def test_candidates_are_the_best_and_ties_go_to_the_lower_index():
    scores = np.array([-np.inf, 1.0, 3.0, 2.0, 2.0, 2.0, -np.inf])
    eligible = np.array([False, True, True, True, True, True, True])
    assert top_candidates(scores, eligible, 3).tolist() == [2, 3, 4]
    eligible[3] = False
    assert top_candidates(scores, eligible, 10).tolist() == [2, 4, 5, 1]
    assert top_candidates(scores, np.zeros(7, dtype=bool), 3).tolist() == []


def test_new_items_get_at_most_what_exploration_leaves():
    assert ranking_policy(Settings(epsilon=0.02, new_item_share=0.05)).new_share == 0.05
    assert ranking_policy(Settings(epsilon=1.0)).new_share == 0.0
