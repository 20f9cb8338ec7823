"""Average the weights of two models of one network.

    python tools/mix_models.py runs/nano_start runs/nano_distilled/model --output runs/nano_mixed

Weights that started from the same numbers can often be averaged, and the mean is then better than either (Wortsman et
al. 2022, Model soups).
"""

import argparse
import sys
from pathlib import Path

import torch

from glip.errors import CheckpointError, FileError, GlipError
from glip.models.glip import GlipModel
from glip.processing import GlipProcessor


@torch.no_grad()
def mix(first: GlipModel, second: GlipModel, share: float) -> None:
    """Move the first model's weights towards the second's.

    Raises:
        CheckpointError: they are different networks.
    """
    own, other = first.state_dict(), second.state_dict()
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in (own, other)]
    if shapes[0] != shapes[1]:
        raise CheckpointError("the models have different weights; give two trainings of one network")
    for name, tensor in own.items():
        if tensor.is_floating_point():
            tensor.lerp_(other[name], share)


def main() -> None:
    """Read, average, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path, help="folder of a model; its processor is kept")
    parser.add_argument("second", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the second model")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    arguments = parser.parse_args()
    if arguments.output.exists():
        raise FileError(f"{arguments.output}: exists already; give a new folder")
    model = GlipModel.from_pretrained(arguments.first)
    mix(model, GlipModel.from_pretrained(arguments.second), arguments.share)
    model.save_pretrained(arguments.output)
    GlipProcessor.from_pretrained(arguments.first).save_pretrained(arguments.output)


if __name__ == "__main__":
    try:
        main()
    except GlipError as error:
        sys.exit(f"error: {error}")
