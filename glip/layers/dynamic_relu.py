"""Dynamic ReLU, version B (Chen et al. 2020, Dynamic ReLU, section 3.2): slopes that depend on the image."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glip.layers.pooling import masked_mean

REDUCTION = 4


class DynamicReLU(nn.Module):
    """The larger of two lines, whose slopes and intercepts are computed from the pooled input.

    With zero logits it is the plain ReLU.

    Args:
        channels: C of the input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // REDUCTION)
        self.excite = nn.Linear(channels // REDUCTION, 4 * channels)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the two lines; `(B, C, H, W)` in and out. `mask` as in `masked_mean`."""
        slope1, intercept1, slope2, intercept2 = self.coefficients(masked_mean(features, mask))
        return torch.maximum(slope1 * features + intercept1, slope2 * features + intercept2)

    def coefficients(self, pooled: Tensor) -> tuple[Tensor, ...]:
        """Slope and intercept of both lines, `(B, C, 1, 1)` each, from the pooled features `(B, C)`."""
        theta = F.hardsigmoid(self.excite(F.relu(self.squeeze(pooled))))
        slope1, intercept1, slope2, intercept2 = (theta - 0.5)[:, :, None, None].chunk(4, dim=1)
        return 2 * slope1 + 1, intercept1, 2 * slope2, intercept2
