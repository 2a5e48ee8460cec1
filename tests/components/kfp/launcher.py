"""The launcher's part of a task: the component's own code runs, then its outputs are stored."""

import contextlib
import io
import json
import os
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from kfp.dsl.executor import Executor


class ContainerFailed(Exception):
    """The main container exits with a status other than 0; the message is its log's end."""


@dataclass(frozen=True)
class Outputs:
    """What a task hands on: parameters, and artifacts as ExecutorInput holds them."""

    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)


def launch(
    executor: dict[str, Any],
    component: dict[str, Any],
    inputs: Outputs,
    environment: dict[str, str],
    folder: Path,
    host: str,
) -> Outputs:
    """Run a component of a compiled pipeline and return what was stored.

    Args:
        executor: `deploymentSpec.executors.*.container` of the compiled document.
        component: `components.*` of it.
        folder: the task's own, where the artifacts are.
        host: the pod's name, which is what its processes take for their machine's.

    Raises:
        ContainerFailed: the component raised, left a parameter out, or left metadata that ML
            Metadata cannot store, after it did its work.
    """
    executor_input = _executor_input(component, inputs, folder)
    log = io.StringIO()
    with (
        _environment(environment),
        mock.patch("feature_repo.lease.this_host", return_value=host),
        contextlib.redirect_stdout(log),
    ):
        try:
            Executor(executor_input, _function(executor)).execute()
        except Exception:
            raise ContainerFailed(f"{log.getvalue()}{traceback.format_exc()}") from None
    return _stored(component, executor_input, folder)


def _executor_input(component: dict[str, Any], inputs: Outputs, folder: Path) -> dict[str, Any]:
    """As pipelines/backend/src/v2/driver hands it to the launcher."""
    declared = component.get("outputDefinitions", {})
    parameters = {
        name: {"outputFile": str(folder / name)} for name in declared.get("parameters", {})
    }
    artifacts = {
        name: {
            "artifacts": [
                {
                    "name": name,
                    "uri": str(folder / name),
                    "type": {"schemaTitle": about["artifactType"]["schemaTitle"]},
                    "metadata": {},
                }
            ]
        }
        for name, about in declared.get("artifacts", {}).items()
    }
    return {
        "inputs": {
            "parameterValues": inputs.parameters,
            "artifacts": {name: {"artifacts": [a]} for name, a in inputs.artifacts.items()},
        },
        "outputs": {
            "parameters": parameters,
            "artifacts": artifacts,
            "outputFile": str(folder / "executor_output.json"),
        },
    }


def _function(executor: dict[str, Any]) -> Any:
    """The component's function, from the source in its command."""
    source = next(part for part in executor["command"] if "\ndef " in part)
    names: dict[str, Any] = {"__name__": "ephemeral_component"}
    exec(compile(source, "ephemeral_component.py", "exec"), names)
    return names[executor["args"][executor["args"].index("--function_to_execute") + 1]]


def _stored(component: dict[str, Any], executor_input: dict[str, Any], folder: Path) -> Outputs:
    """Read back what the executor wrote, as pipelines/backend/src/v2/component/launcher_v2.go does.

    An artifact may be without a file there (metrics are metadata alone), a parameter may not.
    """
    text = (folder / "executor_output.json").read_text()
    written = json.loads(text, parse_constant=_not_json)
    declared = component.get("outputDefinitions", {})
    artifacts = {}
    for name in declared.get("artifacts", {}):
        [offered] = executor_input["outputs"]["artifacts"][name]["artifacts"]
        [artifact] = written.get("artifacts", {}).get(name, {}).get("artifacts", [offered])
        for key, value in artifact["metadata"].items():
            _storable(name, key, value)
        artifacts[name] = {**artifact, "type": offered["type"]}
    parameters = {}
    for name in declared.get("parameters", {}):
        file = folder / name
        if name in written.get("parameterValues", {}):
            parameters[name] = written["parameterValues"][name]
        elif file.exists():
            parameters[name] = file.read_text()
        else:
            raise ContainerFailed(f"missing output parameter {name}")
    return Outputs(parameters, artifacts)


def _not_json(word: str) -> Any:
    raise ContainerFailed(f"failed to unmarshal ExecutorOutput: {word} is not a JSON value")


def _storable(artifact: str, key: str, value: Any) -> None:
    """Refuse null, as pipelines/backend/src/v2/metadata/converter.go does."""
    if value is None:
        raise ContainerFailed(
            f"failed to publish results to ML Metadata: artifact {artifact}, metadata {key}: "
            "unknown/unsupported value type *structpb.Value_NullValue"
        )


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
