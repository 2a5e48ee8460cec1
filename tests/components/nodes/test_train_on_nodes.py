"""`train` on several nodes: the TrainJob that is asked for, and every way in which it can fail."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from kubeflow_trainer_api import models
from kubernetes import client

from benchmarks.two_hosts import write_small_work
from components.nodes import train_node
from components.nodes.train_job import RUNTIME, VARIABLE, TrainJobSettings
from components.nodes.train_job_manifest import MAX_RESTARTS, train_job
from components.nodes.train_node import CONFIG, SEQUENCES
from components.nodes.train_on_nodes import TrainJobError, train_on_nodes
from tests.components.trainer_server import Trainer, refusal
from tests.json_server import running

SETTINGS = TrainJobSettings(
    image="registry.example.com/sasrec-pipeline@sha256:0",
    nodes=2,
    processes=4,
    requests={"cpu": "4", "memory": "16Gi"},
    limits={"memory": "16Gi", "nvidia.com/gpu": "4"},
    environment={"OMP_NUM_THREADS": "4"},
    image_pull_secrets=("registry",),
    node_selector={"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
    tolerations=({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},),
)
NAME = "sasrec-train-0123456789abcdef"


# The manifest


@pytest.fixture
def manifest():
    return train_job(NAME, Path("/mnt/sasrec/training/0123456789abcdef"), SETTINGS)


def test_the_manifest_fits_the_published_models_field_by_field(manifest):
    # An unknown field would be dropped on the way.
    assert models.TrainerV1alpha1TrainJob.from_dict(manifest).to_dict() == manifest


def test_every_node_gets_the_image_its_devices_and_a_process_for_each(manifest):
    trainer = manifest["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 4)
    assert trainer["image"] == SETTINGS.image
    assert trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "4"
    assert trainer["env"] == [{"name": "OMP_NUM_THREADS", "value": "4"}]


def test_nodes_are_placed_as_the_platform_settings_say(manifest):
    [patch] = manifest["spec"]["runtimePatches"]
    [job] = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    assert job["name"] == "node"
    assert pod["nodeSelector"] == SETTINGS.node_selector
    assert pod["tolerations"] == list(SETTINGS.tolerations)
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    bare = SETTINGS.model_copy(
        update={"node_selector": {}, "tolerations": (), "image_pull_secrets": ()}
    )
    assert "runtimePatches" not in train_job(NAME, Path("/x"), bare)["spec"]


def test_torchrun_restarts_and_meets_where_trainer_says(manifest):
    command = manifest["spec"]["trainer"]["command"]
    assert command[0] == "torchrun"
    assert "--rdzv-endpoint=$(PET_MASTER_ADDR):$(PET_MASTER_PORT)" in command
    assert f"--max-restarts={MAX_RESTARTS}" in command
    assert command[-2:] == ["components.nodes.train_node", "/mnt/sasrec/training/0123456789abcdef"]


def test_names_of_pods_stay_within_a_label(manifest):
    assert len(f"{manifest['metadata']['name']}-node-0-{10**4}-abcde") < 63
    assert manifest["spec"]["runtimeRef"]["name"] == RUNTIME


def test_the_settings_arrive_by_the_environment():
    given = {VARIABLE: SETTINGS.model_dump_json()}
    assert TrainJobSettings.from_environment(given) == SETTINGS
    assert TrainJobSettings.from_environment({}) is None


# The launcher


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A configuration and sequences."""
    folder = tmp_path_factory.mktemp("work")
    write_small_work(folder, users=60, epochs=2)
    return (folder / CONFIG).read_text(), folder / SEQUENCES


@pytest.fixture
def trainer():
    return Trainer()


def train(trainer, work, tmp_path, namespace="sasrec", **settings):
    config, sequences = work
    with running(trainer) as url:
        api = client.ApiClient(client.Configuration(host=url))
        api.configuration.retries = False
        return train_on_nodes(
            SETTINGS.model_copy(update=settings),
            config,
            sequences,
            tmp_path / "0123456789abcdef",
            api,
            namespace,
            poll_seconds=0.002,
        )


