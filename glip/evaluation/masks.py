"""Referring segmentation: how well one mask for each phrase fits (PhraseCut, Wu et al. 2020, section 5)."""

from collections.abc import Iterable

import torch
from torch import Tensor

from glip.errors import ShapeError
from glip.structures.masks import check_masks, union_of

PRECISION_AT = (0.5, 0.7, 0.9)  # IoU
UNION_SCORE = 0.7  # MDETR's threshold for the masks that make up a phrase's


def phrase_mask(masks: Tensor, scores: Tensor, *, threshold: float = UNION_SCORE) -> Tensor:
    """One mask for a phrase: the union of its instances that score high enough, or the best one alone.

    Args:
        masks: `(N, H, W)` bool, the phrase's instances.
        scores: `(N,)` in `[0, 1]`.
        threshold: least score.

    Returns:
        `(H, W)` bool; nowhere for N = 0.

    Raises:
        ShapeError: there is not one score for each mask.
    """
    check_masks(masks)
    if scores.shape != masks.shape[:1]:
        raise ShapeError(f"{len(masks)} masks need scores ({len(masks)},), got {tuple(scores.shape)}")
    return union_of(masks[scores >= scores.amax().clamp(max=threshold)]) if len(masks) else union_of(masks)


def phrase_mask_metrics(pairs: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """PhraseCut's numbers.

    Args:
        pairs: of each phrase the found and the true mask, both `(H, W)` bool, where all its things are.

    Returns:
        In `[0, 1]`, 0 where there is no phrase: "mean_iou", of phrases; "cumulative_iou", shared pixels of all phrases
        over the pixels of either mask; "precision@0.5", "@0.7", "@0.9", the share of phrases with at least that IoU.
        Of two masks without a pixel the IoU is 1.

    Raises:
        ShapeError: two masks of a phrase are not both `(H, W)` bool.
    """
    areas = [_shared_and_all(found, truth) for found, truth in pairs]
    ious = torch.tensor([shared / either if either else 1.0 for shared, either in areas], dtype=torch.float64)
    shared, everything = (sum(column) for column in zip(*areas, strict=True)) if areas else (0, 0)
    cumulative = shared / everything if everything else _mean(ious)
    precision = {f"precision@{least}": _mean((ious >= least).double()) for least in PRECISION_AT}
    return {"mean_iou": _mean(ious), "cumulative_iou": cumulative, **precision}


def _shared_and_all(found: Tensor, truth: Tensor) -> tuple[int, int]:
    """Pixels of both masks, and of either."""
    if found.ndim != 2 or found.shape != truth.shape or {found.dtype, truth.dtype} != {torch.bool}:
        raise ShapeError(
            f"the found and the true mask must both be (H, W) bool, got {tuple(found.shape)} {found.dtype} and "
            f"{tuple(truth.shape)} {truth.dtype}"
        )
    return int((found & truth).sum()), int((found | truth).sum())


def _mean(numbers: Tensor) -> float:
    return float(numbers.mean()) if len(numbers) else 0.0
