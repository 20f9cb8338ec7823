"""Recall of phrases and precision of expressions: is one of the k best boxes right?

Flickr30k Entities' recall@k and RefCOCO's precision@k are one measure. Published RefCOCO numbers of MDETR's code
threshold the generalised IoU instead, which is stricter; both can be had.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from glip.structures.boxes import pairwise_giou, pairwise_iou

Overlap = Literal["iou", "giou"]

IOU_THRESHOLD = 0.5
RANKS: tuple[int | None, ...] = (1, 5, 10, None)
"""The k of recall@k; None for all boxes, the upper bound."""


@dataclass(frozen=True, eq=False)
class Query:
    """One phrase or expression with what was found for it.

    Attributes:
        boxes: `(N, 4)` xyxy pixels, in any order; may be empty.
        scores: `(N,)`; equal scores keep the order given.
        targets: `(M, 4)` xyxy pixels; one of them is enough.
        kinds: groups that it counts in, besides "all".
    """

    boxes: Tensor
    scores: Tensor
    targets: Tensor
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecallReport:
    """Hits at each k, in all and by kind.

    Attributes:
        hits: by the name of the k ("recall@1", ..., "upper_bound"), then by kind.
        totals: queries of each kind.
    """

    hits: dict[str, dict[str, int]]
    totals: dict[str, int]

    @property
    def recall(self) -> dict[str, dict[str, float]]:
        """Shares of hits in `[0, 1]`."""
        return {
            rank: {kind: count / max(self.totals[kind], 1) for kind, count in by_kind.items()}
            for rank, by_kind in self.hits.items()
        }


def count_hits(
    queries: Sequence[Query], *, ranks: Sequence[int | None] = RANKS, overlap: Overlap = "iou"
) -> RecallReport:
    """Count the queries that are answered by one of their k best boxes.

    Args:
        queries: phrases or expressions.
        ranks: the k; None for all boxes.
        overlap: what must reach 0.5.
    """
    kinds = ["all", *sorted({kind for query in queries for kind in query.kinds})]
    totals = dict.fromkeys(kinds, 0)
    hits = {_name(rank): dict.fromkeys(kinds, 0) for rank in ranks}
    for query in queries:
        first = _first_hit(query, overlap)
        for kind in ("all", *dict.fromkeys(query.kinds)):
            totals[kind] += 1
            for rank in ranks:
                hits[_name(rank)][kind] += int(first is not None and (rank is None or first < rank))
    return RecallReport(hits, totals)


def is_hit(boxes: Tensor, targets: Tensor, *, k: int, threshold: float = IOU_THRESHOLD) -> bool:
    """Whether one of the first k boxes meets one of the targets.

    Args:
        boxes: `(N, 4)` xyxy pixels, best first; may be empty.
        targets: `(M, 4)` xyxy pixels.
        k: how many boxes may try.
        threshold: least IoU; equality counts.
    """
    return bool((pairwise_iou(boxes[:k], targets) >= threshold).any())


def recall_at(hits: Sequence[bool]) -> float:
    """Share of hits in `[0, 1]`; 0 for none at all."""
    return sum(hits) / len(hits) if hits else 0.0


def _name(rank: int | None) -> str:
    return "upper_bound" if rank is None else f"recall@{rank}"


def _first_hit(query: Query, overlap: Overlap) -> int | None:
    """Rank, from 0, of the best box that is right."""
    order = query.scores.argsort(descending=True, stable=True)
    right = (_overlaps(query.boxes[order], query.targets, overlap) >= IOU_THRESHOLD).any(dim=1).nonzero()
    return int(right[0, 0]) if len(right) else None


def _overlaps(boxes: Tensor, targets: Tensor, overlap: Overlap) -> Tensor:
    """`(N, M)` IoU or generalised IoU, in float64: some recorded overlaps lie on the threshold."""
    measure = pairwise_iou if overlap == "iou" else pairwise_giou
    return measure(boxes.double(), targets.double())
