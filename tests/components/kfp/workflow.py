"""One run of a stored pipeline, from the compiled document to its last state."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.components.kfp.access import TASK_NEEDS, Access
from tests.components.kfp.argo import Clock, Defaults, Node, Phase, Retries, retry
from tests.components.kfp.documents import Package
from tests.components.kfp.driver import RunFacts, final_state, final_status, resolve_constant
from tests.components.kfp.launcher import ContainerFailed, Outputs, launch


@dataclass
class Installation:
    """What the cluster gives pods.

    Attributes:
        defaults: what Argo does with a template beyond what it names itself.
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
    defaults: Defaults
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    claims: set[str] = field(default_factory=lambda: {"sasrec-home"})
    seconds: dict[str, float] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)
    meanwhile: dict[str, Callable[[], Any]] = field(default_factory=dict)


@dataclass
class Workflow:
    """A run's tasks as they end.

    Attributes:
        nodes: each task that began, by name, with the attempts of all groups that it was in.
        states: KFP's word for each task, as the API gives it.
        logs: the end of each failed attempt's log, per task.
        final_statuses: what exit handlers were given.
        pods: how many containers were launched.
    """

    package: Package
    facts: RunFacts
    installation: Installation
    account: str
    nodes: dict[str, Node] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    logs: dict[str, list[str]] = field(default_factory=dict)
    final_statuses: list[dict[str, Any]] = field(default_factory=list)
    pods: int = 0

    def run(self, parameters: dict[str, Any]) -> str:
        """Run to the end and return SUCCEEDED or FAILED."""
        root = self.package.specification["root"]
        declared = root.get("inputDefinitions", {}).get("parameters", {})
        defaults = {n: p["defaultValue"] for n, p in declared.items() if "defaultValue" in p}
        given = Outputs(defaults | parameters)

        def entrypoint(number: int) -> Phase:
            return self._group(root["dag"], given)[1]

        phase = self._retried(entrypoint).phase  # a template around the root's
        return "SUCCEEDED" if phase is Phase.SUCCEEDED else "FAILED"

    def _retried(self, attempt: Callable[[int], Phase], task: dict[str, Any] | None = None) -> Node:
        """As the template's own retryStrategy, if it is a task's pod, and the install's say."""
        defaults, clock = self.installation.defaults, self.installation.clock
        retries = Retries.default(defaults)
        message = ""
        if task is not None:
            retries, message = Retries.of(task) or retries, "main: Error (exit code 1)"
        deadline = self.facts.created_at + timedelta(days=1)
        return retry(attempt, retries, defaults, clock, deadline, message)

    def _group(self, dag: dict[str, Any], given: Outputs) -> tuple[str, Phase]:
        """Run the tasks of one level, all of them anew where Argo says so.

        Returns:
            ML Metadata's state of the level, and Argo's.
        """
        state = ""

        def attempt(number: int) -> Phase:
            nonlocal state
            state, phase = self._tasks(dag, given)
            return phase

        phase = self._retried(attempt).phase
        return state, phase

    def _tasks(self, dag: dict[str, Any], given: Outputs) -> tuple[str, Phase]:
        """Run the tasks of one level in their order, once; as `_group`."""
        done: dict[str, Outputs] = {}
        mlmd: dict[str, str] = {}
        ended = Phase.SUCCEEDED
        for name, task in _ordered(dag["tasks"]):
            trigger = task.get("triggerPolicy", {})
            upstream = [mlmd.get(other) for other in task.get("dependentTasks", [])]
            always = trigger.get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
            if not always and any(state not in ("COMPLETE", "CANCELED") for state in upstream):
                self.states[name] = "RUNTIME_STATE_UNSPECIFIED"  # Argo's Omitted
                continue
            inputs = self._inputs(name, task, given, done, mlmd)
            if (condition := trigger.get("condition")) and not _holds(condition, inputs):
                mlmd[name], self.states[name] = "CANCELED", "SKIPPED"
                continue
            done[name], mlmd[name], phase = self._task(name, task, inputs)
            # Argo fails the workflow for any failed task, whatever the exit handler made of it.
            ended = ended if phase is Phase.SUCCEEDED else phase
        state = final_state(mlmd, len(dag["tasks"]))
        failed = ended is not Phase.SUCCEEDED
        return ("FAILED" if failed and state == "COMPLETE" else state), ended

    def _task(self, name: str, task: dict[str, Any], inputs: Outputs) -> tuple[Outputs, str, Phase]:
        component = self.package.specification["components"][task["componentRef"]["name"]]
        if "dag" in component:
            state, phase = self._group(component["dag"], inputs)
            self.states[name] = "SUCCEEDED" if phase is Phase.SUCCEEDED else "FAILED"
            return Outputs(), state, phase
        outputs, said = Outputs(), "FAILED"
        all_attempts = self.nodes.setdefault(name, Node())

        def attempt(number: int) -> Phase:
            nonlocal outputs, said
            try:
                outputs = self._pod(name, component, inputs)
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

        def executor(number: int) -> Phase:
            """The group that Kubeflow compiles around each pod."""
            node = self._retried(attempt, task)
            all_attempts.attempts += node.attempts
            all_attempts.message = node.message
            return node.phase

        phase = self._retried(executor).phase
        if meanwhile := self.installation.meanwhile.pop(name, None):
            meanwhile()
        self.states[name] = "SUCCEEDED" if phase is Phase.SUCCEEDED else "FAILED"
        return outputs, said, phase

    def _pod(self, name: str, component: dict[str, Any], inputs: Outputs) -> Outputs:
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
        self.pods += 1
        folder = self.installation.folder / self.facts.run_id / name / str(self.pods)
        folder.mkdir(parents=True)
        pod = f"{self.facts.workflow}-{name}-{self.pods}"
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
