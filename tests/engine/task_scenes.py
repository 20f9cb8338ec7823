"""Drawn scenes as a detection file with everything that heads learn from."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from glip.data.drawn_scenes import DrawnScene, draw_scene
from glip.structures.masks import encode_masks

TASKS = ("things", "questions")
HEADS: dict[str, dict[str, Any]] = {
    "masks": {"channels": 32, "layers": 2},
    "mlm": {},
    "captioning": {"layers": 2, "max_tokens": 24},
    "vqa": {"answers": ["yes", "no", "0", "1", "2", "red", "green", "blue", "star", "ring"], "width": 64, "layers": 1},
    "contrast": {"width": 32},
}


def write_scenes(folder: Path, seeds: Iterable[int], *, side: int = 96, tasks: Sequence[str] = TASKS) -> Path:
    """`scenes.json` and its pictures: each scene once with boxes, masks and a description, and once a question."""
    folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    names: list[str] = []
    for seed in seeds:
        scene = draw_scene(seed, side=side)
        scene.image.save(folder / f"{seed}.png")
        picture = {"file_name": f"{seed}.png", "width": side, "height": side}
        if "things" in tasks:
            images.append({"id": len(images), **picture, "description": scene.caption.caption})
            annotations += _annotations(scene, len(images) - 1, names, first=len(annotations))
        for question in scene.questions if "questions" in tasks else ():
            images.append({"id": len(images), **picture, "question": question.text, "answers": [question.answer]})
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    path = folder / "scenes.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def _annotations(scene: DrawnScene, image: int, names: list[str], *, first: int) -> list[dict[str, Any]]:
    """The scene's things; `names` gets those that it lacks."""
    found = []
    for number, (thing, mask) in enumerate(zip(scene.things, encode_masks(scene.masks), strict=True)):
        if thing.name not in names:
            names.append(thing.name)
        x1, y1, x2, y2 = thing.box
        found.append(
            {
                "id": first + number,
                "image_id": image,
                "category_id": names.index(thing.name) + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "segmentation": mask,
            }
        )
    return found
