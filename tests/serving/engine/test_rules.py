"""What lists keep to, and that their propensities stay those of the draws."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.stats import chisquare

from sasrec.off_policy.policy import GREEDY, UNIFORM, Policy
from serving.engine import rules as rules_module
from serving.engine.engine import Engine
from serving.engine.live_items import LiveEngine
from serving.engine.recommendation import recommend, recommend_popular
from serving.engine.request_history import History
from serving.engine.rules import NO_RULES, Rules
from serving.filters import FilterError
from serving.schemas import RecommendRequest, RuleFields
from tests.feature_repo.lake.site import item
from tests.serving.sites import ITEM_IDS, NUM_ITEMS, save_model

HISTORY = History(ITEM_IDS[:3], [1, 2, 3])
NOW = datetime(2026, 6, 1, tzinfo=UTC)
MIXTURE = Policy("mixture", temperature=2.0, epsilon=0.2, new_share=0.2)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(save_model(tmp_path_factory.mktemp("plain"), seed=1))


@pytest.fixture(scope="module")
def live(engine):
    new = [item(item_id=f"n{n}", category="books", attributes={"price": n}) for n in range(3)]
    return LiveEngine(engine, {one["item_id"]: one for one in new}, {})


def of(**fields):
    return Rules.of(RecommendRequest.model_validate(fields), None, NOW)


def ask(engine, policy=GREEDY, k=10, name="r", **fields):
    request = RecommendRequest(k=k, request_id=name)
    return recommend(engine, request, HISTORY, policy, candidates=100, rules=of(**fields))


@pytest.fixture(scope="module")
def ranked(engine):
    """All items that may be shown, best first."""
    return ask(engine, k=100).item_ids


def test_rules_of_a_request_and_of_a_site_are_one_set():
    site = RuleFields.model_validate(
        {
            "filter": {"sale": False},
            "at_most": {"brand": 1},
            "diversity": 0.5,
            "boosts": [{"filter": {"price": 1}, "times": 2.0, "until": NOW + timedelta(days=1)}],
            "pins": [{"item_id": "a"}, {"item_id": "over", "until": NOW}],
        }
    )
    request = RecommendRequest.model_validate(
        {"filter": {"brand": "b1"}, "at_most": {}, "pins": [{"item_id": "b", "position": 3}]}
    )
    both = Rules.of(request, site, NOW)
    assert both.filters == (request.filter, site.filter)
    assert both.at_most == {}  # the request says so, and the site has nothing to add
    assert both.diversity == 0.5
    assert [boost.added for boost in both.boosts] == [pytest.approx(np.log(2))]
    assert both.pins == ((3, "b"), (0, "a"))
    assert both.kinds == ["filter", "diversity", "boost", "pin"]
    later = Rules.of(RecommendRequest(), site, NOW + timedelta(days=2))
    assert (later.boosts, later.at_most) == ((), {"brand": 1})
    assert Rules.of(RecommendRequest(k=3), None, NOW) is NO_RULES


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"filter": {"pricee": 1}}, ("filter", "pricee")),
        ({"boosts": [{"filter": {"brand": "b1"}}, {"filter": {"brand": 1}}]},
         ("boosts", 1, "filter", "brand")),
        ({"at_most": {"brand": 1, "colour": 2}}, ("at_most", "colour")),
    ],
)  # fmt: skip
def test_a_request_is_held_to_the_attributes_that_items_have(engine, fields, path):
    with pytest.raises(FilterError) as refused:
        rules_module.check(RecommendRequest.model_validate(fields), engine)
    assert refused.value.path == path


def test_a_filtered_list_is_the_model_s_ranking_of_what_passes(engine, ranked):
    cheap = {"price": {"lte": 20}, "not": {"category": "books"}}
    expected = [one for one in ranked if int(one[5:]) <= 40 and int(one[5:]) % 3]
    assert ask(engine, k=100, filter=cheap).item_ids == expected
    popular = recommend_popular(
        engine, RecommendRequest(k=100), HISTORY, reason="model", rules=of(filter=cheap)
    )
    assert sorted(popular.item_ids) == sorted(expected)


def test_a_narrow_filter_is_answered_in_full_beside_an_index(engine, ranked):
    class FindsTheRest:
        def search(self, hidden, n):
            return engine.vocabulary.encode(ranked[5:])

    indexed = Engine.__new__(Engine)
    vars(indexed).update({**vars(engine), "_index": FindsTheRest()})
    for wanted in ({"item_id": ranked[:3]}, {"brand": "b1"}):
        expected = ask(engine, k=10, filter=wanted).item_ids
        assert ask(indexed, k=10, filter=wanted).item_ids == expected
        assert len(expected) == min(10, 3 if "item_id" in wanted else 14)


@pytest.mark.parametrize("policy", [GREEDY, MIXTURE, UNIFORM], ids=lambda policy: policy.name)
def test_no_value_is_in_a_list_more_often_than_it_may_be(live, policy):
    for number in range(20):
        answer = ask(live, policy, k=10, name=f"r{number}", at_most={"brand": 2, "category": 4})
        index = live.vocabulary.encode(answer.item_ids).tolist()
        for attribute, most in (("brand", 2), ("category", 4)):
            shown = Counter(value for i in index for value in live.values(attribute, i))
            assert max(shown.values()) <= most
        assert len(answer.item_ids) == 8  # of two categories


def test_a_filter_that_nothing_passes_gives_an_empty_list_whatever_else_is_asked(live):
    nothing = {"category": "none of these"}
    for more in (
        {},
        {"at_most": {"brand": 1}, "diversity": 1.0},
        {"boosts": [{"filter": {"brand": "b1"}, "add": 1.0}]},
        {"pins": [{"item_id": ITEM_IDS[30]}]},
    ):
        answer = ask(live, MIXTURE, filter=nothing, **more)
        assert (answer.item_ids, answer.eligible) == ([], 0)
        assert answer.impression(0)["propensities"] == []


def test_a_greedy_list_within_limits_passes_over_what_is_full(engine, ranked):
    expected, shown = [], Counter()
    for one in ranked:
        brands = engine.values("brand", engine.vocabulary.encode([one])[0])
        if all(shown[brand] < 3 for brand in brands) and len(expected) < 10:
            expected.append(one)
            shown.update(brands)
    answer = ask(engine, at_most={"brand": 3})
    assert answer.item_ids == expected != ranked[:10]
    assert answer.slate.propensities.tolist() == [1.0] * 10


def test_diversity_trades_score_for_difference(engine, ranked):
    assert ask(engine, diversity=0.0).item_ids == ranked[:10]

    def likeness(answer):
        items = engine.vocabulary.encode(answer.item_ids)
        return np.mean([np.sort(engine.cosines(items, i))[-2] for i in items.tolist()])

    lists = [ask(engine, diversity=strength) for strength in (0.0, 0.3, 1.0)]
    assert lists[1].item_ids[0] == ranked[0]
    assert likeness(lists[0]) > likeness(lists[1]) > likeness(lists[2])
    # Step by step as the textbook has it.
    indices = engine.vocabulary.encode(ranked)
    scores = engine.scores(HISTORY.item_ids, HISTORY.timestamps)[indices]
    chosen: list[int] = []
    nearest = np.full(len(indices), -1.0)
    for _ in range(10):
        value = scores - 0.3 * np.ptp(scores) * nearest
        value[[indices.tolist().index(i) for i in chosen]] = -np.inf
        chosen.append(int(indices[value.argmax()]))
        nearest = np.maximum(nearest, engine.cosines(indices, chosen[-1]))
    assert engine.vocabulary.decode(chosen) == lists[1].item_ids


def test_boosts_move_items_by_what_they_say_and_leave_the_model_s_score(engine, ranked):
    scores = ask(engine, k=100).scores
    last = ranked[-1]
    gap = scores[0] - scores[-1]
    first = ask(engine, boosts=[{"filter": {"item_id": last}, "add": gap + 0.1}])
    assert first.item_ids == [last, *ranked[:9]]
    assert first.scores[0] == pytest.approx(scores[-1])
    assert first.slate.propensities.tolist() == [1.0] * 10
    half = {"filter": {"item_id": last}, "add": gap / 2}
    twice = [half, {"filter": {"item_id": last}, "times": float(np.exp(gap / 2 + 0.1))}]
    assert ask(engine, boosts=twice).item_ids == first.item_ids
    down = [{"filter": {"item_id": ranked[:2]}, "times": 1e-6}]
    assert ask(engine, boosts=down).item_ids == ranked[2:12]


def test_boosts_of_popular_items_are_of_the_logarithm_of_their_counts(engine):
    request = RecommendRequest(k=2)
    rules = of(boosts=[{"filter": {"item_id": ITEM_IDS[59]}, "times": 30.0}])
    answer = recommend(engine, request, History.empty(), GREEDY, candidates=100, rules=rules)
    assert answer.item_ids == [ITEM_IDS[0], ITEM_IDS[1]]  # 30 · (1 + 1) against 1 + 60
    rules = of(boosts=[{"filter": {"item_id": ITEM_IDS[59]}, "times": 31.0}])
    answer = recommend(engine, request, History.empty(), GREEDY, candidates=100, rules=rules)
    assert answer.item_ids == [ITEM_IDS[59], ITEM_IDS[0]]


def test_a_pin_has_its_slot_unless_it_may_not_be_shown(engine, ranked):
    pins = [{"item_id": ranked[40], "position": 2}, {"item_id": ranked[30], "position": 2}]
    answer = ask(engine, k=5, pins=pins)
    assert answer.item_ids == [*ranked[:2], ranked[40], ranked[30], ranked[2]]
    assert answer.placed == [2, 3]
    shown = [slot.get("rule") for slot in answer.response()["items"]]
    assert shown == [None, None, "pin", "pin", None]
    logged = answer.impression(0)
    assert logged["rules"] == shown
    assert logged["propensities"] == [1.0] * 5
    assert logged["remaining"] == [55, 54, 53, 53, 53]
    seen = [{"item_id": ITEM_IDS[0]}, {"item_id": "unheard-of"}, {"item_id": ranked[9]}]
    assert ask(engine, k=3, pins=seen).item_ids == [ranked[9], *ranked[:2]]
    hidden = ask(engine, k=3, pins=[{"item_id": ranked[9]}], filter={"item_id": ranked[:3]})
    assert hidden.item_ids == ranked[:3]
    assert ask(engine, k=3, pins=[{"item_id": ranked[9], "position": 3}]).item_ids == ranked[:3]


def test_a_list_without_rules_says_nothing_of_them(engine):
    answer = ask(engine)
    assert not {"rules", "remaining"} & set(answer.impression(0))
    assert not any("rule" in slot for slot in answer.response()["items"])


@pytest.mark.parametrize(
    "fields",
    [
        {"filter": {"category": "books", "price": {"lte": 20}}},
        {"filter": {"category": "books"}, "at_most": {"brand": 1}, "diversity": 0.3},
        {"filter": {"price": {"lte": 15}}, "boosts": [{"filter": {"brand": "b1"}, "times": 4.0}]},
        {"filter": {"category": "books"}, "pins": [{"item_id": ITEM_IDS[30]}]},
    ],
    ids=lambda fields: "+".join(fields),
)
def test_served_frequencies_match_the_propensities(live, monkeypatch, fields):
    """The second slot given the first, of many lists with new items among what may be shown."""
    ranking = live.rank(HISTORY.item_ids, HISTORY.timestamps)
    monkeypatch.setattr(live, "rank", lambda *_: ranking)
    draws = 6_000
    pairs = [tuple(zip(a.item_ids, a.slate.propensities.tolist(), strict=True)) for a in (
        ask(live, MIXTURE, k=2, name=f"r{number}", **fields) for number in range(draws)
    )]  # fmt: skip
    expected: dict[tuple[str, str], float] = {}
    count = Counter((first, second) for (first, _), (second, _) in pairs)
    for (first, p), (second, q) in pairs:
        assert expected.setdefault((first, second), p * q) == pytest.approx(p * q)
    often = [pair for pair in count if expected[pair] * draws >= 5]
    observed = np.array([count[pair] for pair in often], dtype=float)
    chance = np.array([expected[pair] for pair in often])
    observed = np.append(observed, draws - observed.sum())
    chance = np.append(chance, max(1 - chance.sum(), 0.0))
    some = chance * draws > 1e-6
    assert observed[~some].sum() == 0
    assert chisquare(observed[some], chance[some] * draws).pvalue > 1e-4
    firsts = {first: p for (first, p), _ in pairs}
    assert sum(firsts.values()) == pytest.approx(1.0, abs=0.02)
    new = {"n0", "n1", "n2"}
    assert new <= set(firsts) or fields.get("pins")


def test_all_items_may_be_pinned_and_boosted_away_and_limited_at_once(live):
    answer = ask(
        live,
        MIXTURE,
        k=10,
        filter={"category": "books"},
        at_most={"item_id": 1, "price": 1},
        diversity=1.0,
        boosts=[{"filter": {"price": {"gte": 0}}, "add": -3.0}],
        pins=[{"item_id": "n1", "position": 9}],
    )
    assert len(answer.item_ids) == 10 == len(set(answer.item_ids))
    assert answer.item_ids[9] == "n1"
    valid = (answer.slate.propensities > 0) & (answer.slate.propensities <= 1)
    assert valid.all()
    assert NUM_ITEMS > answer.eligible > 10
