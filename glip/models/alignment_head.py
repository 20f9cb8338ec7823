"""The outputs: box deltas, centerness, and alignment scores in place of class scores (GLIP, equation 3)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glip.structures.output import ANCHOR_STRIDES, CENTRE_WEIGHT, SIDE_WEIGHT

PRIOR_PROBABILITY = 0.01  # of an alignment before training (RetinaNet, section 4.1)
LEAST_SIDE = 1e-2  # strides
MAX_LOGIT = 50_000.0  # the published clamp; keeps half precision finite


class AlignmentHead(nn.Module):
    """Linear heads on image positions, and their dot product with projected words.

    Args:
        channels: C of image positions.
        text_dim: D of words.
        num_levels: pyramid levels; each scales its box deltas by a learned number.
        box_bins: places on each side's scale, in strides from 0; 0 for deltas as they are.
    """

    def __init__(self, channels: int, text_dim: int, *, num_levels: int, box_bins: int = 0) -> None:
        super().__init__()
        self.box_bins = box_bins
        self.box = nn.Linear(channels, 4 * max(box_bins, 1))
        self.centerness = nn.Linear(channels, 1)
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(1)) for _ in range(num_levels))
        self.word_projection = nn.Linear(text_dim, channels)
        self.word_bias = nn.Parameter(torch.zeros(text_dim))
        self.bias = nn.Parameter(torch.full((1,), -math.log(1 / PRIOR_PROBABILITY - 1)))
        self.log_scale = nn.Parameter(torch.zeros(1))
        for layer in (self.box, self.centerness):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor, words: Tensor, level_lengths: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Predict at every position.

        Args:
            image: `(B, A, C)`, positions of all levels.
            words: `(B, L, D)`.
            level_lengths: positions of each level; their sum is A.

        Returns:
            alignment logits `(B, A, L)`, box deltas `(B, A, 4)`, centerness logits `(B, A)`.
        """
        scales = torch.cat([scale.expand(length) for scale, length in zip(self.scales, level_lengths, strict=True)])
        boxes = self.box(image)
        if self.box_bins:
            boxes = distance_deltas(boxes.unflatten(2, (4, -1)))
        box_deltas = boxes * scales[:, None]
        centerness: Tensor = self.centerness(image).squeeze(-1)
        return self._align(image, words), box_deltas, centerness

    def _align(self, image: Tensor, words: Tensor) -> Tensor:
        """Dot product of each position with each word, plus a bias that the word decides: `(B, A, L)`."""
        directions = F.normalize(words, dim=-1)
        projected = self.word_projection(directions / 2) / self.log_scale.exp()  # (B, L, C)
        bias = directions @ self.word_bias + self.bias  # (B, L)
        logits = image @ projected.transpose(1, 2) + bias.unsqueeze(1)
        clamped: Tensor = logits.clamp(-MAX_LOGIT, MAX_LOGIT)
        return clamped


def distance_deltas(logits: Tensor) -> Tensor:
    """Box deltas from a distribution of each side's distance (Generalized Focal Loss, section 3.2).

    Args:
        logits: `(..., 4, bins)`: left, top, right, bottom; bin b stands for a distance of b strides.

    Returns:
        `(..., 4)`, in the units of `glip.detection.box_coder` for anchors of eight strides.
    """
    bins = torch.arange(logits.shape[-1], device=logits.device, dtype=logits.dtype)
    before, after = (logits.softmax(dim=-1) @ bins).unflatten(-1, (2, 2)).unbind(dim=-2)  # each (..., 2), in strides
    centres = (after - before) * (CENTRE_WEIGHT / 2 / ANCHOR_STRIDES)
    sides = ((before + after).clamp(min=LEAST_SIDE) / ANCHOR_STRIDES).log() * SIDE_WEIGHT
    return torch.cat([centres, sides], dim=-1)
