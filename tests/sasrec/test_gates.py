"""Gates: each outcome of each kind, the file's errors, and error rates with a known answer."""

import dataclasses
from itertools import cycle

import numpy as np
import pyarrow as pa
import pytest
import yaml

from sasrec.errors import DataError
from sasrec.evaluation.bootstrap import Interval
from sasrec.evaluation.result import CHAMPION, MODEL
from sasrec.gates import DEFAULT_GATES, GateConfig, Verdict, decide
from tests.sasrec.markov_world import World


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def good(world):
    """A model that follows the world, against a champion that follows it as well."""
    return world.evaluate(
        world.model(0.1), baselines=world.baselines(), champion=world.model(0.1, seed=1)
    )


@pytest.fixture(scope="module")
def bad(world):
    return world.evaluate(world.model(100), baselines=world.baselines(), champion=world.model(0.1))


def config(**gate):
    entry = {"name": "the gate", "when_missing": "refuse", **gate}
    return GateConfig.model_validate({"gates": [entry]})


def judge(evaluation, **gate):
    (result,) = decide(evaluation, config(**gate)).results
    return result


def found(evaluation, **findings):
    """The evaluation with further findings."""
    return dataclasses.replace(evaluation, findings=evaluation.findings | findings)


def scored(evaluation, **ndcg_by_role):
    """The evaluation with other NDCG@10 values (B,)."""
    users = len(next(iter(ndcg_by_role.values())))
    return dataclasses.replace(
        evaluation,
        users=pa.table({"user_id": [str(n) for n in range(users)]}),
        per_user={role: pa.table({"ndcg@10": ndcg}) for role, ndcg in ndcg_by_role.items()},
        metrics={role: {"ndcg@10": float(np.mean(v))} for role, v in ndcg_by_role.items()},
        intervals={role: {} for role in ndcg_by_role},
    )


def test_the_default_gates_promote_a_good_model_and_hold_a_bad_one(good, bad):
    gates = GateConfig.load(DEFAULT_GATES)
    promoted, held = decide(good, gates), decide(bad, gates)
    assert promoted.decision == "promote", promoted.summary
    assert held.decision == "hold"
    failed = {result.gate for result in held.results if result.passed is False}
    assert {"beats bigram Markov", "holds up against the champion"} <= failed
    assert "beats bigram Markov" in held.summary


def test_without_a_champion_floors_and_baselines_decide(world):
    alone = world.evaluate(world.model(0.1), baselines=world.baselines())
    verdict = decide(alone, GateConfig.load())
    by_gate = {result.gate: result for result in verdict.results}
    assert verdict.decision == "promote"
    assert by_gate["holds up against the champion"].passed is None
    assert by_gate["holds up against the champion"].reason == "not evaluated: there is no champion"


@pytest.mark.parametrize(
    ("when_missing", "decision"),
    [("ignore", "promote"), ("hold", "hold"), ("refuse", "refuse")],
)
def test_a_missing_input_counts_as_the_file_says(good, when_missing, decision):
    gate = {"check": "measurement_bound", "measurement": "latency.p99_ms", "maximum": 50}
    verdict = decide(good, config(**gate, when_missing=when_missing))
    assert verdict.decision == decision
    assert verdict.results[0].passed is None
    assert verdict.results[0].reason == "not evaluated: 'latency.p99_ms' was not measured"


def test_a_metric_that_is_defined_for_nobody_is_not_evaluated(good):
    """Items without categories have no diversity: that is no failure of the model."""
    metrics = good.metrics | {MODEL: good.metrics[MODEL] | {"diversity@10": float("nan")}}
    bare = dataclasses.replace(good, metrics=metrics)
    result = judge(bare, check="metric_bound", metric="diversity@10", minimum=0.1)
    assert result.passed is None
    assert result.reason == "not evaluated: diversity@10 of model is not defined for any user"


def test_no_slice_large_enough_is_not_evaluated(good):
    gate = {"check": "no_worse_slice", "role": CHAMPION, "metric": "ndcg@10", "tolerance": 0.1}
    result = judge(good, **gate, slicings=["category"], minimum_users=10**6)
    assert result.passed is None
    assert result.reason == "not evaluated: no slice has 1,000,000 users or more"


