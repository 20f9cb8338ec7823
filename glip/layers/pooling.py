"""Pooling that can leave an image's padding out."""

from torch import Tensor


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
