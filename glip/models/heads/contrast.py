"""Regions and words of a whole batch in one space (GLIPv2, section 3.2: inter-image region-word contrast)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INITIAL_LOG_SCALE = math.log(1 / 0.07)  # CLIP's
MAX_LOG_SCALE = math.log(100)


class ContrastHead(nn.Module):
    """Linear maps of both sides, taken before image and words have seen each other.

    After fusion a word knows its own image, and telling images apart would be no task.

    Args:
        channels: C of image positions.
        text_dim: D of words.
        width: E of the common space.
    """

    def __init__(self, channels: int, text_dim: int, *, width: int) -> None:
        super().__init__()
        self.region = nn.Linear(channels, width)
        self.word = nn.Linear(text_dim, width)
        self.log_scale = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))

    def forward(self, levels: tuple[Tensor, ...], words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embed.

        Args:
            levels: plain pyramid, `(B, C, H, W)` each.
            words: plain words, `(B, L, D)`.

        Returns:
            `(B, A, E)` and `(B, L, E)` of L2 norm 1, and the scalar that their similarities are multiplied with.
        """
        regions = torch.cat([self.region(level.flatten(2).transpose(1, 2)) for level in levels], dim=1)
        scale = self.log_scale.clamp(max=MAX_LOG_SCALE).exp()
        return F.normalize(regions.float(), dim=-1), F.normalize(self.word(words).float(), dim=-1), scale