def test_a_failure_outweighs_missing_evidence(good):
    gates = GateConfig.model_validate(
        {
            "gates": [
                {"name": "a", "check": "metric_bound", "metric": "ndcg@10", "minimum": 0.99,
                 "when_missing": "refuse"},
                {"name": "b", "check": "better_than", "role": "nobody", "metric": "ndcg@10",
                 "when_missing": "refuse"},
            ]
        }
    )  # fmt: skip
    assert decide(good, gates).decision == "hold"


def test_a_floor_needs_the_whole_interval(good):
    interval = good.intervals[MODEL]["ndcg@10"]
    gate = {"check": "metric_bound", "metric": "ndcg@10"}
    assert judge(good, **gate, minimum=interval.low - 0.001).passed
    assert not judge(good, **gate, minimum=(interval.low + interval.value) / 2).passed
    assert judge(good, **gate, maximum=interval.high + 0.001).passed
    assert not judge(good, **gate, maximum=(interval.high + interval.value) / 2).passed


def test_measurements_are_findings_by_dotted_name(good):
    gate = {"check": "measurement_bound", "measurement": "serving_parity.agreement", "minimum": 1}
    assert judge(found(good, serving_parity={"agreement": 1.0}), **gate).passed
    failed = judge(found(good, serving_parity={"agreement": 0.98}), **gate)
    assert failed.passed is False
    assert failed.reason.startswith("serving_parity.agreement is 0.98")
    missing = judge(found(good, serving_parity={"missing": "the server is away"}), **gate)
    assert missing.passed is None
    assert missing.reason == "not evaluated: the server is away"


VALUED = {
    "estimator": "doubly robust", "value": 0.07, "low": 0.061, "high": 0.079,
    "logged_value": 0.065, "refusals": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "when_refused", "passed", "decision"),
    [
        ({}, "refuse", True, "promote"),
        ({"low": 0.058}, "refuse", False, "hold"),  # 10 % below what was logged is .0585
        ({"refusals": ["effective sample size 2"]}, "refuse", None, "refuse"),
        ({"refusals": ["effective sample size 2"]}, "ignore", None, "promote"),
    ],
)
def test_off_policy_value_is_judged_or_refused(good, change, when_refused, passed, decision):
    gate = {"check": "off_policy_value", "policy": "served", "margin": 0.1}
    verdict = decide(
        found(good, off_policy={"served": VALUED | change}),
        config(**gate, when_refused=when_refused),
    )
    assert verdict.decision == decision
    assert verdict.results[0].passed is passed
    if passed is None:
        assert verdict.results[0].reason == "not evaluated: effective sample size 2"


def test_off_policy_value_without_a_log_or_of_another_policy_is_not_evaluated(good):
    gate = {
        "check": "off_policy_value", "policy": "served", "margin": 0.1, "when_refused": "refuse"
    }  # fmt: skip
    assert judge(good, **gate).reason == "not evaluated: there are no impressions"
    other = found(good, off_policy={"uniform": VALUED})
    assert judge(other, **gate).reason == "not evaluated: policy 'served' was not estimated"


def test_a_worse_slice_is_named(good):
    """A tenth of the users get nothing from the model; overall it is still better."""
    rng = np.random.default_rng(0)
    champion = rng.random(3000)
    model = champion + 0.1
    category = np.where(np.arange(3000) % 10 == 0, "jazz", "rock")
    model[category == "jazz"] = 0
    evaluation = scored(good, model=model, champion=champion)
    users = evaluation.users.append_column("category", pa.array(category))
    evaluation = dataclasses.replace(evaluation, users=users)
    gate = {
        "check": "no_worse_slice", "role": CHAMPION, "metric": "ndcg@10",
        "slicings": ["category"], "tolerance": 0.1,
    }  # fmt: skip
    result = judge(evaluation, **gate)
    assert result.passed is False
    assert result.reason == "worse than allowed in category 'jazz' (300 users)"
    assert judge(evaluation, **gate | {"tolerances": {"category": 0.99}}).passed is False
    assert judge(good, **gate).passed


