"""The compiled documents: what a Kubeflow cluster would be given."""

import json

import pytest
import yaml
from kfp import components as kfp_components
from typer.testing import CliRunner

from components.support.stage import STAGES
from pipeline import app


def kebab(stage: str) -> str:
    return stage.replace("_", "-")


TASKS = {"start-run", *map(kebab, STAGES)}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    result = CliRunner().invoke(app, ["compile", "--output", str(path), "--set", "train.epochs=3"])
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="module")
def specification(compiled):
    return next(yaml.safe_load_all(compiled.read_text()))


def test_compiling_twice_gives_the_same_bytes(compiled, tmp_path):
    again = tmp_path / "again.yaml"
    CliRunner().invoke(app, ["compile", "--output", str(again), "--set", "train.epochs=3"])
    assert again.read_bytes() == compiled.read_bytes()


def test_kfp_loads_what_was_compiled(compiled):
    component = kfp_components.load_component_from_file(str(compiled))
    assert set(component.component_spec.inputs) == {"config", "home", "run_dir"}


def test_every_stage_is_there_in_one_image(specification):
    executors = specification["deploymentSpec"]["executors"]
    assert {name.removeprefix("exec-") for name in executors} == TASKS | {"report-outcome"}
    assert len({executor["container"]["image"] for executor in executors.values()}) == 1


def inside(specification, tasks, condition):
    """The tasks of the only condition among `tasks`, which asks for this value."""
    [name] = [name for name in tasks if name.startswith("condition-")]
    assert tasks[name]["triggerPolicy"]["condition"].endswith(f"== '{condition}'")
    return specification["components"][tasks[name]["componentRef"]["name"]]["dag"]["tasks"]


def own(tasks):
    return {name for name in tasks if not name.startswith("condition-")}


def test_only_new_data_is_trained_on_and_only_what_is_promoted_and_fit_is_deployed(specification):
    [handler] = {"exit-handler-1"} & set(specification["root"]["dag"]["tasks"])
    root = specification["components"][f"comp-{handler}"]["dag"]["tasks"]
    new = inside(specification, root, "new")
    promoted = inside(specification, new, "promote")
    fit = inside(specification, promoted, "promote")
    assert own(root) == {"start-run", "ingest"}
    assert {"train", "gate"} <= own(new)
    assert own(promoted) == {"refit"}
    assert own(fit) == {"register", "deploy"}


def test_settings_become_the_default_of_the_config_parameter(specification):
    parameters = specification["root"]["inputDefinitions"]["parameters"]
    assert json.loads(parameters["config"]["defaultValue"])["train"]["epochs"] == 3
