"""What an image must hold, read from its recipe; docs/production.md says how it was proven."""

import re
import tomllib
from pathlib import Path

import pytest

DEPLOY = Path("deploy")


@pytest.fixture(scope="module")
def stages():
    """The instructions of each stage: a list of (instruction, argument)."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    instructions = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    found = []
    for name, argument in instructions:
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, argument))
    return found


def arguments(stage, instruction):
    return [argument for name, argument in stage if name == instruction]


def test_the_final_stage_is_not_root_and_holds_only_the_environment(stages):
    final = stages[-1]
    [user] = arguments(final, "USER")
    assert all(int(number) >= 10000 for number in user.split(":"))
    assert arguments(final, "COPY") == ["--from=build /sasrec /sasrec"]
    assert not any("pip" in command for command in arguments(final, "RUN"))
    assert not any(arguments(stage, "ADD") for stage in stages)


def test_every_library_is_pinned(stages):
    [install, project] = [c for c in arguments(stages[0], "RUN") if "pip install" in c]
    assert "-c constraints.txt" in install
    assert "--no-deps" in project
    assert "--no-index" in project


def test_every_package_of_the_project_is_copied_and_sent_to_the_builder(stages):
    project = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["setuptools"]
    packages = [name.rstrip("*") for name in project["packages"]["find"]["include"]]
    copied = " ".join(arguments(stages[0], "COPY")).split()
    sent = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    for package in packages:
        assert package in copied
        assert f"!{package}" in sent
    assert "*" in sent


def test_the_image_says_which_commit_it_is(stages):
    [labels] = arguments(stages[-1], "LABEL")
    assert 'org.opencontainers.image.revision="${COMMIT}"' in labels


def test_what_is_written_at_run_time_goes_to_tmp(stages):
    variables = dict(re.findall(r"(\w+)=(\S+)", arguments(stages[-1], "ENV")[0]))
    for name in ("HOME", "TRITON_CACHE_DIR", "MPLCONFIGDIR", "BENTOML_HOME"):
        assert variables[name].startswith("/tmp")
    assert variables["PYTHONDONTWRITEBYTECODE"] == "1"
