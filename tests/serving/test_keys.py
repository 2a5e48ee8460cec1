"""Where keys come from, who gets which, and where they are never printed."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components.runners.platform import PlatformSettings
from sasrec.data.vocabulary import Vocabulary
from serving import __main__ as command
from serving import create_keys
from serving.security import ApiKeys

MANIFESTS = Path("deploy/kubernetes")


@pytest.fixture
def secret(tmp_path):
    """The Secret that the command writes: value by key."""
    return {path.name: path.read_text() for path in create_keys.write_secret(tmp_path)}


def test_the_secret_has_every_key_that_manifests_and_runs_ask_of_it(secret, tmp_path):
    monitor = yaml.safe_load((MANIFESTS / "monitoring/service-monitor.yaml").read_text())
    scraped_with = monitor["spec"]["endpoints"][0]["authorization"]["credentials"]
    smoke_test = PlatformSettings.load(Path("deploy/platform.yaml")).serving_key
    assert scraped_with["name"] == smoke_test.name == "sasrec-api-keys"
    for key in (scraped_with["key"], smoke_test.key):
        assert secret[key] == secret[key].strip() != ""
    keys = ApiKeys.load(tmp_path / create_keys.KEY_FILE)
    opened = {
        key: [
            r for r in ("recommend", "events", "metrics", "admin") if keys.allow(value.encode(), r)
        ]
        for key, value in secret.items()
        if key != create_keys.KEY_FILE
    }
    assert opened == {scraped_with["key"]: ["metrics"], smoke_test.key: ["recommend"]}
    assert keys.recommend[0] != secret[smoke_test.key], "clients have a key of their own"


def test_the_command_says_how_they_become_a_secret_and_keeps_what_exists(secret, tmp_path):
    command = [sys.executable, "-m", "serving.create_keys", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, value in secret.items():
        assert f"--from-file={tmp_path / name}" in done.stdout
        assert (tmp_path / name).read_text() == value
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
        assert value not in done.stdout
    (tmp_path / create_keys.KEY_FILE).write_text('{"recommend": ["one"]}')
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("host", "terminal", "shown"),
    [("127.0.0.1", True, True), ("127.0.0.1", False, False), ("0.0.0.0", True, False)],
)
def test_keys_are_shown_on_the_users_own_screen_alone(tmp_path, monkeypatch, host, terminal, shown):
    Vocabulary(["item"]).save(tmp_path / "vocabulary.json")
    printed = []
    monkeypatch.setattr(command, "_champion", lambda _: tmp_path)
    monkeypatch.setattr("builtins.print", lambda *words, **_: printed.append(str(words[0])))
    monkeypatch.setattr(command.os, "execve", lambda *_: None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    command.serve(home=tmp_path, host=host, port=0, workers=1, insecure=False)
    keys = ApiKeys.load(tmp_path / "api_keys.json")
    assert any(keys.admin[0] in text for text in printed) == shown
    assert shown or "jq -r '.admin[0]'" in "".join(printed)
