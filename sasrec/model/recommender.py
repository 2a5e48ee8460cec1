"""A trained model with its vocabulary: recommends, scores, saves and loads."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from sasrec.data.packed import PackedSequences
from sasrec.data.vocabulary import PADDING, Vocabulary
from sasrec.errors import DataError, first_problem
from sasrec.model.config import ModelConfig
from sasrec.model.files import CONFIG, VOCABULARY, WEIGHTS
from sasrec.model.item_features import FeatureColumns, ItemFeatures
from sasrec.model.sasrec import SASRec
from sasrec.scoring.ranking import top_k

if TYPE_CHECKING:
    pass

MICROSECONDS = 1_000_000


class Recommender:
    """SASRec ready to answer; a `sasrec.scoring.scorer.Scorer`.

    Args:
        model: its item i is `vocabulary` index i.
        vocabulary: item ids.
        histories: what each user has done, oldest first, for `recommend` by user id; kept in
            memory and never saved with the model.

    Raises:
        DataError: the vocabulary does not fit the weights.
    """

    name = "sasrec"

    def __init__(
        self,
        model: SASRec,
        vocabulary: Vocabulary,
        histories: dict[str, PackedSequences] | None = None,
    ) -> None:
        if model.num_items != len(vocabulary):
            raise DataError(
                f"{VOCABULARY}: {len(vocabulary)} items, but the weights have {model.num_items}; "
                "use the vocabulary that was saved with these weights"
            )
        self.model = model.eval()
        self.feature_columns: FeatureColumns | None = None
        self.vocabulary = vocabulary
        self.histories = histories or {}

    @torch.no_grad()
    def logits(self, histories: PackedSequences) -> Tensor:
        """Scores (B, V + 1) float32 of the next event; column 0 is -inf.

        Only the newest `max_length` events of a history count. Every item scores 0 after an empty
        history: the model knows nothing then, and the caller falls back to popularity.
        """
        device = self.model.norm.weight.device
        logits = torch.zeros(len(histories), len(self.vocabulary) + 1, device=device)
        rows = np.flatnonzero(histories.lengths > 0)
        if len(rows):
            window = histories.select(rows, self.model.config.max_length)
            hidden = self.model.encode_last(
                torch.from_numpy(window.items).to(device),
                torch.from_numpy(window.cu_seqlens).to(device),
                torch.from_numpy(window.timestamps // MICROSECONDS).to(device),
            )
            scores = hidden @ self.model.item_matrix().T
            logits = (
                scores
                if len(rows) == len(histories)
                else logits.index_copy_(0, torch.from_numpy(rows).to(device), scores)
            )
        logits[:, PADDING] = -torch.inf
        return logits

    def recommend(
        self, user_or_items: str | Sequence[str], k: int = 10, *, filter_seen: bool = True
    ) -> list[tuple[str, float]]:
        """The k best next items with their scores, best first.

        Args:
            user_or_items: a user id that `fit` has seen, or any list of item ids, oldest first;
                ids outside the vocabulary are skipped.
            filter_seen: leave out the items of the history.

        Raises:
            DataError: an unknown user id, or a list without a known item.
        """
        if isinstance(user_or_items, str):
            if user_or_items not in self.histories:
                raise DataError(
                    f"recommend: user '{user_or_items}' is unknown to this recommender; "
                    "pass the list of their items instead"
                )
            history = self.histories[user_or_items]
        else:
            items = self.vocabulary.encode(user_or_items)
            items = items[items != PADDING]
            if not len(items):
                raise DataError(
                    f"recommend: none of the {len(user_or_items)} items is in the vocabulary"
                )
            history = PackedSequences(
                items, np.array([0, len(items)], dtype=np.int32), np.zeros_like(items)
            )
        found, scores = top_k(self, history, k, filter_seen)
        known = found[0] != PADDING
        return list(
            zip(self.vocabulary.decode(found[0, known]), scores[0, known].tolist(), strict=True)
        )

    @torch.no_grad()
    def row_of(self, item: Mapping[str, object]) -> Tensor | None:
        """The row (dim,) of an item outside the vocabulary, by its features alone.

        Args:
            item: its values by column.

        Returns:
            None where the model has no item features, or the item no value that makes one.
        """
        features = self.model.item_embedding.features
        if features is None or self.feature_columns is None:
            return None
        rows = self.feature_columns.rows(item, features.num_embeddings)
        if not rows:
            return None
        row = features.weight[rows].mean(dim=0)
        return F.normalize(row, dim=0) if self.model.item_embedding.cosine else row

    def save(self, directory: Path) -> None:
        """Write weights, configuration and vocabulary; the three files are all of the model."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        weights = {name: value.contiguous() for name, value in self.model.state_dict().items()}
        save_file(weights, directory / WEIGHTS)
        (directory / CONFIG).write_text(self.model.config.model_dump_json(indent=2))
        self.vocabulary.save(directory / VOCABULARY)

    @classmethod
    def load(cls, directory: Path) -> "Recommender":
        """Read what `save` wrote.

        Raises:
            DataError: a file is missing or damaged, or the three do not belong together.
        """
        directory = Path(directory)
        for name in (WEIGHTS, CONFIG, VOCABULARY):
            if not (directory / name).exists():
                raise DataError(f"{directory / name}: missing; a model directory holds it")
        try:
            config = ModelConfig.model_validate_json((directory / CONFIG).read_text())
        except ValidationError as error:
            field, message = first_problem(error)
            raise DataError(f"{directory / CONFIG}: field '{field or 'JSON'}': {message}") from None
        try:
            vocabulary = Vocabulary.load(directory / VOCABULARY)
        except json.JSONDecodeError as error:
            raise DataError(f"{directory / VOCABULARY}: not valid JSON ({error})") from None
        recommender = cls(_load_model(directory / WEIGHTS, config), vocabulary)
        if config.feature_buckets:
            recommender.feature_columns = FeatureColumns.load(directory)
        return recommender


def _load_model(path: Path, config: ModelConfig) -> SASRec:
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise DataError(f"{path}: not a whole safetensors file ({error})") from None
    ids = weights.get("item_embedding.weight")
    if ids is None:
        raise DataError(f"{path}: tensor 'item_embedding.weight' is missing")
    features = None
    if config.feature_buckets:
        rows, offsets = (weights.get(f"item_embedding.{name}") for name in ("rows", "offsets"))
        if rows is None or offsets is None:
            raise DataError(f"{path}: the item features that {CONFIG} calls for are missing")
        features = ItemFeatures(rows.numpy(), np.append(offsets.numpy(), len(rows)))
    model = SASRec(config, len(ids) - 1, features)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise DataError(
                f"{path}: tensor '{name}' is {found.get(name)}, "
                f"but {CONFIG} calls for {expected.get(name)}"
            )
    model.load_state_dict(weights)
    return model
