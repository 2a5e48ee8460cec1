"""What a manifest tells of the model that serves."""

from datetime import UTC, datetime

import pytest

from benchmarks.faults.damage import flipped_byte
from components.support.champion import (
    champion_of_refresh,
    load_champion,
    recipe_of,
    sound_champion,
)
from components.support.recipe import Recipe
from components.support.settings import build_config
from sasrec.errors import DataError
from sasrec.presets import preset
from serving.registry import ModelStore
from tests.serving.sites import ITEM_IDS, save_model

SPARSE = Recipe(preset("sparse").model, preset("sparse").train)
SEEN_UNTIL = datetime(2026, 1, 5, tzinfo=UTC)
TOLD = {
    "seen_until": SEEN_UNTIL.isoformat(),
    "recipe": {"model": SPARSE.model.model_dump(), "train": SPARSE.train.model_dump()},
    "split": {"kind": "global-time", "t1": "2026-01-01T00:00:00+00:00"},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"), seed=0)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("SASREC_MODELS_URL", raising=False)
    return tmp_path


def serve(home, model, metadata):
    store = ModelStore(home / "models")
    store.promote(store.register(model, metadata=metadata))


def test_before_the_first_there_is_none(home):
    assert load_champion(home) is None
    with pytest.raises(DataError, match="has no champion to continue from; run without --refresh"):
        champion_of_refresh(home)


def test_a_champion_knows_its_recipe_and_what_it_has_seen(home, model):
    serve(home, model, TOLD)
    champion = load_champion(home)
    assert champion.recommender.vocabulary.item_ids == ITEM_IDS
    assert (champion.recipe, champion.seen_until) == (SPARSE, SEEN_UNTIL)
    assert champion_of_refresh(home).version == champion.version


def test_a_refresh_trains_the_champion_s_recipe_and_a_run_its_own(home, model):
    serve(home, model, TOLD)
    champion, nightly = load_champion(home), build_config()
    quick = build_config(overrides=["refresh.enabled=true"])
    assert recipe_of(quick, champion) == SPARSE
    assert recipe_of(nightly, champion) == Recipe(nightly.model, nightly.train, nightly.trend)


@pytest.mark.parametrize(
    ("metadata", "recipe", "seen_until"),
    [
        ({"split": TOLD["split"]}, None, datetime(2026, 1, 1, tzinfo=UTC)),
        ({}, None, None),
        (TOLD | {"recipe": {"model": {"width": 3}, "train": {}}}, None, SEEN_UNTIL),
        (TOLD | {"seen_until": None}, SPARSE, None),
    ],
)
def test_manifests_of_other_versions_say_less(home, model, metadata, recipe, seen_until):
    serve(home, model, metadata)
    champion = load_champion(home)
    assert (champion.recipe, champion.seen_until) == (recipe, seen_until)


def test_leave_one_out_has_no_moment_to_refresh_from(home, model):
    serve(home, model, TOLD | {"seen_until": None})
    with pytest.raises(DataError, match="no moment divides what it has seen from what is new"):
        champion_of_refresh(home)


def test_a_champion_that_its_disk_has_spoilt_ends_a_run_before_it_begins(home, model):
    assert sound_champion(home) is None
    serve(home, model, TOLD)
    store = ModelStore(home / "models")
    version = sound_champion(home)
    assert version == store.aliases().champion
    flipped_byte(store.path(version))
    with pytest.raises(DataError, match=f"{version}/model.safetensors.*serving.registry rollback"):
        sound_champion(home)
    with pytest.raises(DataError, match="the champion is damaged"):
        load_champion(home)
