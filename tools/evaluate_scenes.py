"""Composed dev scenes: names that were trained beside names that never were, and phrases that differ in one word.

    python tools/evaluate_scenes.py --cutouts ASSETS [--model glip-nano] [--scenes 400] [--pairs 80]

Scenes: AP50 of all names of 400 scenes with trained names, and of 400 with the names and backgrounds that
configs/words/held_out.yaml keeps from training; of boxes, and of masks if the model has a mask head. Pairs: of two
boxes, does the higher score go to the one that the phrase means (glip/data/compositional.py); every phrase is asked.
Beside it the same for a model that sees no words (every phrase reads "the thing") and one that sees no picture (a grey
one); chance is one half.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image

from glip.data.compose import CutOut, compose_scene, read_backgrounds, read_cutouts
from glip.data.compositional import KINDS, Pair, compose_pair
from glip.errors import GlipError
from glip.evaluation.coco import Shape, coco_metrics
from glip.predictor import Predictor
from glip.structures.boxes import pairwise_iou
from glip.structures.masks import encode_masks
from glip.text.prompts import prompt_from_expression
from glip.weights.folder import DEFAULT_MODEL

SCENE_SEED, PAIR_SEED = 700_000_000, 800_000_000  # far from the training scenes'
DISTRACTORS = 10  # names in a scene's prompt that are not in it
SAME_BOX = 0.5  # IoU
GREY = (124, 116, 104)
Record = dict[str, Any]
Ask = Callable[[Pair], tuple[Image.Image, tuple[str, str]]]

BLINDFOLDS: dict[str, Ask] = {
    "model": lambda pair: (pair.image, pair.phrases),
    "no words": lambda pair: (pair.image, ("the thing", "the thing")),
    "no picture": lambda pair: (Image.new("RGB", pair.image.size, GREY), pair.phrases),
}


def scene_metrics(
    predictor: Predictor, cutouts: Sequence[CutOut], backgrounds: Sequence[Path], count: int, seed: int
) -> Record:
    """COCO metrics of names in composed scenes; each prompt holds a scene's names and some others."""
    has_masks = "masks" in predictor.model.config.heads
    find = predictor.segment if has_masks else predictor.detect
    names = sorted({cutout.name for cutout in cutouts})
    ids = {name: index + 1 for index, name in enumerate(names)}
    images: list[Record] = []
    truths: list[Record] = []
    results: list[Record] = []
    for index in range(count):
        scene = compose_scene(cutouts, backgrounds, seed + index)
        present = sorted({thing.name for thing in scene.things})
        others = [name for name in names if name not in present]
        prompt = present + random.Random(seed + index).sample(others, min(DISTRACTORS, len(others)))
        images.append({"id": index, "width": scene.image.width, "height": scene.image.height})
        for thing, mask in zip(scene.things, encode_masks(scene.masks), strict=True):
            x1, y1, x2, y2 = thing.box
            bbox = [x1, y1, x2 - x1, y2 - y1]
            truth = {"id": len(truths) + 1, "image_id": index, "category_id": ids[thing.name], "bbox": bbox}
            truths.append({**truth, "area": bbox[2] * bbox[3], "iscrowd": 0, "segmentation": mask})
        found = find(scene.image, prompt, threshold=0.0)
        results += found.to_coco(index, category_ids=[ids[name] for name in prompt])
    categories = [{"id": ids[name], "name": name} for name in names]
    content = {"images": images, "annotations": truths, "categories": categories}
    report = {"scenes": count, "names": len({truth["category_id"] for truth in truths})}
    shapes: tuple[Shape, ...] = ("bbox", "segm") if has_masks else ("bbox",)
    return report | {f"{shape} AP50": coco_metrics(content, results, shape=shape)["AP50"] for shape in shapes}


def pair_metrics(predictor: Predictor, pairs: Sequence[Pair], ask: Ask) -> Record:
    """Share of right answers by kind of word, and of all."""
    right: dict[str, list[float]] = {}
    for pair in pairs:
        image, phrases = ask(pair)
        scores = [box_scores(predictor, image, phrase, pair) for phrase in phrases]
        right.setdefault(pair.kind, []).extend(answers(pair, scores))
    everything = [answer for found in right.values() for answer in found]
    return {"all": sum(everything) / len(everything)} | {kind: sum(found) / len(found) for kind, found in right.items()}


def answers(pair: Pair, scores: Sequence[tuple[float, float]]) -> list[float]:
    """1 for a right answer, 0 for a wrong one, one half for a tie.

    Args:
        pair: what was asked.
        scores: of both boxes, for each phrase.
    """
    if pair.kind == "none":  # the true phrase should score higher than the false one, at the box that both mean
        return [_is_higher(scores[0][0], scores[1][0])]
    return [_is_higher(scores[0][0], scores[0][1]), _is_higher(scores[1][1], scores[1][0])]


def box_scores(predictor: Predictor, image: Image.Image, phrase: str, pair: Pair) -> tuple[float, float]:
    """The highest score that a phrase has at each of the pair's boxes."""
    (found,) = predictor.find([image], [prompt_from_expression(phrase)], expressions=True)
    overlaps = pairwise_iou(found.boxes, torch.tensor(pair.boxes))  # (N, 2)
    best = (found.scores[:, None] * (overlaps >= SAME_BOX)).amax(dim=0) if len(found) else torch.zeros(2)
    return best[0].item(), best[1].item()


def _is_higher(score: float, other: float) -> float:
    return 0.5 if score == other else float(score > other)


def main() -> None:
    """Draw, ask and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cutouts", type=Path, required=True, help="what tools/unpack_cutouts.py wrote")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--scenes", type=int, default=400, help="of each kind")
    parser.add_argument("--pairs", type=int, default=80, help="of each kind of word")
    parser.add_argument("--held-out", type=Path, default=Path("configs/words/held_out.yaml"))
    arguments = parser.parse_args()
    held_out = yaml.safe_load(arguments.held_out.read_text())
    cutouts, backgrounds = read_cutouts(arguments.cutouts), read_backgrounds(arguments.cutouts)
    loaded = Predictor.from_pretrained(arguments.model)
    everything = loaded.processor.post_processor(max_detections=1000)
    predictor = Predictor(loaded.model, loaded.processor, rules=everything)
    report: Record = {}
    for kind, is_new in (("trained names", False), ("held-out names", True)):
        things = [cutout for cutout in cutouts if (cutout.name in held_out["names"]) == is_new]
        places = [back.file for back in backgrounds if (back.name in held_out["backgrounds"]) == is_new]
        report[kind] = scene_metrics(loaded, things, places, arguments.scenes, SCENE_SEED)
        sys.stderr.write(f"{kind}: {report[kind]}\n")
    known = [cutout for cutout in cutouts if cutout.name not in held_out["names"]]
    places = [back.file for back in backgrounds if back.name in held_out["backgrounds"]]
    pairs = [compose_pair(kind, known, places, PAIR_SEED + index) for kind in KINDS for index in range(arguments.pairs)]
    report["pairs"] = len(pairs)
    for name, ask in BLINDFOLDS.items():
        report[f"right answers, {name}"] = pair_metrics(predictor, pairs, ask)
        sys.stderr.write(f"{name}: {report[f'right answers, {name}']}\n")
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except GlipError as error:
        sys.exit(f"error: {error}")
