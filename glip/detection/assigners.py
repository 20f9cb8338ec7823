"""Which anchor answers for which box."""

from collections.abc import Sequence
from typing import Protocol

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from glip.detection.anchors import box_centres
from glip.detection.box_coder import LEGACY_PIXEL, decode_boxes
from glip.structures.boxes import pairwise_giou, pairwise_iou
from glip.structures.targets import Targets

UNASSIGNED = -1
MIN_INSIDE = 0.01  # pixels by which an anchor's centre must lie inside its box


class Assigner(Protocol):
    """A rule that gives each anchor a box or none.

    Attributes:
        centres_inside: whether an anchor's centre always lies inside its box, so that centerness can weigh box losses.
    """

    centres_inside: bool

    def __call__(
        self,
        anchors: Tensor,
        levels: Sequence[slice],
        targets: Targets,
        *,
        alignment_logits: Tensor,
        box_deltas: Tensor,
    ) -> Tensor:
        """Assign one image's anchors.

        Args:
            anchors: `(A, 4)` xyxy pixels.
            levels: where each level's anchors stand among all A.
            targets: the image's N boxes.
            alignment_logits: `(A, L)`, what the network says; not every rule looks.
            box_deltas: `(A, 4)`, likewise.

        Returns:
            `(A,)` int64: the index of the anchor's box, `UNASSIGNED` where it has none.
        """
        ...


class AtssAssigner:
    """Adaptive training sample selection (Zhang et al. 2020, algorithm 1).

    Args:
        top_k: nearest anchors taken from each level as a box's candidates.
    """

    centres_inside = True

    def __init__(self, *, top_k: int = 9) -> None:
        self.top_k = top_k

    def __call__(
        self,
        anchors: Tensor,
        levels: Sequence[slice],
        targets: Targets,
        *,
        alignment_logits: Tensor,
        box_deltas: Tensor,
    ) -> Tensor:
        """Candidates whose IoU is at least the candidates' mean plus deviation, and whose centre is inside."""
        if not len(targets):
            return anchors.new_full((len(anchors),), UNASSIGNED, dtype=torch.int64)
        iou = pairwise_iou(anchors, targets.boxes, pixel=LEGACY_PIXEL)  # (A, N)
        candidates = self._candidates(anchors, levels, targets.boxes)  # (K, N) anchor indices
        candidate_iou = iou.gather(0, candidates)
        threshold = candidate_iou.mean(dim=0) + candidate_iou.std(dim=0)
        inside = _inside_margin(box_centres(anchors)[candidates], targets.boxes) > MIN_INSIDE
        positive = (candidate_iou >= threshold) & inside
        claimed = torch.full_like(iou, -torch.inf)
        rows, columns = candidates[positive], positive.nonzero()[:, 1]
        claimed[rows, columns] = iou[rows, columns]
        best_iou, box = claimed.max(dim=1)
        return torch.where(best_iou > -torch.inf, box, UNASSIGNED)

    def _candidates(self, anchors: Tensor, levels: Sequence[slice], boxes: Tensor) -> Tensor:
        """The nearest anchors of each level to each box, by distance of centres: `(K, N)`."""
        distance = torch.cdist(box_centres(anchors), box_centres(boxes), compute_mode="donot_use_mm_for_euclid_dist")
        nearest = []
        for level in levels:
            length = level.stop - level.start
            order = distance[level].topk(min(self.top_k, length), dim=0, largest=False).indices
            nearest.append(order + level.start)
        return torch.cat(nearest)


class HungarianAssigner:
    """One anchor a box, by the cheapest matching (DETR, section 3.1): training without duplicates, so without NMS.

    Args:
        alignment_weight: of the cost of the phrase's tokens.
        l1_weight: of the L1 distance of encoded boxes.
        giou_weight: of the generalised IoU.
    """

    centres_inside = False

    def __init__(self, *, alignment_weight: float = 2.0, l1_weight: float = 1.0, giou_weight: float = 2.0) -> None:
        self.alignment_weight = alignment_weight
        self.l1_weight = l1_weight
        self.giou_weight = giou_weight

    @torch.no_grad()
    def __call__(
        self,
        anchors: Tensor,
        levels: Sequence[slice],
        targets: Targets,
        *,
        alignment_logits: Tensor,
        box_deltas: Tensor,
    ) -> Tensor:
        """The matching of least cost; anchors beyond the number of boxes stay unassigned."""
        assigned = anchors.new_full((len(anchors),), UNASSIGNED, dtype=torch.int64)
        if not len(targets):
            return assigned
        boxes = decode_boxes(box_deltas.float(), anchors)
        cost = (
            self.alignment_weight * self._alignment_cost(alignment_logits.float(), targets.token_map)
            + self.l1_weight * _normalized_l1(boxes, targets.boxes)
            - self.giou_weight * pairwise_giou(boxes, targets.boxes)
        )
        rows, columns = linear_sum_assignment(cost.cpu().numpy())
        assigned[torch.as_tensor(rows)] = torch.as_tensor(columns, device=assigned.device)
        return assigned

    def _alignment_cost(self, logits: Tensor, token_map: Tensor) -> Tensor:
        """One minus the mean probability of each box's tokens: `(A, N)`."""
        weights = token_map.float() / token_map.sum(dim=1, keepdim=True).clamp(min=1)
        return 1 - logits.sigmoid() @ weights.T


def _inside_margin(points: Tensor, boxes: Tensor) -> Tensor:
    """Distance of each point `(K, N, 2)` to the nearest side of its box `(N, 4)`; negative outside: `(K, N)`."""
    return torch.cat([points - boxes[:, :2], boxes[:, 2:] - points], dim=-1).min(dim=-1).values


def _normalized_l1(boxes: Tensor, targets: Tensor) -> Tensor:
    """L1 distance of corners in units of each target's mean side: `(A, N)`."""
    scale = ((targets[:, 2:] - targets[:, :2]).mean(dim=1) + LEGACY_PIXEL).clamp(min=1)
    return torch.cdist(boxes, targets, p=1) / scale / 4
