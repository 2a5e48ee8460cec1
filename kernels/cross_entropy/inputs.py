"""The arguments of a log-sum-exp over a catalogue, as one record."""

from typing import NamedTuple

from torch import Tensor


class Inputs(NamedTuple):
    """What the operators and every implementation take, in this order."""

    hidden: Tensor  # (T, d)
    items: Tensor  # (N, d)
    offset: Tensor | None = None  # (N,), added to every token's logits
    item_ids: Tensor | None = None  # (N,); items of a token's excluded id do not count for it
    excluded_ids: Tensor | None = None  # (T,)


# The same arguments in the language of torch.library.
SCHEMA = "Tensor hidden, Tensor items, Tensor? offset, Tensor? item_ids, Tensor? excluded_ids"
