"""`train_node` with a checkpoint after every step: a test need not wait for one."""

import sys
from pathlib import Path

from components.nodes.train_node import train_in
from sasrec.training import loop as training

if __name__ == "__main__":
    training.CHECKPOINT_SECONDS = 0.0
    train_in(Path(sys.argv[1]))
