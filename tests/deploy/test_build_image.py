"""`deploy/build_image.sh`: the first engine that works builds, and none is one clear line."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path("deploy/build_image.sh").resolve()
TOOLS = ("bash", "git", "dirname", "env")


@pytest.fixture
def machine(tmp_path):
    """A PATH of its own; `add` puts an engine there that notes how it was called."""

    class Machine:
        calls = tmp_path / "calls"

        def add(self, engine: str, *, works: bool = True) -> None:
            script = tmp_path / engine
            refuse = "" if works else '[ "$1" = info ] && exit 1\n'
            script.write_text(f'#!/bin/bash\n{refuse}echo "{engine} $*" >> {self.calls}\n')
            script.chmod(0o755)

        def build(self, *options: str) -> subprocess.CompletedProcess[str]:
            environment = {"PATH": str(tmp_path), "HOME": os.environ.get("HOME", "/")}
            command = [str(tmp_path / "bash"), str(SCRIPT), *options]
            return subprocess.run(command, env=environment, capture_output=True, text=True)

    for tool in TOOLS:
        found = subprocess.run(["which", tool], capture_output=True, text=True).stdout.strip()
        (tmp_path / tool).symlink_to(found)
    return Machine()


@pytest.mark.parametrize("engine", ["docker", "podman", "buildah"])
def test_the_engine_that_is_there_builds_the_commit(machine, engine):
    machine.add(engine)
    done = machine.build("--build-arg", "VARIANT=cpu")
    assert done.returncode == 0, done.stderr
    build = machine.calls.read_text().splitlines()[-1]
    assert build.startswith(f"{engine} build")
    assert "--file deploy/Dockerfile" in build
    assert build.endswith("--build-arg VARIANT=cpu .")
    [commit] = [word for word in build.split() if word.startswith("COMMIT=")]
    tag = f"sasrec-pipeline:{commit.removeprefix('COMMIT=')}"
    assert f"--tag {tag}" in build
    assert f"push it with: {engine} push {tag}" in done.stdout
    assert ("--ignorefile deploy/Dockerfile.dockerignore" in build) is (engine != "docker")


def test_a_docker_without_its_daemon_is_passed_over(machine):
    machine.add("docker", works=False)
    machine.add("buildah")
    assert machine.build().returncode == 0
    assert "buildah build" in machine.calls.read_text()


def test_no_engine_is_one_line(machine):
    machine.add("docker", works=False)
    done = machine.build()
    assert done.returncode == 2
    assert done.stderr.startswith("error: no container engine answers")
    assert len(done.stderr.splitlines()) == 1
