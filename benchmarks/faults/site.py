"""A small site to break: random weights at the default preset's size, keys, no feature store."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from sasrec.data.vocabulary import Vocabulary
from sasrec.model.config import ModelConfig
from sasrec.model.recommender import Recommender
from sasrec.model.sasrec import SASRec
from serving.engine import golden
from serving.registry import ModelStore
from serving.security import create_keys

ITEMS = 3_400
ITEM_IDS = [f"item-{number}" for number in range(ITEMS)]


@dataclass(frozen=True)
class Site:
    """Where it is, and the key that opens every route."""

    home: Path
    key: str

    @property
    def store(self) -> ModelStore:
        """Its versions and aliases."""
        return ModelStore(self.home / "models")

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"Authorization": f"Bearer {self.key}"}

    def add_version(self, seed: int) -> str:
        """Register a model of its own for each seed, with golden requests."""
        torch.manual_seed(seed)
        model = SASRec(ModelConfig(), ITEMS)
        torch.nn.init.normal_(model.item_embedding.weight)  # fresh weights score everything alike
        histories = [ITEM_IDS[:3], ITEM_IDS[10:11]]
        with tempfile.TemporaryDirectory() as folder:
            Recommender(model, Vocabulary(ITEM_IDS)).save(Path(folder))
            answers = golden.record(Path(folder), histories, [[1, 2, 3], [5]])
            return self.store.register(Path(folder), metadata={}, golden=answers)


def make_site(home: Path) -> Site:
    """A site whose champion is the model of seed 0."""
    home.mkdir(parents=True, exist_ok=True)
    site = Site(home, create_keys(home / "api_keys.json").admin[0])
    site.store.promote(site.add_version(seed=0), why="first")
    return site
