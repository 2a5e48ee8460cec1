"""`docs/production.md` names things that exist, and commands that are understood."""

import functools
import json
import re
import shlex
import subprocess
import textwrap
from pathlib import Path

import pytest
import typer.main
import yaml
from kfp import compiler

import pipeline
from components.runners.doctor import would_start
from components.runners.doctor.finding import Verdict
from components.runners.endpoint import Endpoint
from components.runners.platform import PlatformSettings, on_platform
from serving.release.rollout import RolloutSettings
from tests.components.kfp.argo import KFP_DEFAULTS
from tests.components.runners.right_cluster import (
    ARGO,
    ARTIFACTS,
    CLAIM,
    CORE,
    CRDS,
    IMAGE,
    KEYS,
    Bench,
    right_cluster,
    secret,
)

PAGE = Path("docs/production.md").read_text()
COMMANDS = re.sub(r"\\\n\s*", " ", "\n".join(re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)))


def test_every_file_it_names_is_there():
    folders = "deploy|benchmarks|components|serving|sasrec|tests"
    named = set(re.findall(rf"[`\s(](?:\.\./)?((?:{folders})/[\w./-]*\w)", PAGE))
    label = "sasrec/client"  # of a namespace
    assert [name for name in sorted(named - {label}) if not Path(name).exists()] == []


def test_every_result_it_quotes_is_there():
    quoted = set(re.findall(r"`([\w-]+\.json)`", PAGE)) - {"api_keys.json"}
    assert [name for name in quoted if not (Path("benchmarks/results") / name).exists()] == []


@pytest.mark.parametrize(
    "line", [line.strip() for line in COMMANDS.splitlines() if "python pipeline.py" in line]
)
def test_every_pipeline_command_is_understood(line):
    words = shlex.split(line.split("#")[0])[2:]
    command = typer.main.get_command(pipeline.app).commands[words[0]]  # type: ignore[attr-defined]
    command.make_context(words[0], words[1:], resilient_parsing=False)


def promised(step: int) -> set[str]:
    """The lines that the page says are ✓ after a step, or after one before it."""
    parts = re.split(r"^(\d+)\. \*\*", PAGE.partition("## One run at a time")[0], flags=re.M)[1:]
    steps = zip(map(int, parts[::2]), parts[1::2], strict=True)
    return {name for n, text in steps if n <= step for name in re.findall(r"✓ `([^`]+)`", text)}


def at(step: int, bench: Bench) -> None:
    """Put the cluster where the page has brought it: its namespace is that of runs and serving."""
    right, here = right_cluster(), f"{CORE}/sasrec"
    done = {
        2: {
            here: {"metadata": {"labels": {"istio-injection": "enabled"}}},
            f"{here}/{ARTIFACTS}": secret(accesskey="a"),
        },
        3: {
            f"{here}/secrets/sasrec-redis": right[f"{CORE}/team-a/secrets/sasrec-redis"],
            f"{here}/secrets/sasrec-api-keys": secret(
                **{"api_keys.json": KEYS, "metrics": "m", "rollout": "k"}
            ),
        },
        4: {
            f"{here}/serviceaccounts/sasrec-pipeline": {"metadata": {}},
            f"{here}/persistentvolumeclaims/sasrec-home": right[CLAIM],
            f"{CRDS}/servicemonitors.monitoring.coreos.com": {},
        },
        5: {"/api/v1/nodes/n1": right["/api/v1/nodes/n1"] | {"spec": {}}, ARGO: edited(KFP_ARGO)},
    }
    given = {2: {}, 3: {}, 4: {ARGO: KFP_ARGO}}
    bench.objects.held = {}
    for n in range(2, step + 1):
        bench.objects.held |= given.get(n, {}) | done.get(n, {})
    bench.bind(*(["base", "profile"] if step >= 4 else []))
    template = yaml.safe_load(Path("deploy/kubernetes/base/serving-deployment.yaml").read_text())
    bench.kubernetes.template = template["spec"]["template"]["metadata"]
    bench.kubernetes.removed = step < 4


KFP_ARGO = {"data": {"workflowDefaults": KFP_DEFAULTS}}


def edited(configmap: dict) -> dict:
    """What the page's own `awk` makes of the ConfigMap."""
    [command] = re.findall(r"awk -f [\w./]*retry_policy[\w.]*", PAGE)
    return yaml.safe_load(piped(command, as_kubectl_prints(configmap)))


def as_kubectl_prints(configmap: dict) -> str:
    """`kubectl get -o yaml`: a text of several lines is a block, however it was applied."""
    applied = {"last-applied-configuration": json.dumps(configmap)}
    text = yaml.safe_dump({"metadata": {"annotations": applied}})
    for name, value in configmap["data"].items():
        text += f"data:\n  {name}: |\n" + textwrap.indent(value, "    ")
    return text


def piped(command: str, text: str) -> str:
    words = shlex.split(command)
    return subprocess.run(words, input=text, capture_output=True, text=True, check=True).stdout


def test_the_retry_policy_reaches_pods_alone_and_may_be_set_twice():
    once = edited(KFP_ARGO)
    strategy = {
        "limit": "2",
        "retryPolicy": "Always",
        "expression": 'lastRetry.message != ""',
    }
    defaults = yaml.safe_load(once["data"]["workflowDefaults"])
    assert defaults == {"spec": {"templateDefaults": {"retryStrategy": strategy}}}
    assert edited(once)["data"] == once["data"]
    script = Path("deploy/cluster_test/run.sh").read_text()
    assert "awk -f deploy/kubernetes/retry_policy.awk" in script


@pytest.mark.parametrize("step", [3, 4, 5, 10])
def test_after_a_step_doctor_marks_what_the_page_says_with_a_tick(step, tmp_path, compiled):
    platform, text = compiled("sasrec" if step == 10 else None)
    bench = Bench(tmp_path, text, platform, namespace="sasrec")
    at(step, bench)
    findings = bench.findings()
    verdicts: dict[str, set[Verdict]] = {}
    for finding in findings:
        verdicts.setdefault(finding.check, set()).add(finding.verdict)
    ticked = {name for name, found in verdicts.items() if found == {Verdict.OK}}
    assert promised(step) <= ticked, [f for f in findings if f.check in promised(step) - ticked]
    # And each step is needed: none of its own lines that depend on the cluster came before.
    if step in (4, 5):
        at(step - 1, bench)
        before = {f.check for f in bench.findings() if f.verdict is Verdict.OK}
        late = promised(step) - promised(step - 1)
        free = {"egress of runs", "quota", "secret values", "feature profile"}
        assert not late & before - free
    if step == 10:
        assert would_start(findings)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The example's platform settings with this namespace of serving, and what they compile to."""

    @functools.cache
    def compile_for(serving):
        values = yaml.safe_load(Path("deploy/platform.yaml").read_text())
        platform = PlatformSettings.model_validate(values | {"serving_namespace": serving})
        path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
        compiler.Compiler().compile(on_platform(pipeline.sasrec_pipeline, platform), str(path))
        text = path.read_text().replace("image: sasrec-pipeline:latest", f"image: {IMAGE}")
        return platform, text

    return compile_for


def test_every_variable_it_names_is_read():
    known = {f"KF_PIPELINES_{name.upper()}" for name in Endpoint.model_fields}
    known |= {f"SASREC_ROLLOUT_{name.upper()}" for name in RolloutSettings.model_fields}
    named = set(re.findall(r"\b(?:KF_PIPELINES|SASREC_ROLLOUT)_[A-Z_]+[A-Z]", PAGE))
    assert named
    assert named <= known
