import ast
from pathlib import Path

import pytest

from components.support.metadata import storable
from tests.components.kfp.launcher import ContainerFailed, Outputs, launch

WORK = """
from kfp.dsl import *

def work(out: Output[Artifact]):
    open(out.path, "w").close()
    out.metadata["t1"] = {value}
"""
ARTIFACT = {"artifactType": {"schemaTitle": "system.Artifact"}}
COMPONENTS = sorted(Path("components").glob("*.py"))


def test_what_has_no_value_is_left_out_at_any_depth():
    values = {
        "t1": None,
        "rows": 3,
        "share": float("nan"),
        "counts": {"train": 1, "test": None},
        "notes": ["a", None, float("inf")],
    }
    assert storable(values) == {"rows": 3, "counts": {"train": 1}, "notes": ["a"]}


@pytest.mark.parametrize(("value", "message"), [("None", "NullValue"), ("float('nan')", "NaN")])
def test_kubeflow_fails_a_stage_after_its_work_for_what_is_left_out(tmp_path, value, message):
    source = WORK.format(value=value)
    executor = {"command": [source], "args": ["--function_to_execute", "work"]}
    component = {"outputDefinitions": {"artifacts": {"out": ARTIFACT}}}
    with pytest.raises(ContainerFailed, match=message):
        launch(executor, component, Outputs(), {}, tmp_path, "pod-1")
    assert (tmp_path / "out").exists()


@pytest.mark.parametrize("path", COMPONENTS, ids=lambda path: path.stem)
def test_no_component_writes_metadata_past_the_helper(path):
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Assign(targets=[ast.Subscript(value=ast.Attribute(attr="metadata"))]):
                pytest.fail(f"{path}:{node.lineno}: metadata[...] = ...")
            case ast.Call(func=ast.Attribute(attr="log_metric")):
                pytest.fail(f"{path}:{node.lineno}: log_metric checks nothing")
            case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="metadata"), attr="update")):
                [argument] = node.args
                assert argument.func.id == "storable", f"{path}:{node.lineno}"
