"""One update of the weights: gradients, clipping, AdamW, and the moving average of the weights."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sasrec.config import TrainConfig
from sasrec.model import SASRec
from sasrec.objective import Objective


@dataclass(frozen=True)
class StepInputs:
    """What one step reads, on the model's device.

    Attributes:
        items: (T,) int64.
        cu_seqlens: (B + 1,) int32.
        timestamps: (T,) int64, seconds.
        targets: (T,) int64.
        weights: (T,) float32; the loss of the step is their product with the events' losses.
        negatives: (n,) or (T, n) int64; None for a loss that samples none.
    """

    items: Tensor
    cu_seqlens: Tensor
    timestamps: Tensor
    targets: Tensor
    weights: Tensor
    negatives: Tensor | None


class Update:
    """Moves a model by one step of AdamW.

    Args:
        model: what is trained, on its device.
        objective: the loss of each event.
        config: learning rate, clipping, precision.
    """

    def __init__(self, model: SASRec, objective: Objective, config: TrainConfig) -> None:
        self.model, self.objective, self.config = model, objective, config
        self.average = copy.deepcopy(model).requires_grad_(False)
        self.parameters = list(model.parameters())
        self.device = self.parameters[0].device
        # On a GPU the rate is a tensor, so that one graph serves every step of the warm-up.
        cuda = self.device.type == "cuda"
        rate = config.learning_rate
        self.optimiser = torch.optim.AdamW(
            self.parameters,
            lr=torch.tensor(rate, device=self.device) if cuda else rate,
            weight_decay=config.weight_decay,
            fused=True,
            capturable=cuda,
        )

    def backward(self, inputs: StepInputs) -> Tensor:
        """Add the step's gradients to the parameters'; the loss, a scalar."""
        bfloat16 = self.config.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            hidden = self.model(inputs.items, inputs.cu_seqlens, inputs.timestamps)
            losses = self.objective.losses(
                hidden, self.model.item_matrix(), inputs.targets, inputs.negatives
            )
        loss = torch.dot(losses, inputs.weights)
        loss.backward()
        return loss.detach()

    def apply(self, forget: float | Tensor) -> None:
        """Step with the gradients there are and drop them.

        Args:
            forget: share by which the average moves to the new weights.
        """
        nn.utils.clip_grad_norm_(self.parameters, self.config.gradient_clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            for average, parameter in zip(self.average.parameters(), self.parameters, strict=True):
                average.lerp_(parameter, forget)

    def set_learning_rate(self, rate: float) -> None:
        """For the steps from now on."""
        for group in self.optimiser.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
