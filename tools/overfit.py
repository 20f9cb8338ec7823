"""Learn a few photos by heart, from a random head: is the whole way from your boxes to found boxes right?

    python tools/overfit.py ../shared/data/voc2012_sample/train.json --output runs/overfit [--count 8] [--steps 300]

Takes the first photos that have boxes and trains glip-nano's trunk with a new, random head on them, without any
augmentation. It should find nearly all of its own boxes: an AP50 below 0.95 says that boxes, names or pictures do not
belong together, or that there are more boxes than so few steps can learn.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glip.engine.config import TrainConfig
from glip.engine.trainer import Trainer
from glip.evaluation.benchmark import Vocabulary
from glip.evaluation.coco import CocoJsonBenchmark
from glip.files import check_target
from glip.models.alignment_head import AlignmentHead
from glip.predictor import Predictor


def take(annotations: Path, images: Path, count: int, target: Path) -> None:
    """Write the first `count` photos that have boxes, and their classes, as a file of their own."""
    content = json.loads(annotations.read_text())
    with_boxes = {annotation["image_id"] for annotation in content["annotations"]}
    photos = [image for image in content["images"] if image["id"] in with_boxes][:count]
    for photo in photos:
        photo["file_name"] = str((images / photo["file_name"]).resolve())
    ids = {photo["id"] for photo in photos}
    boxes = [annotation for annotation in content["annotations"] if annotation["image_id"] in ids]
    named = {annotation["category_id"] for annotation in boxes}
    categories = [category for category in content["categories"] if category["id"] in named]
    target.write_text(json.dumps({"images": photos, "annotations": boxes, "categories": categories}))


def save_start(folder: Path, side: int) -> None:
    """glip-nano with a random head, for pictures of this short side."""
    torch.manual_seed(0)
    shipped = Predictor.from_pretrained()
    channels, words = shipped.model.config.channels, shipped.model.text_encoder.dim
    config = shipped.model.config
    shipped.model.head = AlignmentHead(channels, words, num_levels=len(config.strides), box_bins=config.box_bins)
    shipped.model.save_pretrained(folder)
    shipped.processor.image_processor.short_side = side
    shipped.processor.save_pretrained(folder)


def settings(folder: Path, steps: int, side: int) -> TrainConfig:
    """Large steps, and every photo in every batch as it is."""
    photos = len(json.loads((folder / "photos.json").read_text())["images"])
    return TrainConfig.model_validate(
        {
            "start": folder / "start",
            "output": folder / "run",
            "sources": [{"annotations": folder / "photos.json", "kind": "detection"}],
            "steps": steps,
            "batch_size": photos,
            "workers": 0,
            "ema_decay": 0.9,
            "optimizer": {"learning_rate": 1e-3, "backbone_factor": 0.1, "clip_norm": 5.0},
            "schedule": {"warmup_steps": 10},
            "losses": {"l1": 0.5},  # GIoU alone says little of a box that is far too large
            "augmentation": {"short_sides": [side], "max_side": 2 * side, "flip": 0.0, "crop": 0.0, "colour": 0.0},
            "captions": {"max_names": 40, "full_share": 1.0, "article_share": 0.0},
            "save_every": 50,
        }
    )


def measure(folder: Path) -> float:
    """AP50 of the trained model on its own photos."""
    model = Predictor.from_pretrained(folder / "run" / "model")
    benchmark = CocoJsonBenchmark(annotations=folder / "photos.json")
    answers = []
    for question in benchmark.questions():
        assert isinstance(question.words, Vocabulary)
        found = model.detect(question.image, question.words.labels, threshold=0.0)
        answers.append(benchmark.answer(question, found))
    return float(benchmark.score(answers)["AP50"])


def main() -> None:
    """Take the photos, train, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path, help="COCO detection JSON")
    parser.add_argument("--images", type=Path, help="folder of the photos; the file's own if left out")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--side", type=int, default=224, help="short side of the pictures, pixels")
    arguments = parser.parse_args()
    check_target(arguments.output, overwrite=False)
    arguments.output.mkdir(parents=True)
    images = arguments.images or arguments.annotations.parent
    take(arguments.annotations, images, arguments.count, arguments.output / "photos.json")
    save_start(arguments.output / "start", arguments.side)
    Trainer(settings(arguments.output, arguments.steps, arguments.side)).train()
    sys.stdout.write(f"AP50 on its own photos: {measure(arguments.output):.3f}\n")


if __name__ == "__main__":
    main()
