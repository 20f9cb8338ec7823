"""Referring expressions on RefCOCO, RefCOCO+ and RefCOCOg: precision@k of one box an expression."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from glip.errors import DataError
from glip.evaluation.recall import Overlap, Query, RecallReport, count_hits
from glip.structures.boxes import xywh_to_xyxy

RANKS = (1, 5, 10)


def score_refcoco(
    annotations: Mapping[str, Any], predictions: Iterable[Mapping[str, Any]], *, overlap: Overlap = "iou"
) -> RecallReport:
    """Precision@1, 5 and 10.

    Args:
        annotations: content of a file in MDETR's layout: one image record and one annotation an expression.
        predictions: records `{image_id, boxes, scores}`, boxes xyxy pixels in any order; an expression without a
            record, or with an empty one, is a miss.
        overlap: "iou" as papers define it, or "giou" as MDETR's code does.

    Raises:
        DataError: a prediction is of an expression that is not annotated.
    """
    truth = {record["image_id"]: record["bbox"] for record in annotations["annotations"]}
    found = {record["image_id"]: record for record in predictions}
    strangers = found.keys() - truth.keys()
    if strangers:
        raise DataError(f"predictions: expression {min(strangers)} is not in the annotation file")
    nothing: dict[str, list[float]] = {"boxes": [], "scores": []}
    queries = [
        Query(
            torch.tensor(found.get(key, nothing)["boxes"], dtype=torch.float64).view(-1, 4),
            torch.tensor(found.get(key, nothing)["scores"], dtype=torch.float64),
            xywh_to_xyxy(torch.tensor([bbox], dtype=torch.float64)),
        )
        for key, bbox in truth.items()
    ]
    return count_hits(queries, ranks=RANKS, overlap=overlap)
