"""The whole update as one CUDA graph.

A step of a model this small is some two hundred kernels of a few microseconds each, which a GPU
ends sooner than a CPU can launch them. A graph is launched as one; it runs on fixed addresses and
shapes, so a batch is copied into buffers that hold the largest, and what it does not fill is
events that weigh nothing in sequences of their own.
"""

import torch
from torch import Tensor

from sasrec.training.update import StepInputs, Update

# Real steps, run one kernel at a time, in which kernels are compiled and libraries take memory.
WARM_UP = 3


class GraphedUpdate:
    """Runs an update by replaying its graph; use it for every step of one process on a GPU.

    Args:
        update: its model must not wait for the GPU in a step, as item features do.
        tokens: events of the largest step.
    """

    def __init__(self, update: Update, tokens: int) -> None:
        self.update, self.tokens = update, tokens
        device = update.device

        def numbers(size: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(size, dtype=dtype, device=device)

        self.inputs = StepInputs(
            items=numbers(tokens, torch.int64),
            cu_seqlens=numbers(tokens + 1, torch.int32),
            timestamps=numbers(tokens, torch.int64),
            targets=torch.ones(tokens, dtype=torch.int64, device=device),
            weights=numbers(tokens, torch.float32),
            negatives=update.objective.negatives_buffer(tokens, device),
        )
        self.forget = torch.zeros((), device=device)
        self.loss = torch.zeros((), device=device)
        self.stream: torch.cuda.Stream | None = None
        self.graph: torch.cuda.CUDAGraph | None = None
        self.warm_steps = 0

    def __call__(self, inputs: StepInputs, forget: float) -> Tensor:
        """Make the step with these inputs, on any device; its loss, a scalar on the GPU."""
        self.fill(inputs)
        self.forget.fill_(forget)
        self.stream = self.stream or torch.cuda.Stream(self.update.device)
        if self.warm_steps < WARM_UP:
            self.warm_steps += 1
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                self.run()
            torch.cuda.current_stream().wait_stream(self.stream)
            return self.loss
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.run()
        self.graph.replay()
        return self.loss

    def fill(self, inputs: StepInputs) -> None:
        """Copy a step into the buffers, and end it with sequences that weigh nothing."""
        count, buffers = len(inputs.items), self.inputs
        for name in ("items", "timestamps", "targets", "weights"):
            buffer = getattr(buffers, name)
            buffer[:count].copy_(getattr(inputs, name))
            buffer[count:].fill_(1 if name == "targets" else 0)
        longest = self.update.model.config.max_length
        ends = inputs.cu_seqlens.tolist()
        ends += range(count + longest, self.tokens, longest)
        ends += [self.tokens] * (self.tokens + 1 - len(ends))
        buffers.cu_seqlens.copy_(torch.tensor(ends, dtype=torch.int32))
        if buffers.negatives is not None and inputs.negatives is not None:
            buffers.negatives[: len(inputs.negatives)].copy_(inputs.negatives)

    def run(self) -> None:
        """The update itself, on the buffers."""
        self.loss.copy_(self.update.backward(self.inputs))
        self.update.apply(self.forget)
