"""From a map to one vector."""

import torch
from torch import Tensor, nn

from glip.layers.attention import attend


def masked_mean(features: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over positions.

    Args:
        features: `(B, C, H, W)`.
        mask: `(B, H, W)` bool, True on positions that count; None for all.

    Returns:
        `(B, C)`; 0 for an image without a position that counts.
    """
    if mask is None:
        return features.mean(dim=(2, 3))
    weights = mask.unsqueeze(1).to(features.dtype)
    return (features * weights).sum(dim=(2, 3)) / weights.sum(dim=(2, 3)).clamp(min=1)


class AttentionPool(nn.Module):
    """The mean of all positions asks all positions what matters (CLIP, section 2.4).

    There are no position embeddings, so that maps may be of any size.

    Args:
        dim: C of the map.
        num_heads: attention heads; must divide C.
    """

    def __init__(self, dim: int, *, num_heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, num_heads, batch_first=True)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C)`."""
        positions = self.norm(features.flatten(2).transpose(1, 2))
        mean: Tensor = positions.mean(dim=1, keepdim=True)
        pooled: Tensor = self.attention(mean, positions, positions, need_weights=False)[0]
        return (mean + pooled).squeeze(1)


class PositionedAttentionPool(nn.Module):
    """The mean of all positions asks itself and all of them what matters, and knows where each is (CLIP, section 2.4).

    The pooling of published CLIPs with a ResNet. Its maps have one size.

    Args:
        dim: C of the map.
        num_heads: attention heads; must divide C.
        num_positions: H W of the map.
        out_dim: D of the vector.
    """

    def __init__(self, dim: int, *, num_heads: int, num_positions: int, out_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.positions = nn.Parameter(dim**-0.5 * torch.randn(1 + num_positions, dim))  # the mean's is the first
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, out_dim)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, D)`."""
        places = features.flatten(2).transpose(1, 2)
        sequence = torch.cat([places.mean(dim=1, keepdim=True), places], dim=1) + self.positions
        query = self.query(sequence[:, :1])
        seen = attend(query, self.key(sequence), self.value(sequence), num_heads=self.num_heads)
        pooled: Tensor = self.out(seen.squeeze(1))
        return pooled
