"""DropBlock (Ghiasi et al. 2018): dropout of whole squares of a feature map."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DropBlock(nn.Module):
    """Zeroes squares of the map during training and rescales what is left. The identity in evaluation.

    Args:
        probability: share of positions to drop, in `[0, 1)`; 0 switches it off.
        block_size: side of the dropped squares, odd, in positions.
    """

    def __init__(self, probability: float, *, block_size: int = 3) -> None:
        super().__init__()
        self.probability = probability
        self.block_size = block_size

    def forward(self, features: Tensor) -> Tensor:
        """Drop blocks; `(B, C, H, W)` in and out, one mask for all channels of an image."""
        if not self.training or self.probability == 0:
            return features
        batch, _, height, width = features.shape
        seed_probability = self.probability / self.block_size**2
        seeds = (torch.rand(batch, 1, height, width, device=features.device) < seed_probability).to(features.dtype)
        dropped = F.max_pool2d(seeds, self.block_size, stride=1, padding=self.block_size // 2)
        kept = 1 - dropped
        return features * kept * (kept.numel() / kept.sum().clamp(min=1))
