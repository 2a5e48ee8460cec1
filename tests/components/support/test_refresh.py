"""A refresh reads events and items as the champion was taught to."""

import pytest

from components.support.refresh import as_the_champion
from components.support.settings import RunConfig, build_config
from sasrec.presets import preset
from serving.registry import ModelStore
from tests.serving.sites import save_model

SPARSE = preset("sparse")
MADE = {
    "recipe": {"model": SPARSE.model.model_dump(), "train": SPARSE.train.model_dump()},
    "event_roles": {"dislike": "negative"},
    "feature_columns": None,
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("SASREC_MODELS_URL", raising=False)
    store = ModelStore(tmp_path / "models")
    store.promote(store.register(save_model(tmp_path / "model", seed=0), metadata=MADE))
    return tmp_path


def config(enabled):
    return build_config(sections={"refresh": {"enabled": enabled}}).model_dump_json()


def test_a_refresh_takes_over_recipe_and_roles(home):
    run = RunConfig.parse(as_the_champion(config(True), home))
    assert (run.model, run.train) == (SPARSE.model, SPARSE.train)
    assert run.events.roles == {"dislike": "negative"}
    assert run.refresh.enabled


def test_another_run_keeps_its_own(home):
    assert as_the_champion(config(False), home) == config(False)


def test_without_a_champion_nothing_is_taken_over(tmp_path):
    assert as_the_champion(config(True), tmp_path) == config(True)
