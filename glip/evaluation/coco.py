"""COCO's average precision, by pycocotools."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR@1", "AR@10", "AR@100", "ARs@100", "ARm@100", "ARl@100")


def coco_metrics(annotations: dict[str, Any], results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The twelve COCO numbers.

    Args:
        annotations: content of a COCO detection file.
        results: records as `Detections.to_coco` gives them, of all images.

    Returns:
        Fractions in `[0, 1]` by the names in `METRICS`; -1 where undefined, 0 without any result.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        truth = COCO()
        truth.dataset = annotations
        truth.createIndex()
        if not results:
            return dict.fromkeys(METRICS, 0.0)
        evaluation = COCOeval(truth, truth.loadRes(list(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(METRICS, map(float, evaluation.stats), strict=True))
