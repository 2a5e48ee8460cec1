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
    assert {name.removeprefix("exec-") for name in executors} == set(map(kebab, STAGES))
    assert len({executor["container"]["image"] for executor in executors.values()}) == 1


def behind_a_condition(specification, tasks, known):
    """The tasks of the one condition among `tasks` that is none of `known`."""
    [condition] = set(tasks) - known
    assert tasks[condition]["triggerPolicy"]["condition"].endswith("== 'promote'")
    return specification["components"][tasks[condition]["componentRef"]["name"]]["dag"]["tasks"]


def test_only_a_promoted_model_is_refit_and_only_a_fit_one_deployed(specification):
    last = {"refit", "register", "deploy"}
    root = specification["root"]["dag"]["tasks"]
    promoted = behind_a_condition(specification, root, set(map(kebab, STAGES)) - last)
    assert "refit" in promoted
    fit = behind_a_condition(specification, promoted, {"refit"})
    assert set(fit) == {"register", "deploy"}


def test_settings_become_the_default_of_the_config_parameter(specification):
    parameters = specification["root"]["inputDefinitions"]["parameters"]
    assert json.loads(parameters["config"]["defaultValue"])["train"]["epochs"] == 3
