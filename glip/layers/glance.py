"""What the image shows where each word is found: a look that alignment has already aimed."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glip.layers.grid import OCTAVES, centres, waves

MOST = 8  # things of one kind that are told apart in number
PEAK = 3  # positions to a side that a peak is the highest of
SHARPNESS = 2.0  # of the look, before training: alignment is a logit


class Glance(nn.Module):
    """Adds to each word what is where the word is aligned, where that is, and how many such places there are.

    Args:
        channels: C of image positions.
        dim: D of words.
    """

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS))
        self.content = nn.Linear(channels + 4 * OCTAVES + MOST, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, words: Tensor, level: Tensor, mask: Tensor, alignment: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Look.

        Args:
            words: `(B, L, D)`.
            level: `(B, C, H, W)`.
            mask: `(B, H, W)` bool, True on the image.
            alignment: logits of each word at each position, `(B, L, H, W)`.

        Returns:
            Words `(B, L, D)`; where each was found, `(B, L, 2)`, right and down, from 0 to 1; and the highest of its
            logits, `(B, L)`.
        """
        outside, never = ~mask.unsqueeze(1), torch.finfo(alignment.dtype).min
        logits = alignment.masked_fill(outside, never)
        sharpened = (alignment * self.sharpness.clamp(min=0)).masked_fill(outside, never)
        weights = sharpened.flatten(2).softmax(dim=2)  # (B, L, N)
        seen = weights @ level.flatten(2).transpose(1, 2)
        where = weights @ centres(mask, (level.shape[2], level.shape[3])).to(weights.dtype)
        found = torch.cat([seen, waves(where), counted(logits)], dim=2)
        return self.norm(words + self.content(found)), where, logits.amax(dim=(2, 3))


def counted(logits: Tensor) -> Tensor:
    """How many peaks each map has, as a thermometer.

    Args:
        logits: `(B, L, H, W)`.

    Returns:
        `(B, L, MOST)` in `[0, 1]`; the k-th number rises while the peaks' probabilities sum from k to k + 1.
    """
    chances = logits.sigmoid()
    highest = F.max_pool2d(chances.flatten(0, 1).unsqueeze(1), PEAK, stride=1, padding=PEAK // 2)
    peaks = chances * (chances == highest.view_as(chances))
    total = peaks.sum(dim=(2, 3)).unsqueeze(-1)
    return (total - torch.arange(MOST, device=total.device)).clamp(0, 1)
