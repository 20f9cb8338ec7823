"""Alignment, box and centerness losses (GLIP, section 3.1; ATSS, section 3; Focal loss, equation 5)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from glip.detection.anchors import box_centres, make_anchors
from glip.detection.assigners import UNASSIGNED, Assigner, AtssAssigner
from glip.detection.box_coder import decode_boxes, encode_boxes
from glip.errors import ShapeError
from glip.structures.boxes import elementwise_giou
from glip.structures.output import GlipOutput
from glip.structures.targets import Targets

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0  # focal loss, table 1b
MIN_WEIGHT_SUM = 1e-6


@dataclass(frozen=True)
class LossWeights:
    """What each term is multiplied with. The published weights were trained with GIoU alone, times 2."""

    alignment: float = 1.0
    giou: float = 2.0
    l1: float = 0.0
    centerness: float = 1.0


class GlipCriterion:
    """Named losses of a batch.

    Args:
        assigner: which anchors answer for which box; ATSS if None.
        weights: of the terms.
        reduce_mean: mean of a number over all training processes; None for one process.
    """

    def __init__(
        self,
        *,
        assigner: Assigner | None = None,
        weights: LossWeights | None = None,
        reduce_mean: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.assigner = assigner or AtssAssigner()
        self.weights = weights or LossWeights()
        self.reduce_mean = reduce_mean or (lambda number: number)

    def assign(self, output: GlipOutput, targets: Sequence[Targets]) -> list[Tensor]:
        """Which anchors answer for which box: of each image `(A,)` int64, `UNASSIGNED` for none.

        Args:
            output: of the network, for B images.
            targets: of the same images.

        Raises:
            ShapeError: there is not one target for each image, or a token map has another length than the caption.
        """
        _check_targets(output, targets)
        anchors = make_anchors(output.level_shapes, output.strides, device=output.box_deltas.device)
        return [self._assign(output, anchors, index, target) for index, target in enumerate(targets)]

    def __call__(
        self, output: GlipOutput, targets: Sequence[Targets], assigned: Sequence[Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Compute the losses in float32.

        Args:
            output: of the network, for B images.
            targets: of the same images; one without boxes teaches what is absent, one without box loss counts in the
                alignment loss only, one that is not grounded in none.
            assigned: from `assign`; None to do it here.

        Returns:
            `loss_alignment`, `loss_giou`, `loss_l1` and `loss_centerness`: weighted scalars, to be summed.

        Raises:
            ShapeError: there is not one target for each image, or a token map has another length than the caption.
        """
        assigned = self.assign(output, targets) if assigned is None else assigned
        anchors = make_anchors(output.level_shapes, output.strides, device=output.box_deltas.device)
        count = self._mean_positives(assigned, anchors)
        token_targets = _token_targets(output, targets, assigned)
        taught = torch.tensor([target.is_grounded for target in targets], device=token_targets.device)
        focal = alignment_focal_loss(
            output.alignment_logits.float(), token_targets, output.attention_mask & taught[:, None]
        )
        return {
            "loss_alignment": self.weights.alignment * focal / count,
            **self._box_losses(output, targets, _with_box_loss(targets, assigned), anchors),
        }

    def _mean_positives(self, assigned: Sequence[Tensor], like: Tensor) -> Tensor:
        positives = sum(int((boxes != UNASSIGNED).sum()) for boxes in assigned)
        return self.reduce_mean(like.new_tensor(float(positives))).clamp(min=1)

    def _assign(self, output: GlipOutput, anchors: Tensor, index: int, target: Targets) -> Tensor:
        return self.assigner(
            anchors,
            output.levels,
            target,
            alignment_logits=output.alignment_logits[index].detach(),
            box_deltas=output.box_deltas[index].detach(),
        )

    def _box_losses(
        self,
        output: GlipOutput,
        targets: Sequence[Targets],
        assigned: Sequence[Tensor],
        anchors: Tensor,
    ) -> dict[str, Tensor]:
        """Box terms, weighted by centerness where it means something, and centerness itself, over positive anchors."""
        count = self._mean_positives(assigned, anchors)
        image, anchor = torch.stack(list(assigned)).ne(UNASSIGNED).nonzero(as_tuple=True)
        deltas = output.box_deltas[image, anchor].float()
        centerness_logits = output.centerness_logits[image, anchor].float()
        truth = torch.cat([t.boxes[boxes[boxes != UNASSIGNED]] for t, boxes in zip(targets, assigned, strict=True)])
        anchors = anchors[anchor]
        truth_deltas = encode_boxes(truth, anchors)
        truth = decode_boxes(truth_deltas, anchors)  # as published: rounded the way the prediction is
        centerness = centerness_targets(truth, anchors)
        box_weights = centerness if self.assigner.centres_inside else torch.ones_like(centerness)
        total = self.reduce_mean(box_weights.sum()).clamp(min=MIN_WEIGHT_SUM)
        giou = 1 - elementwise_giou(decode_boxes(deltas, anchors), truth)
        distance = (deltas - truth_deltas).abs().mean(dim=1)
        entropy = F.binary_cross_entropy_with_logits(centerness_logits, centerness, reduction="sum")
        return {
            "loss_giou": self.weights.giou * (box_weights * giou).sum() / total,
            "loss_l1": self.weights.l1 * (box_weights * distance).sum() / total,
            "loss_centerness": self.weights.centerness * entropy / count,
        }


