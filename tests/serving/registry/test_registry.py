import json
import os
import threading

import pytest
from typer.testing import CliRunner

from serving.registry import ModelStore, RegistryError, StaleAliases
from serving.registry.__main__ import app
from serving.registry.bento import model_store
from tests.serving.sites import register, save_model


@pytest.fixture
def store(home):
    return ModelStore(home / "models")


def audit(store):
    return [json.loads(line) for line in (store.root / "audit.jsonl").read_text().splitlines()]


def test_the_same_content_is_the_same_version(store, tmp_path):
    model_dir = save_model(tmp_path / "again", seed=7)
    first = store.register(model_dir, metadata={"run": 1})
    assert store.register(model_dir, metadata={"run": 2}) == first
    assert store.show(first).metadata == {"run": 1}
    (model_dir / "config.json").write_text("{}")
    assert store.register(model_dir, metadata={}) != first


def test_a_version_is_in_bentoml_s_store_too(store, home):
    version = store.aliases().champion
    [model] = model_store(home).list("sasrec")
    assert model.tag.version == version
    original = store.path(version) / "model.safetensors"
    assert (model_store(home).get(model.tag)._path / "model.safetensors").read_bytes() == (
        original.read_bytes()
    )


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "vocabulary.json"])
def test_an_incomplete_model_leaves_nothing_behind(store, tmp_path, missing):
    model_dir = save_model(tmp_path / "broken", seed=2)
    (model_dir / missing).unlink()
    before = sorted(store.root.iterdir())
    with pytest.raises(RegistryError, match=missing):
        store.register(model_dir, metadata={})
    assert sorted(store.root.iterdir()) == before


def test_a_crash_while_registering_leaves_no_version(store, tmp_path, monkeypatch):
    model_dir = save_model(tmp_path / "crash", seed=2)
    before = sorted(store.root.iterdir())
    monkeypatch.setattr("serving.registry.store.fsync", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.register(model_dir, metadata={})
    assert sorted(store.root.iterdir()) == before


def _interrupted(_):
    raise KeyboardInterrupt


def flip_a_byte(path):
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: flip_a_byte(d / "model.safetensors"), "model.safetensors: sha256 differs"),
        (lambda d: (d / "vocabulary.json").unlink(), "vocabulary.json: file is missing"),
        (lambda d: (d / "extra.txt").write_text(""), "extra.txt: file is not in the manifest"),
    ],
)
def test_damage_is_found_and_not_promoted(store, tmp_path, damage, message):
    champion = store.aliases()
    version = register(store.root.parent, tmp_path, seed=2)
    damage(store.path(version))
    with pytest.raises(RegistryError, match=message):
        store.promote(version)
    assert store.aliases() == champion


def test_promote_and_rollback_keep_the_previous_champion(store, tmp_path):
    first = store.aliases().champion
    second = register(store.root.parent, tmp_path, seed=2)
    promoted = store.promote(second, why="better")
    assert (promoted.champion, promoted.previous) == (second, first)
    assert promoted.generation == 2
    back = store.rollback(why="worse")
    assert (back.champion, back.previous, back.generation) == (first, second, 3)
    assert [(line["action"], line["from"], line["to"], line["why"]) for line in audit(store)][
        -2:
    ] == [("promote champion", first, second, "better"), ("rollback", second, first, "worse")]


def test_a_challenger_that_wins_leaves_its_role(store, tmp_path):
    second = register(store.root.parent, tmp_path, seed=2)
    assert store.promote(second, role="challenger").challenger == second
    assert store.promote(second).challenger is None


def test_promoting_against_an_old_generation_is_refused(store, tmp_path):
    second = register(store.root.parent, tmp_path, seed=2)
    with pytest.raises(StaleAliases, match="generation is 1, expected 0"):
        store.promote(second, expected_generation=0)


def test_of_concurrent_promotions_one_wins_each_generation(store, tmp_path):
    versions = [register(store.root.parent, tmp_path, seed=seed) for seed in range(2, 6)]
    generation = store.aliases().generation
    outcomes = []

    def promote(version):
        try:
            outcomes.append(store.promote(version, expected_generation=generation))
        except StaleAliases:
            outcomes.append(None)

    threads = [threading.Thread(target=promote, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [outcome for outcome in outcomes if outcome is not None]
    assert store.aliases() == winner


def test_gc_keeps_roles_and_the_newest(store, tmp_path):
    champion = store.aliases().champion
    idle = [register(store.root.parent, tmp_path, seed=seed) for seed in range(2, 5)]
    assert store.gc(keep=1) == [idle[1], idle[0]]
    assert {manifest.version for manifest in store.versions()} == {champion, idle[2]}
    assert {m.tag.version for m in model_store(store.root.parent).list("sasrec")} == {
        champion,
        idle[2],
    }


def test_gc_removes_what_was_killed_and_keeps_what_it_cannot_read(store, tmp_path):
    damaged, idle = (register(store.root.parent, tmp_path, seed=seed) for seed in (2, 3))
    manifest = store.path(damaged) / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_text("{")
    for name in (".deleting-0123456789abcdef", ".registering-old", ".registering-now"):
        (store.root / name).mkdir()
        (store.root / name / "model.safetensors").touch()
    os.utime(store.root / ".registering-old", (0, 0))
    assert store.gc(keep=0) == [idle]
    assert store.path(damaged).exists()
    left = {path.name for path in store.root.iterdir() if path.is_dir()}
    assert left == {store.aliases().champion, damaged, ".registering-now"}


def test_commands(store, home, tmp_path):
    second = register(home, tmp_path, seed=2)
    runner = CliRunner()

    def run(*arguments, status=0):
        result = runner.invoke(app, [*arguments, "--home", str(home)])
        assert result.exit_code == status, result.output
        return result.output

    assert second in run("list")
    run("promote", second[:8], "--why", "trying")
    assert store.aliases().champion == second
    assert audit(store)[-1]["why"] == "trying"
    run("rollback")
    assert store.aliases().previous == second
    assert "match the manifest" in run("verify", "champion")
    assert json.loads(run("show", second))["version"] == second
    assert "matches 0 versions" in run("promote", "zz", status=2)
    run("gc", "--keep", "0")
    assert len(store.versions()) == 2  # champion and previous stay


def test_a_user_without_a_name_is_written_down_as_a_number(store, tmp_path, monkeypatch):
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    store.register(save_model(tmp_path / "nameless", seed=11), metadata={})
    assert audit(store)[-1]["who"] == f"uid {os.getuid()}"
