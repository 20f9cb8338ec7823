"""Numbers of a model on the dev sets of ../shared/data, as JSON.

    python tools/evaluate_dev.py --data ../shared/data [--model glip-nano] [--sets realground coco ...]

realground, and the set that tools/make_labelled_dev.py makes: recall@1 of its phrases, of the same phrases shuffled
between pictures, referring precision@1, and how many absent and present phrases get a box at the model's own threshold.
The other sets: COCO metrics of all their classes.
"""

import argparse
import json
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from glip.detection.postprocess import Aggregation
from glip.errors import GlipError
from glip.evaluation.coco import coco_metrics
from glip.evaluation.recall import IOU_THRESHOLD, is_hit, recall_at
from glip.predictor import Predictor
from glip.processing import GlipProcessor
from glip.structures.boxes import pairwise_iou, xywh_to_xyxy
from glip.structures.detections import Detections
from glip.weights.folder import DEFAULT_MODEL

Record = dict[str, Any]
MOST_ABSENT = 0.15  # share of absent phrases that may have a box
PHRASE_SETS = ("realground", "labelled")  # as folders of the data are called
COCO_SETS = ("coco_train128", "coco_mini_captions", "coco_tiny80")


class Grounder(Protocol):
    """What answers: a `Predictor`, or something to compare it with."""

    processor: GlipProcessor

    def ground(self, image: Path, caption: str, phrases: Sequence[tuple[int, int]], *, threshold: float) -> Detections:
        """Boxes of the phrases at these places of a caption."""

    def refer(self, image: Path, expression: str) -> Detections:
        """The one box that an expression means."""

    def detect(self, image: Path, phrases: Sequence[str], *, threshold: float) -> Detections:
        """Boxes of each phrase."""


@dataclass(frozen=True)
class Asked:
    """A phrase of a caption.

    Attributes:
        text: the phrase.
        span: where it stands in the caption.
        boxes: `(N, 4)` xyxy pixels; the best answer should be one of them.
        kind: of its head noun.
        modifiers: what else it says: "attribute", "relation"; "no modifier"; empty where the set doesn't say.
    """

    text: str
    span: tuple[int, int]
    boxes: torch.Tensor
    kind: str
    modifiers: tuple[str, ...]


Pairs = list[tuple[Record, list[Asked]]]


def _modifiers(annotation: Record) -> tuple[str, ...]:
    if "modifiers" not in annotation:
        return ()
    return tuple(annotation["modifiers"]) or ("no modifier",)


class RealGround:
    """A phrase-grounding dev set in realground's form."""

    def __init__(self, folder: Path, predictor: Grounder) -> None:
        self.images = folder / "dev_images"
        self.content = json.loads((folder / "dev.json").read_text())
        self.predictor = predictor

    def metrics(self) -> Record:
        """All numbers of the set."""
        pairs = self._pairs()
        hits, right_scores = self._ground(pairs)
        asked = [phrase for _, phrases in pairs for phrase in phrases]
        absent_scores = self._absent_scores()
        photos = self.photos()
        threshold = self.predictor.processor.threshold
        shuffled, _ = self._ground(self._shuffled(pairs))
        return {
            "phrases": len(hits),
            "recall@1": recall_at(hits),
            "recall@1, 95 % interval over photos": interval(hits, photos),
            "recall@1 of shuffled phrases": recall_at(shuffled),
            **{
                f"recall@1 {kind}": recall_at(
                    [hit for hit, phrase in zip(hits, asked, strict=True) if kind in (phrase.kind, *phrase.modifiers)]
                )
                for kind in sorted({kind for phrase in asked for kind in (phrase.kind, *phrase.modifiers)})
            },
            "referring precision@1": self._referring(),
            "present phrases with a right box at the threshold": _share(right_scores, threshold),
            "absent phrases with a box at the threshold": _share(absent_scores, threshold),
            "threshold": threshold,
            f"present phrases where {MOST_ABSENT:.0%} of the absent have a box": _share(
                right_scores, threshold_of(absent_scores)
            ),
            "present, absent by threshold": {
                f"{level / 20:.2f}": (_share(right_scores, level / 20), _share(absent_scores, level / 20))
                for level in range(1, 16)
            },
        }

    def hits(self) -> list[bool]:
        """Whether the best box of each phrase is right."""
        return self._ground(self._pairs())[0]

    def photos(self) -> list[str]:
        """The photo of each phrase."""
        return [record["file_name"] for record, phrases in self._pairs() for _ in phrases]

    def _pairs(self) -> Pairs:
        return [(record, phrases) for record in self.content["images"] if (phrases := self._phrases(record))]

    def _phrases(self, record: Record) -> list[Asked]:
        """The phrases of a caption that have boxes."""
        phrases: dict[tuple[int, int], list[Record]] = {}
        for annotation in self.content["annotations"]:
            if annotation["image_id"] == record["id"]:
                phrases.setdefault(tuple(annotation["tokens_positive"][0]), []).append(annotation)
        return [
            Asked(
                found[0]["phrase"],
                span,
                xywh_to_xyxy(torch.tensor([a["bbox"] for a in found]).float()),
                found[0]["head_type"],
                _modifiers(found[0]),
            )
            for span, found in sorted(phrases.items())
        ]

    def _ground(self, pairs: Pairs) -> tuple[list[bool], list[float]]:
        """Of each phrase whether its best box is right, and the best score of a right one."""
        hits, right_scores = [], []
        for record, phrases in pairs:
            image = self.images / record["file_name"]
            found = self.predictor.ground(image, record["caption"], [phrase.span for phrase in phrases], threshold=0.0)
            for label, phrase in enumerate(phrases):
                mine = found[found.labels == label]
                hits.append(is_hit(mine.boxes, phrase.boxes, k=1))
                is_right = (pairwise_iou(mine.boxes, phrase.boxes) >= IOU_THRESHOLD).any(dim=1)
                right_scores.append(max(mine.scores[is_right].tolist(), default=0.0))
        return hits, right_scores

    def _shuffled(self, pairs: Pairs) -> Pairs:
        """Each picture with the caption of another one; the boxes stay, phrase by phrase."""
        draw = random.Random(0)
        others = [record for record, _ in pairs]
        shuffled = []
        for record, phrases in pairs:
            choices = [other for other in others if other["file_name"] != record["file_name"]]
            other = draw.choice(choices)
            foreign = self._phrases(other)
            mixed = [replace(draw.choice(foreign), boxes=phrase.boxes, kind=phrase.kind) for phrase in phrases]
            shuffled.append(({**record, "caption": other["caption"]}, mixed))
        return shuffled

    def _referring(self) -> float:
        hits = []
        for record in self.content["referring"]:
            found = self.predictor.refer(self.images / record["image"], record["expression"])
            hits.append(is_hit(found.boxes, xywh_to_xyxy(torch.tensor([record["bbox"]]).float()), k=1))
        return recall_at(hits)

    def _absent_scores(self) -> list[float]:
        """The highest score of each absent phrase."""
        scores = []
        for record in self.content["absent"]:
            found = self.predictor.detect(self.images / record["image"], record["phrases"], threshold=0.0)
            scores += [
                max(found.scores[found.labels == label].tolist(), default=0.0)
                for label in range(len(record["phrases"]))
            ]
        return scores


