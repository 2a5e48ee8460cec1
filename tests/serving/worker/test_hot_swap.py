import time

import pytest

from benchmarks.faults import damage
from serving import metrics
from serving.registry import ModelStore, RegistryError
from serving.registry.store import GOLDEN, MANIFEST
from serving.worker.hot_swap import LiveModels
from tests.serving.sites import register


@pytest.fixture
def store(home):
    return ModelStore(home / "models")


@pytest.fixture
def live(store, monkeypatch):
    monkeypatch.setattr("serving.worker.hot_swap.POLL_SECONDS", 0.02)
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
    monkeypatch.setattr("serving.worker.hot_swap.Engine", None)  # loading anything would fail
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


def missing(directory):
    (directory / "vocabulary.json").unlink()


def not_a_manifest(directory):
    damage.overwrite(directory / MANIFEST, b'{"version": 1}')


@pytest.mark.parametrize(
    "spoil",
    [
        *damage.KINDS,
        missing,
        not_a_manifest,
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_a_broken_version_is_refused_and_the_old_one_serves_on(live, store, tmp_path, spoil):
    first = store.aliases().champion
    second = register(store.root.parent, tmp_path, seed=2)
    spoil(store.path(second))
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


def test_a_worker_that_starts_on_a_broken_champion_serves_the_previous_one(store, tmp_path):
    first = store.aliases().champion
    second = register(store.root.parent, tmp_path, seed=2)
    store.promote(second)
    damage.truncated_file(store.path(second))
    live = LiveModels(store)
    assert live.current.champion.version == first
    assert metrics.GENERATION._value.get() < store.aliases().generation  # RecoWorkersDisagree
    live.close()
    damage.truncated_file(store.path(first))
    with pytest.raises(RegistryError, match="sha256 differs"):
        LiveModels(store)


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