def alignment_focal_loss(logits: Tensor, targets: Tensor, word_mask: Tensor) -> Tensor:
    """Sigmoid focal loss of every anchor with every real token, summed.

    Args:
        logits: `(B, A, L)`.
        targets: `(B, A, L)` bool, True where the token names the anchor's box.
        word_mask: `(B, L)` bool, True on real tokens; CLS, SEP and separators count as negatives.

    Returns:
        A scalar.
    """
    truth = targets.to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    probability = logits.sigmoid()
    missing = torch.where(targets, 1 - probability, probability)  # 1 - p_t
    alpha = torch.where(targets, FOCAL_ALPHA, 1 - FOCAL_ALPHA)
    loss = alpha * missing**FOCAL_GAMMA * entropy
    return (loss * word_mask.unsqueeze(1)).sum()


def centerness_targets(boxes: Tensor, anchors: Tensor) -> Tensor:
    """How much an anchor's centre is the middle of its box (FCOS, equation 3).

    Args:
        boxes: `(N, 4)` xyxy pixels.
        anchors: `(N, 4)` xyxy pixels, centres inside the boxes.

    Returns:
        `(N,)` in `[0, 1]`.
    """
    centres = box_centres(anchors)
    before, after = centres - boxes[:, :2], boxes[:, 2:] - centres
    ratio = torch.minimum(before, after) / torch.maximum(before, after)
    return ratio.clamp(min=0).prod(dim=1).sqrt()


def _with_box_loss(targets: Sequence[Targets], assigned: Sequence[Tensor]) -> list[Tensor]:
    """The anchors that answer for boxes whose edges are to be learnt."""
    return [
        boxes if target.box_loss else torch.full_like(boxes, UNASSIGNED)
        for target, boxes in zip(targets, assigned, strict=True)
    ]


def _token_targets(output: GlipOutput, targets: Sequence[Targets], assigned: Sequence[Tensor]) -> Tensor:
    """Each positive anchor's row of the token map, nothing elsewhere: `(B, A, L)` bool."""
    rows = torch.zeros_like(output.alignment_logits, dtype=torch.bool)
    for index, (target, boxes) in enumerate(zip(targets, assigned, strict=True)):
        positive = boxes != UNASSIGNED
        rows[index, positive] = target.token_map[boxes[positive]]
    return rows


def _check_targets(output: GlipOutput, targets: Sequence[Targets]) -> None:
    batch, _, length = output.alignment_logits.shape
    if len(targets) != batch:
        raise ShapeError(f"each image needs its targets, got {len(targets)} for {batch} images")
    for target in targets:
        if target.token_map.shape[1] != length:
            raise ShapeError(
                f"token_map must be (N, {length}), as long as the batch's captions, got {tuple(target.token_map.shape)}"
            )
