"""`make cluster-test` without a cluster: it is whole, pinned in one place, and stops on failure."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
import yaml

import pipeline
from components.runners.platform import PlatformSettings
from sasrec.gates import GateConfig

FOLDER = Path("deploy/cluster_test")
SCRIPT = (FOLDER / "run.sh").read_text()
VERSIONS = dict(re.findall(r"^(\w+)=(.*)$", (FOLDER / "versions.env").read_text(), re.M))
TOOLS = ("awk", "bash", "dirname", "env", "mktemp", "mkdir", "rm", "sed", "seq")
TOOLS += ("tail", "grep", "cat", "sleep", "tee")


def test_the_script_is_sound():
    subprocess.run(["bash", "-n", FOLDER / "run.sh"], check=True)
    if shutil.which("shellcheck"):
        done = subprocess.run(
            ["shellcheck", "-x", FOLDER / "run.sh"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


def test_every_file_it_names_is_there():
    named = {
        name.replace("$here", str(FOLDER))
        for name in re.findall(r"(?:\$here|deploy)/[\w./-]+\w", SCRIPT)
    }
    assert len(named) > 5
    assert [name for name in sorted(named) if not Path(name).exists()] == []


def test_versions_are_said_in_one_place_and_all_are_used():
    for path in FOLDER.rglob("*.*"):
        text = path.read_text()
        if path.name != "versions.env":
            assert set(re.findall(r"[\d.]*\d+\.\d+\.\d+", text)) <= {"127.0.0.1"}, path
        used = set(re.findall(r"\$\{?([A-Z_]+_(?:VERSION|IMAGE))\b", text)) - {"SASREC_IMAGE"}
        assert used <= set(VERSIONS)
    for name in VERSIONS:
        assert name in SCRIPT


def test_the_neighbours_are_manifests_once_their_images_are_filled_in():
    text = (FOLDER / "neighbours.yaml").read_text()
    for name, image in VERSIONS.items():
        text = text.replace(f"${{{name}}}", image)
    assert "${" not in text
    documents = list(yaml.safe_load_all(text))
    services = {
        f"{d['metadata']['name']}.{d['metadata']['namespace']}:{d['spec']['ports'][0]['port']}"
        for d in documents
        if d["kind"] == "Service"
    }
    assert services == {"redis.data:6379", "object-store.data:9000", "pushgateway.monitoring:9091"}
    asked = SCRIPT + (FOLDER / "first_night.yaml").read_text()
    assert all(service in asked for service in services)


@pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="needs kubectl, which renders kustomize"
)
def test_the_site_is_rendered_with_what_the_cluster_has():
    rendered = subprocess.run(
        ["kubectl", "kustomize", FOLDER / "site"], capture_output=True, text=True, check=True
    ).stdout
    kinds = {}
    for document in yaml.safe_load_all(rendered):
        kinds.setdefault(document["kind"], []).append(document)
        assert document["metadata"].get("namespace", "kubeflow") == "kubeflow"
    [claim], [volume] = kinds["PersistentVolumeClaim"], kinds["PersistentVolume"]
    assert claim["spec"]["storageClassName"] == volume["spec"]["storageClassName"]
    assert "pipeline-runner" in {b["roleRef"]["name"] for b in kinds["RoleBinding"]}
    for deployment in kinds["Deployment"]:
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        assert {"secretRef": {"name": "sasrec-object-store"}} in container["envFrom"]


def test_the_nights_differ_in_the_rollout_alone_and_have_every_secret_that_is_made():
    first, every = (PlatformSettings.load(FOLDER / f"{n}_night.yaml") for n in ("first", "every"))
    assert every.serving_namespace == "kubeflow"
    assert first == every.model_copy(update={"serving_namespace": None, "serving_key": None})
    made = set(re.findall(r"create secret generic ([\w-]+)", SCRIPT))
    assert {secret.name for secret in every.secrets} | {every.serving_key.name} == made
    assert GateConfig.load(FOLDER / "gates.yaml").gates


def test_every_pipeline_command_is_understood():
    commands = typer.main.get_command(pipeline.app).commands
    lines = SCRIPT.replace("\\\n", " ")
    used = re.findall(r'"\$python" pipeline\.py ([\w-]+) (.*)', lines)
    assert {name for name, _ in used} == {"doctor", "submit"}
    for name, options in used:
        words = re.sub(r'"\$[^"]*"', "x", options).split()
        commands[name].make_context(name, words, resilient_parsing=False)


LISTEN = f"""{sys.executable} -c '
import socket, sys
port = int(sys.argv[1].partition(":")[0])
server = socket.create_server(("", port))
server.settimeout(20)
server.accept()
'"""
NOTE = """#!{folder}/bash
echo "{tool} $*" >> "{folder}/calls"
cat > /dev/null
case "{tool} $*" in
    {failing}*) echo "refused: $*" >&2; exit 1 ;;
    *port-forward*) exec {listen} "${{@: -1}}" ;;
esac
"""