def refused(*arguments, **settings):
    """The one line of a training that fails."""
    with pytest.raises(TrainJobError) as error:
        train(*arguments, **settings)
    assert "\n" not in str(error.value)
    assert NAME in str(error.value)
    return str(error.value)


def test_the_nodes_train_and_their_model_comes_back(trainer, work, tmp_path):
    result = train(trainer, work, tmp_path)
    assert len(result.history) == 2
    assert result.best_epoch in (1, 2)
    assert result.best_ndcg == result.history[result.best_epoch - 1]["ndcg@10"]
    assert len(result.recommender.vocabulary) > 0
    assert trainer.created() == 1
    assert not trainer.jobs


def test_a_job_whose_launcher_was_killed_is_adopted(trainer, work, tmp_path):
    (tmp_path / "0123456789abcdef").mkdir()
    left = train_job(NAME, tmp_path / "0123456789abcdef", SETTINGS)
    trainer.jobs[NAME] = left

    # It is still at work when the new launcher looks.
    def finish(method, url, headers, body):
        if len(trainer.requests) == 3:
            trainer.run(left)
        return Trainer.answer(trainer, method, url, headers, body)

    trainer.answer = finish
    assert len(train(trainer, work, tmp_path).history) == 2
    assert trainer.created() == 0


@pytest.mark.parametrize("left", ["failed", "of another image"])
def test_what_is_left_of_another_try_is_replaced(trainer, work, tmp_path, left):
    old = train_job(NAME, tmp_path / "0123456789abcdef", SETTINGS)
    if left == "failed":
        old["status"] = {"conditions": [{"type": "Failed", "status": "True"}]}
    else:
        old["spec"]["trainer"]["image"] = "old"
    trainer.jobs[NAME] = old
    train(trainer, work, tmp_path)
    assert trainer.created() == 1


def test_a_lost_answer_starts_nothing_twice(trainer, work, tmp_path):
    trainer.answers = {"POST": ["lost"], "GET": ["lost"], "DELETE": ["lost"]}
    assert len(train(trainer, work, tmp_path).history) == 2
    assert not trainer.jobs


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, refusal(401, "Unauthorized")), "the token has expired"),
        ((403, refusal(403, "trainjobs is forbidden", NAME)), "role sasrec-training"),
        ((403, refusal(403, "exceeded quota: count/trainjobs", NAME)), "exceeded quota"),
        ((404, refusal(404, "page not found")), "Kubeflow Trainer 2.3 or later is not installed"),
        ((422, refusal(422, "image: must not be empty", NAME)), "image: must not be empty"),
    ],
)
def test_a_refusal_names_the_next_step_and_leaves_nothing(trainer, work, tmp_path, answer, said):
    trainer.answers = {"POST": [answer]}
    assert said in refused(trainer, work, tmp_path)
    assert not trainer.jobs
    train(trainer, work, tmp_path)  # and repeating it is safe


def test_a_wrong_namespace_is_named(trainer, work, tmp_path):
    assert "404 in namespace other" in refused(trainer, work, tmp_path, namespace="other")


def test_an_api_server_that_stays_away_is_given_up_on(trainer, work, tmp_path):
    trainer.answers = {"GET": [(503, refusal(503, "away"))] * 50}
    assert "answered 503" in refused(trainer, work, tmp_path)


def test_a_pod_that_cannot_start_ends_the_job(trainer, work, tmp_path):
    trainer.waiting = ("ImagePullBackOff", "manifest unknown")
    said = refused(trainer, work, tmp_path)
    assert "sasrec-train-node-0-1: ImagePullBackOff (manifest unknown)" in said
    assert "kubectl describe" in said
    assert not trainer.jobs


