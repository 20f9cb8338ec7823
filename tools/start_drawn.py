"""Write a very small network with random weights, which learns drawn scenes within minutes on one CPU core.

    python tools/start_drawn.py --output runs/drawn_start

Every part of a GLIP network is there: a narrow `csp` backbone, plain cues, two BERT layers, one block of deep fusion.
It is where configs/heads_start.yaml starts. A step takes it about a third of the time that it takes glip-nano.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glip.configuration import GlipConfig
from glip.errors import FileError, GlipError
from glip.models.glip import GlipModel
from glip.predictor import published_processor
from glip.processing import GlipImageProcessor, GlipProcessor
from tools.nano_places import paint_palette

CONFIG: dict[str, Any] = {
    "backbone": {
        "kind": "csp",
        "stem_channels": 16,
        "stage_channels": [32, 64, 128, 256],
        "stage_depths": [1, 1, 1, 1],
        "neck_channels": 64,
    },
    "text": {
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
    "channels": 64,
    "num_blocks": 1,
    "fusion_dim": 128,
    "fusion_heads": 4,
    "fusion_dropout": 0.0,
    "top_down": False,
    "drop_block": 0.0,
    "strides": [8, 16, 32],
    "residual": True,
    "cues": True,
}
SIDE, MAX_SIDE = 128, 256  # pixels; drawn scenes are square


def write_start(folder: Path, *, seed: int = 0) -> None:
    """Write the network and its processor.

    Args:
        folder: a new folder.
        seed: of the weights.

    Raises:
        FileError: the folder exists.
    """
    if folder.exists():
        raise FileError(f"{folder}: exists already; give a new folder")
    torch.manual_seed(seed)
    model = GlipModel(GlipConfig(**CONFIG))
    image_processor = GlipImageProcessor(short_side=SIDE, max_side=MAX_SIDE)
    processor = GlipProcessor(image_processor, published_processor().tokenizer)
    paint_palette(model, processor)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def main() -> int:
    """Write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    arguments = parser.parse_args()
    try:
        write_start(arguments.output, seed=arguments.seed)
    except GlipError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
