"""Training another recipe at today's cut, as the candidate was trained, and as safe from kills."""

import shutil
from pathlib import Path

from components.support.fingerprint import training_key
from components.support.recipe import Recipe
from components.support.sequence_extras import SequenceExtras
from sasrec.data.dataset import SequenceDataset
from sasrec.model.recommender import Recommender
from sasrec.training.loop import train


class RecipeTraining:
    """Trainings beside the candidate's own, on its data.

    Args:
        home: of the site, whose `training/` holds the progress.
        run_dir: where the run shows its progress.
        dataset: that the candidate was trained on.
        extras: of `dataset`.
    """

    def __init__(
        self, home: Path, run_dir: Path, dataset: SequenceDataset, extras: SequenceExtras
    ) -> None:
        self._home, self._run_dir, self._dataset = home, run_dir, dataset
        self._extras = extras
        self._folders: list[Path] = []

    def train(self, recipe: Recipe) -> Recommender:
        """The model that `recipe` makes; a killed training continues.

        Raises:
            DataError: as `sasrec.training.loop.train`.
        """
        data = self._dataset
        folder = (
            self._home
            / "training"
            / training_key(
                recipe, data.description["sha256"], data.test.repeats, self._extras.digest
            )
        )
        self._folders.append(folder)
        (self._run_dir / "training_dir").write_text(str(folder))
        result = train(
            self._extras.weigh(data.train, recipe.train),
            data.validation,
            data.vocabulary,
            recipe.model,
            recipe.train,
            folder,
            item_features=self._extras.features_of(recipe.model),
        )
        return result.recommender

    def forget(self) -> None:
        """Remove the progress, once what was trained has been used."""
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)
