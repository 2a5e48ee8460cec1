"""A trained model with its vocabulary: recommends, scores, saves and loads."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

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
from sasrec.model.ids import Kind, as_given, is_id, text_of
from sasrec.model.item_features import FeatureColumns, ItemFeatures
from sasrec.model.sasrec import SASRec
from sasrec.scoring.ranking import top_k

MICROSECONDS = 1_000_000
# In the configuration, beside the fields of `ModelConfig`.
DIGEST, ITEM_KIND = "vocabulary_sha256", "item_ids"


class Recommender:
    """SASRec ready to answer; a `sasrec.scoring.scorer.Scorer`.

    Args:
        model: its item i is `vocabulary` index i.
        vocabulary: item ids.
        histories: what each user has done, oldest first, for `recommend` by user id; kept in
            memory and never saved with the model.
        item_kind: what the ids of `vocabulary` are to the caller, who gets them back as such.

    Raises:
        DataError: the vocabulary does not fit the weights.
    """

    name = "sasrec"

    def __init__(
        self,
        model: SASRec,
        vocabulary: Vocabulary,
        histories: dict[str, PackedSequences] | None = None,
        item_kind: Kind = "text",
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
        self.item_kind: Kind = item_kind

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
            scores = (
                self.encode(histories.select(rows, self.model.config.max_length))
                @ self.model.item_matrix().T
            )
            logits = (
                scores
                if len(rows) == len(histories)
                else logits.index_copy_(0, torch.from_numpy(rows).to(device), scores)
            )
        logits[:, PADDING] = -torch.inf
        return logits

    @torch.no_grad()
    def encode(self, histories: PackedSequences) -> Tensor:
        """Hidden states (B, dim) of the newest events.

        Args:
            histories: of 1 to `max_length` events each.
        """
        device = self.model.norm.weight.device
        return self.model.encode_last(
            torch.from_numpy(histories.items).to(device),
            torch.from_numpy(histories.cu_seqlens).to(device),
            torch.from_numpy(histories.timestamps // MICROSECONDS).to(device),
        )

    def recommend(
        self,
        user_or_items: str | int | UUID | Iterable[str | int | UUID],
        k: int = 10,
        *,
        filter_seen: bool = True,
    ) -> list[tuple[Any, float]]:
        """The k best next items with their scores, best first.

        Args:
            user_or_items: a user id that `fit` has seen, or any list of item ids, oldest first;
                ids outside the vocabulary are skipped.
            k: at least 1; fewer items come where fewer are left.
            filter_seen: leave out the items of the history.

        Returns:
            Ids of the type that the frame of `fit` has, text by default.

        Raises:
            DataError: an unknown user id, a list without a known item, or no k.
        """
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise DataError(f"recommend: k is {k!r}; ask for a whole number of items from 1 on")
        if is_id(user_or_items):
            user = text_of(user_or_items)
            if user not in self.histories:
                raise DataError(
                    f"recommend: user '{user}' is unknown to this recommender; "
                    "pass the list of their items instead"
                )
            history = self.histories[user]
        else:
            asked = [text_of(item) for item in user_or_items]  # type: ignore[union-attr]
            items = self.vocabulary.encode(asked)
            items = items[items != PADDING]
            if not len(items):
                raise DataError(f"recommend: none of the {len(asked)} items is in the vocabulary")
            history = PackedSequences(
                items, np.array([0, len(items)], dtype=np.int32), np.zeros_like(items)
            )
        found, scores = top_k(self, history, int(k), filter_seen)
        known = found[0] != PADDING
        best = [as_given(i, self.item_kind) for i in self.vocabulary.decode(found[0, known])]
        return list(zip(best, scores[0, known].tolist(), strict=True))

    @torch.no_grad()
    def row_of(self, item: Mapping[str, object]) -> Tensor | None:
        """The row (dim,) of an item outside the vocabulary, by its features alone.

        Args:
            item: its values by column, in lower case.

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
        """Write weights, configuration and vocabulary; the three files are all of the model.

        The configuration names the digest of the vocabulary that belongs to the weights.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        weights = {name: value.contiguous() for name, value in self.model.state_dict().items()}
        save_file(weights, directory / WEIGHTS)
        self.vocabulary.save(directory / VOCABULARY)
        config = self.model.config.model_dump(mode="json") | {
            DIGEST: _sha256(directory / VOCABULARY),
            ITEM_KIND: self.item_kind,
        }
        (directory / CONFIG).write_text(json.dumps(config, indent=2))

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
            written = json.loads((directory / CONFIG).read_text())
            digest, kind = written.pop(DIGEST, None), written.pop(ITEM_KIND, "text")
            config = ModelConfig.model_validate(written)
        except ValidationError as error:
            field, message = first_problem(error)
            raise DataError(f"{directory / CONFIG}: field '{field or 'JSON'}': {message}") from None
        except (ValueError, AttributeError, TypeError) as error:
            raise DataError(f"{directory / CONFIG}: not a JSON object ({error})") from None
        try:
            vocabulary = Vocabulary.load(directory / VOCABULARY)
        except json.JSONDecodeError as error:
            raise DataError(f"{directory / VOCABULARY}: not valid JSON ({error})") from None
        loaded = cls(_load_model(directory / WEIGHTS, config), vocabulary, item_kind=kind)
        if digest not in (None, _sha256(directory / VOCABULARY)):
            raise DataError(
                f"{directory / VOCABULARY}: is not the one that was saved with these weights; "
                f"{CONFIG} names its digest"
            )
        if config.feature_buckets:
            loaded.feature_columns = FeatureColumns.load(directory)
        return loaded


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
