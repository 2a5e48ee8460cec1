"""One run of a stored pipeline, from the compiled document to its last state."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.components.kfp.access import TASK_NEEDS, Access
from tests.components.kfp.argo import Clock, Node, Phase, Retries, retry
from tests.components.kfp.documents import Package
from tests.components.kfp.driver import RunFacts, final_state, final_status, resolve_constant
from tests.components.kfp.launcher import ContainerFailed, Outputs, launch


@dataclass
class Installation:
    """What the cluster gives pods.

    Attributes:
        retry_policy: what Argo does with a template that names none. KFP 2.17.0 installs Argo with
            OnError (pipelines/manifests/kustomize/third-party/argo/base/
            workflow-controller-configmap-patch.yaml); Argo's own default is OnFailure.
        secrets: name -> key -> value.
        claims: the volume claims that exist.
        seconds: how long an attempt of a task takes on the cluster's clock; default 60.
        faults: what happens to a task's attempts, first to last: "crash" (exit 1 at once), "kill"
            (out of memory, at once), "drain" (the pod is deleted before it did anything) or "lost"
            (the pod is deleted when its work is done, before it is stored).
        meanwhile: what happens on the cluster as a task has ended, once.
    """

    clock: Clock
    folder: Path
    access: Access
    retry_policy: str = "Always"
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    claims: set[str] = field(default_factory=lambda: {"sasrec-home"})
    seconds: dict[str, float] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)
    meanwhile: dict[str, Callable[[], Any]] = field(default_factory=dict)


@dataclass
class Workflow:
    """A run's tasks as they end.

    Attributes:
        nodes: each task that began, by name.
        states: KFP's word for each task, as the API gives it.
        logs: the end of each failed attempt's log, per task.
        final_statuses: what exit handlers were given.
    """

    package: Package
    facts: RunFacts
    installation: Installation
    account: str
    nodes: dict[str, Node] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    logs: dict[str, list[str]] = field(default_factory=dict)
    final_statuses: list[dict[str, Any]] = field(default_factory=list)

    def run(self, parameters: dict[str, Any]) -> str:
        """Run to the end and return SUCCEEDED or FAILED."""
        root = self.package.specification["root"]
        declared = root.get("inputDefinitions", {}).get("parameters", {})
        defaults = {n: p["defaultValue"] for n, p in declared.items() if "defaultValue" in p}
        state = self._group(root["dag"], Outputs(defaults | parameters))
        return "SUCCEEDED" if state == "COMPLETE" else "FAILED"

    def _group(self, dag: dict[str, Any], given: Outputs) -> str:
        """Run the tasks of one level in their order; ML Metadata's state of the level."""
        done: dict[str, Outputs] = {}
        mlmd: dict[str, str] = {}
        failed = False
        for name, task in _ordered(dag["tasks"]):
            trigger = task.get("triggerPolicy", {})
            upstream = [mlmd.get(other) for other in task.get("dependentTasks", [])]
            always = trigger.get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
            if not always and any(state not in ("COMPLETE", "CANCELED") for state in upstream):
                continue
            inputs = self._inputs(name, task, given, done, mlmd)
            if (condition := trigger.get("condition")) and not _holds(condition, inputs):
                mlmd[name], self.states[name] = "CANCELED", "SKIPPED"
                continue
            done[name], mlmd[name] = self._task(name, task, inputs)
            failed |= mlmd[name] != "COMPLETE"
        # Argo fails the workflow for any failed task, whatever the exit handler made of it.
        state = final_state(mlmd, len(dag["tasks"]))
        return "FAILED" if failed and state == "COMPLETE" else state

    def _task(self, name: str, task: dict[str, Any], inputs: Outputs) -> tuple[Outputs, str]:
        component = self.package.specification["components"][task["componentRef"]["name"]]
        if "dag" in component:
            state = self._group(component["dag"], inputs)
            self.states[name] = "SUCCEEDED" if state == "COMPLETE" else "FAILED"
            return Outputs(), state
        outputs, said = Outputs(), "FAILED"

        def attempt(number: int) -> Phase:
            nonlocal outputs, said
            try:
                outputs = self._pod(name, component, inputs, number)
                said = "COMPLETE"
                return Phase.SUCCEEDED
            except ContainerFailed as error:
                said = "FAILED"
                self.logs.setdefault(name, []).append(str(error))
                return Phase.FAILED
            except PodGone as error:
                said = "RUNNING"
                self.logs.setdefault(name, []).append(str(error))
                return Phase.ERROR

        clock = self.installation.clock
        deadline = self.facts.created_at + timedelta(days=1)
        node = retry(attempt, Retries.of(task), self.installation.retry_policy, clock, deadline)
        self.nodes[name] = node
        if meanwhile := self.installation.meanwhile.pop(name, None):
            meanwhile()
        self.states[name] = "SUCCEEDED" if node.phase is Phase.SUCCEEDED else "FAILED"
        return outputs, said

    def _pod(self, name: str, component: dict[str, Any], inputs: Outputs, number: int) -> Outputs:
        """One attempt: what stops it before, the component, what stops it after."""
        faults = self.installation.faults.get(name, [])
        fault = faults.pop(0) if faults else ""
        self._check_rights()
        executor = self._executor(component)
        environment = self._environment(component["executorLabel"], executor)
        if fault == "drain":
            raise PodGone("pod deleted")
        self.installation.clock.wait(self.installation.seconds.get(name, 60))
        if fault == "crash":
            raise ContainerFailed("Error (exit code 1)")
        if fault == "kill":
            raise ContainerFailed("OOMKilled (exit code 137)")
        folder = self.installation.folder / self.facts.run_id / name / str(number)
        folder.mkdir(parents=True)
        pod = f"{self.facts.workflow}-{name}-{number}"
        outputs = launch(executor, component, inputs, environment, folder, pod)
        if fault == "lost":
            raise PodGone("pod deleted")
        return outputs

    def _executor(self, component: dict[str, Any]) -> dict[str, Any]:
        executors = self.package.specification["deploymentSpec"]["executors"]
        return executors[component["executorLabel"]]["container"]

    def _check_rights(self) -> None:
        for verb, group, resource in TASK_NEEDS:
            if not self.installation.access.allows(self.account, verb, group, resource):
                raise PodGone(
                    f"{resource}{'.' + group if group else ''} is forbidden: User "
                    f"system:serviceaccount:{self.account} cannot {verb} resource"
                )

    def _environment(self, label: str, executor: dict[str, Any]) -> dict[str, str]:
        """The container's variables; what the platform document asks for must be there."""
        pod = self.package.executors.get(label, {})
        for mount in pod.get("pvcMount", []):
            if mount["constant"] not in self.installation.claims:
                raise PodGone(f'persistentvolumeclaim "{mount["constant"]}" not found')
        variables = {entry["name"]: entry["value"] for entry in executor.get("env", [])}
        for secret in pod.get("secretAsEnv", []):
            values = self.installation.secrets.get(secret["secretName"], {})
            for key in secret["keyToEnv"]:
                if key["secretKey"] in values:
                    variables[key["envVar"]] = values[key["secretKey"]]
                elif not secret.get("optional"):
                    raise PodGone(
                        f"CreateContainerConfigError: no key {key['secretKey']} in Secret "
                        f"{secret['secretName']}"
                    )
        return variables

    def _inputs(
        self,
        name: str,
        task: dict[str, Any],
        given: Outputs,
        done: dict[str, Outputs],
        mlmd: dict[str, str],
    ) -> Outputs:
        wanted = task.get("inputs", {})
        artifacts = {}
        for key, source in wanted.get("artifacts", {}).items():
            if "taskOutputArtifact" in source:
                output = source["taskOutputArtifact"]
                artifacts[key] = done[output["producerTask"]].artifacts[output["outputArtifactKey"]]
            else:
                artifacts[key] = given.artifacts[source["componentInputArtifact"]]
        parameters = {}
        for key, source in wanted.get("parameters", {}).items():
            if "runtimeValue" in source:
                text = source["runtimeValue"]["constant"]
                parameters[key] = resolve_constant(text, name, self.facts)
            elif "taskOutputParameter" in source:
                output = source["taskOutputParameter"]
                produced = done[output["producerTask"]].parameters
                parameters[key] = produced[output["outputParameterKey"]]
            elif "taskFinalStatus" in source:
                producer = source["taskFinalStatus"]["producerTask"]
                status = final_status(mlmd[producer], producer, self.facts.workflow)
                self.final_statuses.append(status)
                parameters[key] = status
            else:
                parameters[key] = given.parameters[source["componentInputParameter"]]
        return Outputs(parameters, artifacts)


class PodGone(Exception):
    """A pod that ends in Argo's phase Error: deleted, or never able to start."""


def _ordered(tasks: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each task after those that it depends on, tasks with equal rights by name."""
    left = dict(sorted(tasks.items()))
    while left:
        name = next(
            n for n, t in left.items() if not left.keys() & set(t.get("dependentTasks", []))
        )
        yield name, left.pop(name)


def _holds(condition: str, inputs: Outputs) -> bool:
    match = re.fullmatch(r"inputs\.parameter_values\['(.+)'\] == '(.+)'", condition)
    if match is None:
        raise NotImplementedError(condition)
    return inputs.parameters[match[1]] == match[2]
