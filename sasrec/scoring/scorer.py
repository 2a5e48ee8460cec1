"""What evaluation, gates and reports need of a model, a baseline or a champion."""

from typing import Protocol

import torch

from sasrec.data.packed import PackedSequences


class Scorer(Protocol):
    """Anything that scores the whole catalogue for the next event of each history."""

    name: str

    def logits(self, histories: PackedSequences) -> torch.Tensor:
        """Scores (B, V + 1) float32; higher is better; column 0 (padding) is -inf."""
        ...
