"""One update of the weights: gradients, clipping, AdamW, and the moving average of the weights."""

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sasrec.model.sasrec import SASRec
from sasrec.training.config import TrainConfig
from sasrec.training.objective import Objective


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
        named_items: (U,) int64; if given, items, targets and negatives are indices into it.
    """

    items: Tensor
    cu_seqlens: Tensor
    timestamps: Tensor
    targets: Tensor
    weights: Tensor
    negatives: Tensor | None
    named_items: Tensor | None = None


class Update:
    """Moves a model by one step of AdamW.

    Args:
        model: what is trained, on its device.
        objective: the loss of each event.
        config: learning rate, clipping, precision, averaging.

    Attributes:
        average: the moving average of the model, or the model itself if none is taken.
    """

    def __init__(self, model: SASRec, objective: Objective, config: TrainConfig) -> None:
        self.model, self.objective, self.config = model, objective, config
        self.average = model
        if config.averaging:
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
            matrix, step = self._named_items(inputs)
            hidden = self.model(step.items, step.cu_seqlens, step.timestamps, matrix)
            losses = self.objective.losses(
                hidden, matrix, step.targets, step.negatives, step.named_items
            )
        loss = torch.dot(losses, inputs.weights)
        loss.backward()
        return loss.detach()

    def apply(self, forget: float | Tensor) -> None:
        """Step with the gradients there are and drop them.

        Args:
            forget: share by which the average moves to the new weights.
        """
        self._clip_gradients()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.average is not self.model:
            self._move_average(forget)

    def set_learning_rate(self, rate: float) -> None:
        """For the steps from now on."""
        for group in self.optimiser.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _named_items(self, inputs: StepInputs) -> tuple[Tensor, StepInputs]:
        """The item matrix and the step's indices into it.

        With fewer items in a step than in the catalogue, only their rows are looked up, and once:
        each look-up in the whole table has a gradient of the table's size.
        """
        negatives = inputs.negatives
        if negatives is None or self.device.type != "cpu":
            return self.model.item_matrix(), inputs
        named = torch.cat([inputs.items, inputs.targets, negatives.flatten()])
        if len(named) > self.model.num_items:
            return self.model.item_matrix(), inputs
        named_items, index = torch.unique(named, return_inverse=True)
        tokens = len(inputs.items)
        items, targets, negative_index = index.split([tokens, tokens, negatives.numel()])
        step = replace(
            inputs,
            items=items,
            targets=targets,
            negatives=negative_index.view(negatives.shape),
            named_items=named_items,
        )
        return self.model.item_matrix(named_items), step

    def _clip_gradients(self) -> None:
        """To the largest norm; on a CPU, where it costs a pass over all of them, only if needed."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self.device.type != "cpu" or norm > self.config.gradient_clip:
            nn.utils.clip_grads_with_norm_(self.parameters, self.config.gradient_clip, norm)

    @torch.no_grad()
    def _move_average(self, forget: float | Tensor) -> None:
        for average, parameter in zip(self.average.parameters(), self.parameters, strict=True):
            average.lerp_(parameter, forget)
