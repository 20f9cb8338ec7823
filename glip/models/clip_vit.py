"""CLIP with a vision transformer (Radford et al. 2021, section 2.4), for published weights (`glip.weights.clip`)."""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from glip.clip_configuration import VitClipConfig
from glip.layers.pre_norm import PreNormLayer
from glip.models.clip_published import PublishedClipModel
from glip.weights.clip import read_published_clip


class VitClipModel(PublishedClipModel):
    """A vision transformer and a causal text transformer; what a `ClipModel` says, it says, too.

    Args:
        config: the network's numbers.
    """

    config_class = VitClipConfig
    config: VitClipConfig

    def __init__(self, config: VitClipConfig) -> None:
        super().__init__(config)
        width = config.image_width
        self.patches = nn.Conv2d(3, width, config.patch_size, stride=config.patch_size, bias=False)
        self.class_token = nn.Parameter(width**-0.5 * torch.randn(width))
        positions = (config.image_size // config.patch_size) ** 2 + 1
        self.image_positions = nn.Parameter(width**-0.5 * torch.randn(positions, width))
        self.image_norm_before = nn.LayerNorm(width)
        self.image_layers = nn.ModuleList(
            PreNormLayer(
                width,
                num_heads=config.image_heads,
                feedforward_dim=4 * width,
                quick_gelu=config.quick_gelu,
                is_causal=False,
            )
            for _ in range(config.image_layers)
        )
        self.image_norm = nn.LayerNorm(width)
        self.image_projection = nn.Linear(width, config.embed_dim, bias=False)
        self.post_init()

    @classmethod
    def from_published(cls, path: str | Path) -> Self:
        """Load a CLIP that transformers saved.

        Args:
            path: the folder with its `config.json` and `model.safetensors`.

        Raises:
            FileError: a file is missing.
            CheckpointError: it is another model, or does not fit exactly.
        """
        return cls._of(str(path), *read_published_clip(path))

    def image_vectors(self, pixel_values: Tensor) -> Tensor:
        """The image tower: `(B, 3, S, S)` normalised RGB to `(B, D)` of any length."""
        patches = self.patches(pixel_values).flatten(2).transpose(1, 2)
        sequence = torch.cat([self.class_token.expand(len(patches), 1, -1), patches], dim=1) + self.image_positions
        sequence = self.image_norm_before(sequence)
        for layer in self.image_layers:
            sequence = layer(sequence)
        vectors: Tensor = self.image_projection(self.image_norm(sequence[:, 0]))
        return vectors
