"""How many threads a training stage computes with."""

import torch

from sasrec.resources import cores

ONE_THREAD_BELOW = 200_000
"""Events to learn from. On the simulated shop, with 82,000, one thread made 36,000 to 39,000 a
second and two 36,000 to 40,000; beside a busy process one made 32,000 and two 25,000."""


def training_threads(events: int) -> int:
    """One where a second buys nothing and may be a burden, else what is granted."""
    return 1 if events < ONE_THREAD_BELOW else cores()


def use_training_threads(events: int) -> None:
    """Have torch compute with as many in this process."""
    torch.set_num_threads(training_threads(events))