def test_a_slicing_that_does_not_exist_is_an_error(good):
    with pytest.raises(DataError, match="'colour' is not a slicing"):
        judge(
            good, check="no_worse_slice", role=CHAMPION, metric="ndcg@10",
            slicings=["colour"], tolerance=0.1,
        )  # fmt: skip


def test_a_model_shown_the_future_is_impossibly_good(world):
    class Oracle:
        name = "oracle"

        def __init__(self, test):
            self.answers = cycle(test.targets.items[test.targets.cu_seqlens[:-1]])

        def logits(self, histories):
            scores = world.model(0.1).logits(histories)
            scores[range(len(histories)), [next(self.answers) for _ in range(len(histories))]] = 9
            return scores

    leaked = world.evaluate(Oracle(world.test), baselines=world.baselines())
    honest = world.evaluate(world.model(0.1), baselines=world.baselines())
    gates = GateConfig.load()
    by_gate = {result.gate: result for result in decide(leaked, gates).results}
    assert by_gate["not impossibly good"].passed is False
    assert "look for the future" in by_gate["not impossibly good"].reason
    honest_gate = {r.gate: r for r in decide(honest, gates).results}["not impossibly good"]
    assert honest_gate.passed


def next_item_ndcg(rng, users, quality):
    """NDCG@10 of a model whose hit rate is `quality` of the usual, with users of all kinds."""
    hit = rng.random(users) < quality * rng.beta(2, 5, users)
    return np.where(hit, 1 / np.log2(1 + rng.integers(1, 11, users)), 0.0)


def test_equal_models_are_called_better_at_most_as_often_as_stated(good):
    rng = np.random.default_rng(0)
    gate = {"check": "better_than", "role": CHAMPION, "metric": "ndcg@10"}
    called_better = sum(
        bool(judge(scored(good, model=model, champion=champion), **gate).passed)
        for model, champion in (
            (next_item_ndcg(rng, 500, 1.0), next_item_ndcg(rng, 500, 1.0)) for _ in range(200)
        )
    )
    assert called_better <= 10


def test_a_model_truly_five_percent_better_is_non_inferior_and_mostly_better(good):
    """6,000 users; the two models agree on four users in five, as two trainings do."""
    rng = np.random.default_rng(0)
    users, repeats = 6000, 20
    better = non_inferior = 0
    for _ in range(repeats):
        champion = next_item_ndcg(rng, users, 1.0)
        fresh = rng.random(users) < 0.2
        model = np.where(fresh, next_item_ndcg(rng, users, 1.25), champion)
        evaluation = scored(good, model=model, champion=champion)
        non_inferior += bool(
            judge(evaluation, check="non_inferior", metric="ndcg@10", margin=0.05).passed
        )
        better += bool(
            judge(evaluation, check="better_than", role=CHAMPION, metric="ndcg@10").passed
        )
    assert non_inferior == repeats
    assert better > repeats / 2


@pytest.mark.parametrize(("users", "least", "most"), [(6000, 15, 20), (500, 0, 10)])
def test_an_equal_model_is_non_inferior_where_there_are_users_enough(good, users, least, most):
    rng = np.random.default_rng(1)
    passed = 0
    for _ in range(20):
        champion = next_item_ndcg(rng, users, 1.0)
        fresh = rng.random(users) < 0.2
        model = np.where(fresh, next_item_ndcg(rng, users, 1.0), champion)
        evaluation = scored(good, model=model, champion=champion)
        passed += bool(
            judge(evaluation, check="non_inferior", metric="ndcg@10", margin=0.05).passed
        )
    assert least <= passed <= most


