from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from serving.api.app import create_app
from serving.registry import ModelStore
from serving.settings import Settings
from tests.serving.sites import KEYS, register


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A site whose champion is the model of seed 1."""
    home = tmp_path / "site"
    version = register(home, tmp_path, seed=1)
    ModelStore(home / "models").promote(version, why="test")
    return home


@pytest.fixture
def settings(home: Path) -> Settings:
    """Greedy, so that answers are known."""
    keys = home / "api_keys.json"
    keys.write_text(KEYS.model_dump_json())
    return Settings(home=home, epsilon=0.0, gold_share=0.0, deadline_seconds=5.0)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """The application in this process, called with the admin key."""
    with TestClient(create_app(settings), headers={"Authorization": "Bearer key-a"}) as client:
        yield client
