"""COCO's average precision, by pycocotools."""

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from glip.errors import ConfigError, DataError

LEGACY_PIXEL = 1  # corners as pixel indices: a side is x2 - x1 + 1
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR@1", "AR@10", "AR@100", "ARs@100", "ARm@100", "ARl@100")


def coco_results(
    annotations: Mapping[str, Any], predictions: Iterable[Mapping[str, Any]], *, plus_one: bool = False
) -> list[dict[str, Any]]:
    """Detections of a class list as records of a COCO results file.

    Args:
        annotations: content of a COCO detection file.
        predictions: records `{image_id, boxes, scores, labels}`, boxes xyxy pixels, labels counted from 1 in the order
            of the file's categories; other labels are dropped.
        plus_one: whether a side counts one pixel more, as in GLIP's published numbers.
    """
    ids = [category["id"] for category in annotations["categories"]]
    pixel = LEGACY_PIXEL if plus_one else 0
    return [
        {
            "image_id": record["image_id"],
            "category_id": ids[label - 1],
            "bbox": [x1, y1, x2 - x1 + pixel, y2 - y1 + pixel],
            "score": score,
        }
        for record in predictions
        for (x1, y1, x2, y2), score, label in zip(record["boxes"], record["scores"], record["labels"], strict=True)
        if 1 <= label <= len(ids)
    ]


def coco_metrics(annotations: Mapping[str, Any], results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The twelve COCO numbers.

    Args:
        annotations: content of a COCO detection file.
        results: records as `Detections.to_coco` gives them, of all images.

    Returns:
        Fractions in `[0, 1]` by the names in `METRICS`; -1 where undefined, 0 without any result.
    """
    strangers = {record["image_id"] for record in results} - {image["id"] for image in annotations["images"]}
    if strangers:
        raise DataError(f"results: image {min(strangers)} is not in the annotation file")
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ConfigError("COCO's metrics need pycocotools: pip install 'glip-for-everyone[train]'") from error
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        truth = COCO()
        truth.dataset = {**annotations, "annotations": [dict(record) for record in annotations["annotations"]]}
        truth.createIndex()
        if not results:
            return dict.fromkeys(METRICS, 0.0)
        evaluation = COCOeval(truth, truth.loadRes([dict(record) for record in results]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(METRICS, map(float, evaluation.stats), strict=True))
