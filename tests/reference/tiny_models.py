"""Networks small enough for a test: every part is there, nothing is wide."""

from typing import Any

import torch
from torch import Tensor

from glip.clip_configuration import ClipConfig
from glip.configuration import GlipConfig
from glip.models.clip import ClipModel
from glip.models.glip import GlipModel

VOCABULARY = 50
TINY_TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
}
TINY_BACKBONES: dict[str, dict[str, Any]] = {
    "swin": {
        "kind": "swin",
        "embed_dim": 12,
        "depths": [1, 1, 2, 1],
        "num_heads": [1, 2, 2, 4],
        "window_size": 4,
        "drop_path_rate": 0.0,
    },
    "resnet": {"kind": "resnet", "layers": [1, 1, 1, 1]},
    "csp": {
        "kind": "csp",
        "stem_channels": 4,
        "stage_channels": [8, 16, 32, 64],
        "stage_depths": [1, 1, 1, 1],
        "neck_channels": 32,
    },
    "timm": {"kind": "timm", "name": "test_resnet", "out_indices": [2, 3, 4]},
    "transformers": {
        "kind": "transformers",
        "config": {
            "model_type": "convnext",
            "hidden_sizes": [8, 12, 16, 24],
            "depths": [1, 1, 1, 1],
            "out_features": ["stage2", "stage3", "stage4"],
        },
    },
}


def tiny_config(kind: str = "swin", **changes: Any) -> GlipConfig:
    """A whole network's numbers; `changes` replaces some of them."""
    numbers: dict[str, Any] = {
        "backbone": TINY_BACKBONES[kind],
        "text": TINY_TEXT,
        "channels": 32,
        "num_blocks": 2,
        "fusion_dim": 32,
        "fusion_heads": 4,
        "num_groups": 4,
    }
    return GlipConfig(**{**numbers, **changes})


def tiny_model(kind: str = "swin", **changes: Any) -> GlipModel:
    """A network with the same random weights each time, in evaluation mode."""
    torch.manual_seed(0)
    model = GlipModel(tiny_config(kind, **changes))
    model.eval()
    return model


def random_images(batch: int, height: int = 64, width: int = 96) -> Tensor:
    """`(batch, 3, height, width)`, the same numbers each time."""
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def random_captions(batch: int, length: int = 7) -> Tensor:
    """`(batch, length)` token ids without pads, the same each time."""
    return torch.randint(1, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(2))


def tiny_clip(kind: str = "csp", **changes: Any) -> ClipModel:
    """A network with two towers, with the same random weights each time, in evaluation mode."""
    torch.manual_seed(0)
    numbers: dict[str, Any] = {
        "backbone": TINY_BACKBONES[kind],
        "text": TINY_TEXT,
        "embed_dim": 16,
        "pool_heads": 4,
    }
    model = ClipModel(ClipConfig(**{**numbers, **changes}))
    model.eval()
    return model