def everything_of(predictor: Predictor) -> Predictor:
    """The same with many more answers: no score is too low, and the best 3,000 boxes are ranked."""
    rules = predictor.processor.post_processor(candidate_threshold=0.0, max_detections=3000)
    return Predictor(predictor.model, predictor.processor, rules=rules)


def threshold_of(absent_scores: list[float]) -> float:
    """The lowest threshold at which at most `MOST_ABSENT` of the absent phrases have a box."""
    scores = sorted(absent_scores, reverse=True)
    return math.nextafter(scores[int(MOST_ABSENT * len(scores))], math.inf)


def _share(scores: list[float], threshold: float) -> float:
    return sum(score >= threshold for score in scores) / len(scores)


def interval(hits: list[bool], photos: list[str], *, draws: int = 2000) -> tuple[float, float]:
    """The middle 95 % of the recall when photos are drawn again with replacement (bootstrap)."""
    by_photo: dict[str, list[bool]] = {}
    for hit, photo in zip(hits, photos, strict=True):
        by_photo.setdefault(photo, []).append(hit)
    groups = list(by_photo.values())
    draw = random.Random(0)
    recalls = sorted(recall_at([hit for _ in groups for hit in draw.choice(groups)]) for _ in range(draws))
    return recalls[round(0.025 * draws)], recalls[round(0.975 * draws) - 1]


def detect_all(folder: Path, predictor: Predictor) -> tuple[Record, list[Record]]:
    """Content of a set's dev.json and COCO results of all its pictures with all its classes."""
    content = json.loads((folder / "dev.json").read_text())
    categories = sorted(content["categories"], key=lambda category: category["id"])
    results = []
    for record in content["images"]:
        found: Detections = predictor.detect(
            folder / record["file_name"], [category["name"] for category in categories], threshold=0.0
        )
        results += found.to_coco(record["id"], category_ids=[category["id"] for category in categories])
    return content, results


def pooled(parts: list[tuple[Record, list[Record]]]) -> tuple[Record, list[Record]]:
    """Several sets of the same categories as one."""
    step = 1_000_000
    images, annotations, results = [], [], []
    for part, (content, found) in enumerate(parts):
        shift = step * part
        images += [{**record, "id": record["id"] + shift} for record in content["images"]]
        annotations += [{**a, "id": a["id"] + shift, "image_id": a["image_id"] + shift} for a in content["annotations"]]
        results += [{**record, "image_id": record["image_id"] + shift} for record in found]
    return {"images": images, "annotations": annotations, "categories": parts[0][0]["categories"]}, results


def aggregation(text: str) -> Aggregation:
    """What stands behind --aggregation."""
    return "mean" if text == "mean" else "max" if text == "max" else float(text)


def main() -> int:
    """Evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--sets", nargs="*", default=None, help="folders of the data; all that have boxes if left out")
    parser.add_argument("--aggregation", type=aggregation, help="mean, max, or a power; the model's if left out")
    parser.add_argument("--competition", type=float, help="between phrases of a caption; the model's if left out")
    parser.add_argument("--length-gain", type=float, help="of phrases of many tokens; the model's if left out")
    arguments = parser.parse_args()
    try:
        predictor = Predictor.from_pretrained(arguments.model)
        asked = {name: getattr(arguments, name) for name in ("aggregation", "competition", "length_gain")}
        predictor.processor.rules |= {name: value for name, value in asked.items() if value is not None}
        predictor.rules = predictor.processor.post_processor()
    except GlipError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    names = arguments.sets or sorted(folder.parent.name for folder in arguments.data.glob("*/dev.json"))
    report: Record = {}
    coco_parts = []
    for name in names:
        folder = arguments.data / name
        if name in PHRASE_SETS:
            report[name] = RealGround(folder, everything_of(predictor)).metrics()
        elif not name.endswith("_nobox"):
            content, results = detect_all(folder, predictor)
            report[name] = coco_metrics(content, results)
            if name in COCO_SETS:
                coco_parts.append((content, results))
    if len(coco_parts) > 1:
        report["coco pooled"] = coco_metrics(*pooled(coco_parts))
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
