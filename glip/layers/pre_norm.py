"""A pre-norm transformer layer, as CLIP's towers have it (Radford et al. 2021, section 2.4)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glip.layers.attention import attend

QUICK_GELU_SLOPE = 1.702


class PreNormLayer(nn.Module):
    """Self-attention and a feed-forward net, each of what is normalised first, and added to its input.

    Args:
        dim: D of the sequence.
        num_heads: attention heads; must divide `dim`.
        feedforward_dim: width between the two feed-forward layers.
        quick_gelu: whether the feed-forward net has x sigmoid(1.702 x), as OpenAI's weights were trained with, or GELU.
        is_causal: whether a position sees only those before it.
    """

    def __init__(self, dim: int, *, num_heads: int, feedforward_dim: int, quick_gelu: bool, is_causal: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.quick_gelu = quick_gelu
        self.is_causal = is_causal
        self.attention_norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.attention_out = nn.Linear(dim, dim)
        self.feedforward_norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, feedforward_dim)
        self.contract = nn.Linear(feedforward_dim, dim)

    def forward(self, sequence: Tensor) -> Tensor:
        """`(B, L, D)` in and out."""
        sequence = sequence + self._attend(self.attention_norm(sequence))
        wide = self.expand(self.feedforward_norm(sequence))
        active = wide * torch.sigmoid(QUICK_GELU_SLOPE * wide) if self.quick_gelu else F.gelu(wide)
        changed: Tensor = sequence + self.contract(active)
        return changed

    def _attend(self, sequence: Tensor) -> Tensor:
        query, key, value = self.query(sequence), self.key(sequence), self.value(sequence)
        out: Tensor = self.attention_out(attend(query, key, value, num_heads=self.num_heads, is_causal=self.is_causal))
        return out
