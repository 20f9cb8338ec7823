"""Visual question answering as classification over known answers (Antol et al. 2015; GLIPv2, section 3.1)."""

import torch
from torch import Tensor, nn

from glip.layers.decoder import DecoderLayer
from glip.layers.grid import GridEncoder
from glip.layers.pooling import masked_mean


class AnswerHead(nn.Module):
    """The question looks at the image again; what it finds, the fused CLS and the mean of the fused image decide.

    Args:
        channels: C of image positions.
        text_dim: D of words.
        num_heads: attention heads; must divide D.
        num_answers: K.
        layers: how often the question looks.
        width: of the layer before the answers.
        grid: most places of the image along a side.
    """

    def __init__(
        self, channels: int, text_dim: int, *, num_heads: int, num_answers: int, layers: int, width: int, grid: int
    ) -> None:
        super().__init__()
        self.grid = GridEncoder(channels, text_dim, side=grid)
        self.looks = nn.ModuleList(
            DecoderLayer(text_dim, num_heads=num_heads, feedforward_dim=4 * text_dim) for _ in range(layers)
        )
        self.classifier = nn.Sequential(
            nn.Linear(2 * text_dim + channels, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, num_answers)
        )

    def forward(self, words: Tensor, word_mask: Tensor, level: Tensor, level_mask: Tensor) -> Tensor:
        """Answer.

        Args:
            words: fused question, `(B, L, D)`, CLS first.
            word_mask: `(B, L)` bool, True on real tokens.
            level: fused map, `(B, C, H, W)`.
            level_mask: `(B, H, W)` bool, True on the image.

        Returns:
            `(B, K)` logits, each for itself.
        """
        places, place_mask = self.grid(level, level_mask)
        found = words
        for layer in self.looks:
            assert isinstance(layer, DecoderLayer)
            found, _ = layer(found, layer.look_at(places, place_mask), word_mask[:, None, None])
        real = word_mask.unsqueeze(-1)
        mean = (found * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
        answers: Tensor = self.classifier(torch.cat([words[:, 0], mean, masked_mean(level, level_mask)], dim=1))
        return answers
