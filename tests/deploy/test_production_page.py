"""`docs/production.md` names things that exist, and commands that are understood."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

import pipeline
from components.runners.endpoint import Endpoint
from serving.release.rollout import RolloutSettings

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


def test_every_variable_it_names_is_read():
    known = {f"KF_PIPELINES_{name.upper()}" for name in Endpoint.model_fields}
    known |= {f"SASREC_ROLLOUT_{name.upper()}" for name in RolloutSettings.model_fields}
    named = set(re.findall(r"\b(?:KF_PIPELINES|SASREC_ROLLOUT)_[A-Z_]+[A-Z]", PAGE))
    assert named
    assert named <= known
