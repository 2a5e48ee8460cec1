"""A run comes to nothing new where the site has had, held or taken back the same model."""

from datetime import UTC, datetime

import pytest

from components.support.data_state import METADATA, DataState, nothing_new, remember_held
from components.support.settings import build_config
from serving.registry import ModelStore
from tests.serving.sites import register

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def state(*settings, batch=1, rows=10):
    return DataState.of(build_config(overrides=settings), batch=batch, rows=rows, as_of=NOW)


@pytest.fixture
def home(tmp_path):
    """A site whose champion was made of the first batch, and the one before of none."""
    home = tmp_path / "site"
    store = ModelStore(home / "models")
    for seed, made_of in ((1, state(batch=0, rows=5)), (2, state())):
        version = register(home, tmp_path, seed, **{METADATA: made_of.metadata()})
        store.promote(version)
    return home


def test_the_champion_s_data_and_settings_are_nothing_new(home):
    assert "the champion was trained on the same data" in state().known_by(home)
    assert state(batch=2, rows=11).known_by(home) is None
    assert state("model.dim=32").known_by(home) is None


def test_a_version_that_somebody_took_back_is_not_made_again(home):
    taken_back = ModelStore(home / "models").aliases().champion
    ModelStore(home / "models").rollback(why="it looked wrong")
    assert state().known_by(home).startswith(f"version {taken_back}, of the same data")
    assert state(batch=2, rows=11).known_by(home) is None, "with new data it is judged anew"


def test_a_model_that_was_held_is_not_made_again(home, tmp_path):
    run_dir = tmp_path / "last night"
    run_dir.mkdir()
    state(batch=2, rows=11).save(run_dir, nothing_new=None)
    remember_held(home, run_dir, "accuracy floor failed")
    known = state(batch=2, rows=11).known_by(home)
    assert known.startswith("run last night made a model of the same data")
    assert known.endswith("accuracy floor failed")
    assert state("train.epochs=9", batch=2, rows=11).known_by(home) is None


def test_a_run_says_why_it_ended(tmp_path):
    assert nothing_new(tmp_path) is None
    state().save(tmp_path, nothing_new="why")
    assert nothing_new(tmp_path) == "why"
    assert DataState.load(tmp_path) == state()


def test_a_site_without_a_champion_knows_nothing(tmp_path):
    assert state().known_by(tmp_path / "empty") is None
