"""Train a model: `python tools/train.py configs/EXPERIMENT.yaml [key=value ...]`.

An interrupted run goes on when the same command is given again.
"""

import logging
import sys

from glip.engine.clip_config import is_clip_experiment, read_clip_config
from glip.engine.clip_trainer import ClipTrainer
from glip.engine.config import read_config
from glip.engine.trainer import Trainer
from glip.errors import GlipError


def main() -> int:
    """Read the experiment and train it."""
    if len(sys.argv) < 2:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    level = logging.WARNING if sys.stderr.isatty() else logging.INFO  # a terminal has a progress bar
    logging.basicConfig(level=level, format="%(asctime)s %(message)s")
    try:
        path, overrides = sys.argv[1], tuple(sys.argv[2:])
        if is_clip_experiment(path):
            ClipTrainer(read_clip_config(path, overrides)).train()
        else:
            Trainer(read_config(path, overrides)).train()
    except GlipError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
