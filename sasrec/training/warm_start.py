"""Continue from an earlier model on a vocabulary that has grown or shrunk."""

import torch

from sasrec.data.vocabulary import Vocabulary
from sasrec.errors import DataError
from sasrec.model.config import ModelConfig
from sasrec.model.recommender import Recommender
from sasrec.model.sasrec import SASRec

# What a model is trained with rather than what it is: the weights fit whatever these are.
_OF_TRAINING = ("dropout", "attention_dropout", "id_dropout")


def difference(earlier: ModelConfig, model: ModelConfig) -> str | None:
    """The first field in which two architectures differ, in words; None if weights can be taken."""
    for name in type(model).model_fields:
        before, now = getattr(earlier, name), getattr(model, name)
        if name not in _OF_TRAINING and before != now:
            return f"model field '{name}' is {before} in the earlier model and {now} here"
    return None


@torch.no_grad()
def copy_weights(source: Recommender, model: SASRec, vocabulary: Vocabulary) -> None:
    """Fill `model` with what `source` learned.

    An item that both vocabularies hold keeps its embedding, whatever its index. A new item starts
    at the mean embedding plus the small noise of a fresh start: amid the catalogue rather than at
    the origin, where its score would be 0 while others have learned to score below it.

    Args:
        vocabulary: of `model`.

    Raises:
        DataError: the two architectures differ.
    """
    if reason := difference(source.model.config, model.config):
        raise DataError(f"warm start: {reason}; they must be equal")
    learned = source.model.item_embedding.weight.cpu()
    embedding = model.item_embedding.weight
    old_rows = torch.from_numpy(source.vocabulary.encode(vocabulary.item_ids))
    known = old_rows > 0
    embedding[1:][known] = learned[old_rows[known]]
    embedding[1:][~known] += learned[1:].mean(0)
    of_these_items = ("item_embedding.weight", "item_embedding.rows", "item_embedding.offsets")
    rest = source.model.state_dict()
    shared = {name: rest[name] for name in rest if not name.startswith(of_these_items)}
    model.load_state_dict(shared, strict=False)