def test_a_failed_job_says_why_and_is_deleted(trainer, work, tmp_path):
    trainer.ends = {"type": "Failed", "reason": "DeadlineExceeded", "message": "too\nlong"}
    assert "DeadlineExceeded (too long)" in refused(trainer, work, tmp_path)
    assert not trainer.jobs


def test_pods_that_wait_for_ever_are_not_waited_for(trainer, work, tmp_path):
    trainer.waiting = ("ContainerCreating", "")
    said = refused(trainer, work, tmp_path, timeout_seconds=1)
    assert "quota or a node" in said
    assert not trainer.jobs


# Who cleans up


WORKFLOW = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "Workflow",
    "name": "sasrec-x",
    "uid": "w",
}


@pytest.fixture
def in_a_run(trainer, monkeypatch):
    """This process is the pod of a task, as Kubeflow's environment and Argo's owner say."""
    metadata = {"name": "pod-1", "uid": "p", "ownerReferences": [{**WORKFLOW, "controller": True}]}
    trainer.pods["pod-1"] = {"kind": "Pod", "apiVersion": "v1", "metadata": metadata}
    monkeypatch.setenv("KFP_POD_NAME", "pod-1")
    return trainer


def remember_owners(trainer, seen):
    """Note the owners of the job before it is deleted."""
    act = trainer._act

    def noting(method, path, body):
        seen.update({n: j["metadata"].get("ownerReferences") for n, j in trainer.jobs.items()})
        return act(method, path, body)

    trainer._act = noting


def test_the_job_goes_with_its_run(in_a_run, work, tmp_path):
    seen = {}
    remember_owners(in_a_run, seen)
    train(in_a_run, work, tmp_path)
    assert seen == {NAME: [WORKFLOW]}


def test_an_adopted_job_goes_with_the_run_that_adopted_it(in_a_run, work, tmp_path):
    (tmp_path / "0123456789abcdef").mkdir()
    old = {**WORKFLOW, "name": "of-last-night", "uid": "o"}
    left = train_job(NAME, tmp_path / "0123456789abcdef", SETTINGS, old)
    in_a_run.jobs[NAME] = left
    seen = {}
    remember_owners(in_a_run, seen)

    def finish(method, url, headers, body):
        if method == "PATCH":
            in_a_run.run(left)
        return Trainer.answer(in_a_run, method, url, headers, body)

    in_a_run.answer = finish
    train(in_a_run, work, tmp_path)
    assert seen == {NAME: [WORKFLOW]}
    assert in_a_run.created() == 0


def test_a_pod_without_a_workflow_owns_the_job_itself(in_a_run, work, tmp_path):
    del in_a_run.pods["pod-1"]["metadata"]["ownerReferences"]
    seen = {}
    remember_owners(in_a_run, seen)
    train(in_a_run, work, tmp_path)
    assert seen == {NAME: [{"apiVersion": "v1", "kind": "Pod", "name": "pod-1", "uid": "p"}]}


def test_a_launcher_that_is_told_to_end_takes_its_job_along(trainer, work, tmp_path):
    trainer.waiting = ("ContainerCreating", "")

    def terminate(method, url, headers, body):
        status = Trainer.answer(trainer, method, url, headers, body)
        if method == "POST":
            os.kill(os.getpid(), signal.SIGTERM)
        return status

    trainer.answer = terminate
    with pytest.raises(SystemExit, match="143"):
        train(trainer, work, tmp_path)
    assert trainer.created() == 1
    assert not trainer.jobs


def test_nodes_that_nobody_waits_for_end_themselves(tmp_path, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda _: ended.set())
    train_node.end_without_launcher(tmp_path)  # one host by itself: nobody is asked
    train_node.say_launcher_lives(tmp_path)
    train_node.end_without_launcher(tmp_path, poll_seconds=0.001)
    assert not ended.is_set()
    os.utime(tmp_path / train_node.LAUNCHER, (0, time.time() - train_node.LAUNCHER_SECONDS - 1))
    assert ended.wait(30)