@pytest.fixture
def machine(tmp_path):
    """A PATH where every tool that would touch a cluster only notes how it was called."""
    for tool in TOOLS:
        (tmp_path / tool).symlink_to(shutil.which(tool))

    def run(failing=""):
        for tool in ("docker", "kind", "kubectl", "jq", "curl", "git", "python"):
            note = NOTE.format(
                tool=tool, folder=tmp_path, failing=failing or "never", listen=LISTEN
            )
            (tmp_path / tool).write_text(note)
            (tmp_path / tool).chmod(0o755)
        environment = {"PATH": str(tmp_path), "PYTHON": "python", "LOGS": str(tmp_path / "logs")}
        done = subprocess.run(
            ["bash", FOLDER / "run.sh"],
            env=environment | {"HOME": os.environ.get("HOME", "/")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return done, (tmp_path / "calls").read_text().splitlines(), tmp_path / "logs"

    return run


def test_the_steps_are_done_in_order_with_a_log_each_and_the_cluster_goes(machine):
    done, calls, logs = machine()
    assert done.returncode == 0, done.stdout + done.stderr
    steps = re.findall(r"^✓ ([\w-]+)", done.stdout, re.M)
    assert len(steps) == SCRIPT.count("\nstep ") >= 15
    assert [path.name[3:-4] for path in sorted(logs.iterdir())] == steps
    order = [
        "kind create",
        "kubectl apply -k github",
        "python pipeline.py doctor",
        "python pipeline.py submit",
    ]
    first = [next(i for i, call in enumerate(calls) if call.startswith(words)) for words in order]
    assert first == sorted(first)
    nights = [call for call in calls if call.startswith("python pipeline.py submit")]
    assert [call.split()[4].partition("-")[0] for call in nights] == ["first", "second"]
    assert calls[-2].startswith("kind delete cluster")
    assert calls[-1].startswith("docker rm --force")


def test_a_cluster_that_was_kept_keeps_the_keys_that_serving_has_read(machine):
    _, calls, _ = machine()  # every `kubectl get` finds what it asks for
    assert not any("create_keys" in call or "generic sasrec-api-keys" in call for call in calls)
    assert sum(call.startswith("jq -j --arg name") for call in calls) == 3
    applied, deleted = (
        next(n for n, call in enumerate(calls) if call.startswith(f"kubectl -n kubeflow {words}"))
        for words in ("apply -f -", "delete job sasrec-prepare-volume")
    )
    assert deleted < applied


def test_a_new_cluster_gets_keys(machine):
    done, calls, _ = machine(failing="kubectl\\ -n\\ kubeflow\\ get\\ secret")
    assert done.returncode == 0, done.stdout + done.stderr
    assert any("serving.create_keys" in call for call in calls)
    assert any("create secret generic sasrec-api-keys" in call for call in calls)


def test_a_failure_within_a_step_ends_it_there_says_where_and_tears_down(machine):
    done, calls, _ = machine(failing="kubectl\\ wait")
    assert done.returncode == 1
    assert re.search(r"✗ pipelines: the end of .*pipelines\.log\nrefused: wait", done.stderr)
    assert not any("platform-agnostic" in call for call in calls)
    assert calls[-2].startswith("kind delete cluster")
    assert calls[-1].startswith("docker rm --force")
