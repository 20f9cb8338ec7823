"""A run of two processes for test_parallel.py: `torchrun --nproc-per-node 2 two_processes.py CONFIG.yaml`.

Each process writes how many numbers of each parameter it holds itself. Dropout is off: processes draw their own.
"""

import json
import sys

from torch import nn
from torch.distributed.tensor import DTensor

from glip.engine.config import read_config
from glip.engine.trainer import Trainer
from glip.layers.transformer import PostNormEncoderLayer


def without_dropout(model: nn.Module) -> None:
    """Turn the text layers' dropout off."""
    for module in model.modules():
        if isinstance(module, PostNormEncoderLayer):
            module.dropout = 0.0


def main() -> None:
    """Train, and write `seen-RANK.json` into the output folder."""
    config = read_config(sys.argv[1])
    trainer = Trainer(config)
    without_dropout(trainer.model)
    held = {
        name: parameter.to_local().numel() if isinstance(parameter, DTensor) else parameter.numel()
        for name, parameter in trainer.model.named_parameters()
    }
    trainer.train()
    rank = trainer.accelerator.process_index
    (config.output / f"seen-{rank}.json").write_text(json.dumps(held))


if __name__ == "__main__":
    main()
