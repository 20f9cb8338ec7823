"""Runs of two processes for test_clip_trainer.py: `torchrun --nproc-per-node 2 two_clip_processes.py A.yaml B.yaml`."""

import sys

import torch

from glip.engine.clip_config import read_clip_config
from glip.engine.clip_trainer import ClipTrainer


def main() -> None:
    """Train each experiment."""
    torch.set_num_threads(1)
    for path in sys.argv[1:]:
        ClipTrainer(read_clip_config(path)).train()


if __name__ == "__main__":
    main()
