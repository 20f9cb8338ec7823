"""Time the evaluators on made-up files of the benchmarks' full size, and their peak memory.

    python tools/benchmark_evaluation.py lvis     # 5,000 images, 300 boxes each, 1,203 categories
    python tools/benchmark_evaluation.py coco     # 5,000 images, 100 boxes each, 80 categories

Half of the boxes are of categories that the image was checked for, and a third lie near a true box.
"""

import argparse
import resource
import time
from typing import Any

import numpy as np

from glip.evaluation.coco import coco_report, coco_results
from glip.evaluation.lvis import FREQUENCIES, score_lvis

SIDE = 640
Record = dict[str, Any]


def make_truth(images: int, categories: int, draw: np.random.Generator) -> Record:
    """About 11 boxes an image, of about 4 categories; 8 more categories were checked for."""
    records, annotations = [], []
    for image in range(images):
        checked = (draw.permutation(categories)[:12] + 1).tolist()
        present = checked[: int(draw.integers(1, 8))]
        records.append(
            {
                "id": image,
                "width": SIDE,
                "height": SIDE,
                "neg_category_ids": checked[len(present) :],
                "not_exhaustive_category_ids": present[:1],
            }
        )
        for _ in range(int(draw.integers(1, 22))):
            width, height = draw.uniform(10, 200, 2)
            x, y = draw.uniform(0, SIDE - 200, 2)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(draw.choice(present)),
                    "bbox": [float(x), float(y), float(width), float(height)],
                    "area": float(width * height),
                    "iscrowd": 0,
                }
            )
    names = [
        {"id": number + 1, "name": f"category {number}", "frequency": FREQUENCIES[number % 3]}
        for number in range(categories)
    ]
    return {"images": records, "annotations": annotations, "categories": names}


def make_predictions(truth: Record, boxes: int, draw: np.random.Generator) -> list[Record]:
    """Boxes of which a third lie near a true one, and half are of checked categories."""
    by_image: dict[int, list[Record]] = {}
    for annotation in truth["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    predictions = []
    for record in truth["images"]:
        true = by_image.get(record["id"], [])
        checked = sorted({a["category_id"] for a in true} | set(record["neg_category_ids"]))
        labels = draw.integers(1, len(truth["categories"]) + 1, boxes)
        labels[: boxes // 2] = draw.choice(checked, boxes // 2)
        corners = np.sort(draw.uniform(0, SIDE, (boxes, 2, 2)), axis=1).reshape(boxes, 4)
        for row in range(boxes // 3 if true else 0):
            near = true[int(draw.integers(len(true)))]
            x, y, width, height = near["bbox"]
            shift = draw.uniform(-0.15, 0.15, 2) * (width, height)
            corners[row] = (x + shift[0], y + shift[1], x + width + shift[0], y + height + shift[1])
            labels[row] = near["category_id"]
        scores = draw.uniform(0.05, 1, boxes)
        predictions.append(
            {
                "image_id": record["id"],
                "boxes": corners.tolist(),
                "scores": scores.tolist(),
                "labels": labels.tolist(),
            }
        )
    return predictions


def main() -> None:
    """Make the files, then score them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=("lvis", "coco"))
    parser.add_argument("--images", type=int, default=5000)
    arguments = parser.parse_args()
    draw = np.random.default_rng(0)
    categories, boxes = (1203, 300) if arguments.benchmark == "lvis" else (80, 100)
    truth = make_truth(arguments.images, categories, draw)
    predictions = make_predictions(truth, boxes, draw)
    before = _peak()
    started = time.perf_counter()
    if arguments.benchmark == "lvis":
        metrics = score_lvis(truth, predictions).metrics
    else:
        metrics = coco_report(truth, coco_results(truth, predictions)).metrics
    seconds = time.perf_counter() - started
    size = f"{arguments.images} images x {boxes} boxes x {categories} categories"
    print(f"{arguments.benchmark}: {size}, AP {metrics['AP']:.4f}")
    print(f"{seconds:.1f} s, peak memory {_peak():.2f} GB ({before:.2f} GB before scoring)")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
