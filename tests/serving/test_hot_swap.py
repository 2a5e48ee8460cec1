import time

import pytest
from safetensors.torch import load_file, save

from serving import metrics
from serving.hot_swap import LiveModels
from serving.registry import ModelStore, RegistryError
from serving.registry.files import replace, sha256
from serving.registry.store import GOLDEN, MANIFEST, Manifest
from tests.serving.sites import register


@pytest.fixture
def store(home):
    return ModelStore(home / "models")


@pytest.fixture
def live(store, monkeypatch):
    monkeypatch.setattr("serving.hot_swap.POLL_SECONDS", 0.02)
    live = LiveModels(store)
    yield live
    live.close()


def serves(live, version, within=5.0):
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if live.current.champion.version == version:
            return True
        time.sleep(0.01)
    return False


def refusals():
    return metrics.SWAP_FAILURES._value.get()


def refused(before, within=5.0):
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if refusals() > before:
            return True
        time.sleep(0.01)
    return False


def test_a_promotion_is_followed_and_a_rollback_needs_no_loading(
    live, store, tmp_path, monkeypatch
):
    first = store.aliases().champion
    second = register(store.root.parent, tmp_path, seed=2)
    store.promote(second)
    assert serves(live, second)
    monkeypatch.setattr("serving.hot_swap.Engine", None)  # loading anything would fail
    store.rollback()
    assert serves(live, first, within=1.0)
    assert live.current.generation == 3


def test_a_challenger_comes_and_goes(live, store, tmp_path):
    second = register(store.root.parent, tmp_path, seed=2)
    store.promote(second, role="challenger")
    deadline = time.monotonic() + 5
    while live.current.challenger is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert live.current.challenger.version == second
    store.promote(second)
    assert serves(live, second)
    assert live.current.challenger is None


def flipped_byte(directory):
    weights = directory / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 0x40
    overwrite(weights, bytes(content))


def truncated(directory):
    weights = directory / "model.safetensors"
    overwrite(weights, weights.read_bytes()[:-100])


def missing(directory):
    (directory / "vocabulary.json").unlink()


def not_a_manifest(directory):
    overwrite(directory / MANIFEST, b'{"version": 1}')


def another_model_under_this_name(directory):
    """Digests agree, and yet these are not the weights that answered the golden requests."""
    path = directory / "model.safetensors"
    weights = load_file(path)
    weights["item_embedding.weight"] = weights["item_embedding.weight"].roll(1, dims=1)
    overwrite(path, save(weights))
    reseal(directory)


def foreign_config(directory):
    overwrite(directory / "config.json", b'{"dim": 16, "layers": 3}')
    reseal(directory)


def overwrite(path, content):
    path.chmod(0o644)
    path.write_bytes(content)


def reseal(directory):
    manifest = Manifest.model_validate_json((directory / MANIFEST).read_bytes())
    files = {name: sha256(directory / name) for name in manifest.files}
    sealed = manifest.model_copy(update={"files": files})
    replace(directory / MANIFEST, sealed.model_dump_json().encode())


@pytest.mark.parametrize(
    "damage",
    [
        flipped_byte,
        truncated,
        missing,
        not_a_manifest,
        another_model_under_this_name,
        foreign_config,
    ],
    ids=lambda damage: damage.__name__,
)
def test_a_broken_version_is_refused_and_the_old_one_serves_on(live, store, tmp_path, damage):
    first = store.aliases().champion
    second = register(store.root.parent, tmp_path, seed=2)
    damage(store.path(second))
    before = refusals()
    aliases = store.aliases()
    promoted = aliases.promoted(second, "champion")
    store._aliases.write(promoted, expected_generation=aliases.generation)
    assert refused(before)
    assert live.current.champion.version == first
    store.rollback()
    third = register(store.root.parent, tmp_path, seed=3)
    store.promote(third)
    assert serves(live, third)


def test_a_site_without_a_champion_does_not_start(tmp_path):
    with pytest.raises(RegistryError, match="no champion yet"):
        LiveModels(ModelStore(tmp_path / "models"))


def test_a_pinned_version_stays_whatever_the_aliases_say(store, tmp_path):
    second = register(store.root.parent, tmp_path, seed=2)
    live = LiveModels(store, pinned=second)
    assert live.current.champion.version == second
    live.close()


def test_golden_requests_are_part_of_a_version(store):
    assert GOLDEN in store.show(store.aliases().champion).files