GATE = {
    "name": "g", "check": "non_inferior", "metric": "ndcg@10", "margin": 0.1,
    "when_missing": "hold",
}  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({**GATE, "margin": 1.5}, "gates.0.non_inferior.margin: Input should be less than 1"),
        ({**GATE, "check": "vibes"}, "gates.0: Input tag 'vibes' found using 'check' does not"),
        ({**GATE, "margn": 0.1}, "gates.0.non_inferior.margn: Extra inputs are not permitted"),
        (
            {k: v for k, v in GATE.items() if k != "when_missing"},
            "gates.0.non_inferior.when_missing: Field required",
        ),
        (
            {"name": "b", "check": "metric_bound", "metric": "hr@10", "when_missing": "hold"},
            "gates.0.metric_bound: give 'minimum', 'maximum' or both",
        ),
        (
            {"name": "b", "check": "metric_bound", "metric": "hr@10", "when_missing": "hold",
             "minimum": 5},
            "gates.0.metric_bound: hr@10 lies in [0, 1], so 5 is no threshold for it",
        ),
        (
            {**GATE, "metric": "ndgc@10"},
            "gates.0.non_inferior.metric: 'ndgc@10' is not a metric of each user; "
            "did you mean 'ndcg@10'?",
        ),
        (
            {**GATE, "metric": "gini@10"},
            "gates.0.non_inferior.metric: 'gini@10' is not a metric of each user",
        ),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_line_with_file_and_field(tmp_path, entry, message):
    path = tmp_path / "gates.yaml"
    path.write_text(yaml.safe_dump({"gates": [entry]}))
    with pytest.raises(DataError) as error:
        GateConfig.load(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_yaml_is_one_line(tmp_path):
    path = tmp_path / "gates.yaml"
    path.write_text("gates: [\n - {")
    with pytest.raises(DataError, match=r"gates\.yaml: not YAML") as error:
        GateConfig.load(path)
    assert "\n" not in str(error.value)


def test_a_name_used_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"used twice: \['g'\]"):
        GateConfig.model_validate({"gates": [GATE, GATE]})


def test_a_verdict_survives_the_disk_and_reads_as_markdown(bad, tmp_path):
    verdict = decide(bad, GateConfig.load())
    verdict.save(tmp_path / "verdict.json")
    assert Verdict.load(tmp_path / "verdict.json") == verdict
    markdown = verdict.to_markdown()
    assert markdown.startswith("## Hold\n")
    assert markdown.count("\n|") == len(verdict.results) + 2


LIFT = {
    "check": "short_of",
    "metric": "popularity_lift@10",
    "role": "popularity",
    "baselines": ["bigram Markov", "item-kNN"],
    "share": 0.5,
}


def lifting(evaluation, **lift):
    """The evaluation with other lifts (B,) of its roles."""
    roles = {name.replace("_", " "): np.full(100, value) for name, value in lift.items()}
    found = scored(evaluation, **roles)
    per_user = {
        r: pa.table({"popularity_lift@10": t["ndcg@10"]}) for r, t in found.per_user.items()
    }
    figures = {r: {"popularity_lift@10": f["ndcg@10"]} for r, f in found.metrics.items()}
    interval = Interval(lift["model"], lift["model"], lift["model"], 0.95, 100)
    return dataclasses.replace(
        found,
        per_user=per_user,
        metrics=figures,
        intervals={role: {"popularity_lift@10": interval} for role in roles},
    )


@pytest.mark.parametrize(
    ("lift", "passed"),
    [
        ({"model": 2.8, "popularity": 13.4, "bigram_Markov": 6.4}, True),  # a shop of rare items
        ({"model": 13.0, "popularity": 13.4, "bigram_Markov": 6.4}, False),
        ({"model": 0.9, "popularity": 1.3, "bigram_Markov": 0.2}, False),  # films
        ({"model": 0.7, "popularity": 1.3, "bigram_Markov": 0.2}, True),
        ({"model": 0.9, "popularity": 1.3, "bigram_Markov": 0.2, "champion": 0.9}, True),
        ({"model": 0.9, "popularity": 1.3, "bigram_Markov": 0.2, "champion": 0.8}, False),
        ({"model": 0.9, "popularity": 1.3}, None),
        ({"model": 0.9, "bigram_Markov": 0.2}, None),
        ({"model": np.nan, "popularity": 1.3, "bigram_Markov": 0.2}, None),
    ],
)
def test_popularity_is_judged_beside_what_useful_lists_do(good, lift, passed):
    assert judge(lifting(good, **lift), **LIFT).passed is passed
