"""Visual question answering as classification over known answers (Antol et al. 2015; GLIPv2, section 3.1)."""

import torch
from torch import Tensor, nn

from glip.layers.decoder import DecoderLayer
from glip.layers.glance import Glance
from glip.layers.grid import OCTAVES, GridEncoder, centres, waves
from glip.layers.pooling import masked_mean


class AnswerHead(nn.Module):
    """The question looks where its words are aligned, then round there; what it finds and the fused CLS decide.

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
        self.glance = Glance(channels, text_dim)
        self.focus = nn.Linear(text_dim, 1)
        self.grid = GridEncoder(channels, text_dim, side=grid)
        self.from_focus = nn.Linear(4 * OCTAVES, text_dim, bias=False)
        self.looks = nn.ModuleList(
            DecoderLayer(text_dim, num_heads=num_heads, feedforward_dim=4 * text_dim) for _ in range(layers)
        )
        self.classifier = nn.Sequential(
            nn.Linear(2 * text_dim + channels, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, num_answers)
        )

    def forward(self, words: Tensor, word_mask: Tensor, level: Tensor, level_mask: Tensor, alignment: Tensor) -> Tensor:
        """Answer.

        Args:
            words: fused question, `(B, L, D)`, CLS first.
            word_mask: `(B, L)` bool, True on real tokens.
            level: fused map, `(B, C, H, W)`.
            level_mask: `(B, H, W)` bool, True on the image.
            alignment: logits of each word at each position of the map, `(B, L, H, W)`.

        Returns:
            `(B, K)` logits, each for itself.
        """
        found, where, sure = self.glance(words, level, level_mask, alignment)
        chosen = self.focus(words).squeeze(-1) + sure.to(words.dtype)  # what is asked about is what is found best
        chosen = chosen.masked_fill(~word_mask, torch.finfo(words.dtype).min).softmax(dim=1).unsqueeze(1)  # (B, 1, L)
        places, place_mask = self.grid(level, level_mask)
        places = places + self._seen_from(chosen @ where.to(words.dtype), level_mask)
        for layer in self.looks:
            assert isinstance(layer, DecoderLayer)
            found, _ = layer(found, layer.look_at(places, place_mask), word_mask[:, None, None])
        pooled = (chosen @ found).squeeze(1)
        answers: Tensor = self.classifier(torch.cat([words[:, 0], pooled, masked_mean(level, level_mask)], dim=1))
        return answers

    def _seen_from(self, focus: Tensor, level_mask: Tensor) -> Tensor:
        """How far and which way each place is from `(B, 1, 2)`: `(B, N, D)`."""
        height, width = (min(self.grid.side, length) for length in level_mask.shape[1:])
        ways = centres(level_mask, (height, width)).to(focus.dtype) - focus
        seen: Tensor = self.from_focus(waves(ways))
        return seen
