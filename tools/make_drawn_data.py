"""Write drawn scenes and all their truth, for training GLIPv2's heads and for measuring them.

    python tools/make_drawn_data.py --output runs/drawn [--train 4000] [--dev 400] [--side 128]

OUTPUT/train and OUTPUT/dev get pictures and five files: scenes.json, COCO detection with masks and a description of
each picture (`references` are all that say the same); coloured.json, the same boxes named by colour and shape;
grounding.json, captions whose phrases have boxes, among them questions with their answers behind them, whose box is the
answer's; asked.json, questions alone, and the boxes of what they ask about; and questions.json, one record a question
with its answer, its `kind`, and the answer's `box`, if it has one.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glip.data.describe import Box
from glip.data.drawn_scenes import DEV_SEEDS, PAINTS, SHAPES, TRAIN_SEEDS, DrawnScene, draw_scene
from glip.data.questions import Question
from glip.errors import FileError, GlipError
from glip.files import write_json
from glip.structures.masks import encode_masks

Record = dict[str, Any]
COLOURED = [f"{colour} {name}" for colour in PAINTS for name in SHAPES]


@dataclass
class Content:
    """What a file is made of, until it is written."""

    images: list[Record] = field(default_factory=list)
    annotations: list[Record] = field(default_factory=list)

    def add(self, picture: Record, **fields: Any) -> None:
        """One more image record; annotations that follow are its own."""
        self.images.append({"id": len(self.images) + 1, **picture, **fields})

    def annotate(self, box: Box, **fields: Any) -> None:
        """One more annotation of the newest image record; `box` is xyxy pixels."""
        x1, y1, x2, y2 = box
        self.annotations.append(
            {
                "id": len(self.annotations) + 1,
                "image_id": len(self.images),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "iscrowd": 0,
                **fields,
            }
        )

    def write(self, path: Path, names: Sequence[str] = ()) -> None:
        """Write COCO JSON; categories count from 1 in the order of their names."""
        categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
        write_json(path, {"images": self.images, "annotations": self.annotations, "categories": categories})


def answered(question: Question) -> str:
    """A question with its answer behind it, as one caption."""
    return f"{question.text} {question.answer}"


def write_scenes(folder: Path, seeds: Iterable[int], *, side: int) -> None:
    """Write pictures, scenes.json, coloured.json, grounding.json, asked.json and questions.json.

    Args:
        folder: a new folder.
        seeds: one a scene.
        side: of the square pictures, in pixels.

    Raises:
        FileError: the folder exists.
        ShapeError: the side is less than 64 pixels.
    """
    if folder.exists():
        raise FileError(f"{folder}: exists already; give a new folder")
    (folder / "pictures").mkdir(parents=True)
    scenes, coloured, grounding, questions, about = (Content() for _ in range(5))
    for seed in seeds:
        scene = draw_scene(seed, side=side)
        name = f"pictures/{seed}.png"
        scene.image.save(folder / name)
        picture = {"file_name": name, "width": side, "height": side}
        _add_things(scenes, picture, scene)
        coloured.add(picture)
        for thing in scene.things:
            coloured.annotate(thing.box, category_id=1 + COLOURED.index(thing.called))
        _add_captions(grounding, picture, scene)
        for asked in scene.questions:
            truth = {"question": asked.text, "answers": [asked.answer], "kind": asked.kind, "box": asked.box}
            questions.add(picture, **truth)
            about.add(picture, caption=asked.text)
            for box in asked.about:
                about.annotate(box, tokens_positive=[list(asked.span)])
    scenes.write(folder / "scenes.json", list(SHAPES))
    coloured.write(folder / "coloured.json", COLOURED)
    grounding.write(folder / "grounding.json")
    about.write(folder / "asked.json")
    questions.write(folder / "questions.json")


def _add_things(scenes: Content, picture: Record, scene: DrawnScene) -> None:
    scenes.add(picture, description=scene.caption.caption, references=list(scene.caption.references))
    names = list(SHAPES)
    for thing, mask, pixels in zip(scene.things, encode_masks(scene.masks), scene.masks, strict=True):
        category = 1 + names.index(thing.name)
        scenes.annotate(thing.box, category_id=category, segmentation=mask, area=int(pixels.sum()))


def _add_captions(grounding: Content, picture: Record, scene: DrawnScene) -> None:
    for sentence in scene.sentences:
        grounding.add(picture, caption=sentence.caption)
        for thing in sentence.objects:
            grounding.annotate(thing.box, tokens_positive=[list(span) for span in thing.spans])
    for asked in scene.questions:
        if asked.box is not None:
            caption = answered(asked)
            grounding.add(picture, caption=caption, question_kind=asked.kind)
            grounding.annotate(asked.box, tokens_positive=[[len(caption) - len(asked.answer), len(caption)]])


def main() -> int:
    """Write both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--train", type=int, default=4000, help="scenes to train on")
    parser.add_argument("--dev", type=int, default=400, help="scenes to measure on")
    parser.add_argument("--side", type=int, default=128, help="of a picture, in pixels")
    arguments = parser.parse_args()
    try:
        for part, seeds in (("train", TRAIN_SEEDS[: arguments.train]), ("dev", DEV_SEEDS[: arguments.dev])):
            write_scenes(arguments.output / part, seeds, side=arguments.side)
            counts = {
                file.stem: len(json.loads(file.read_text())["images"])
                for file in sorted((arguments.output / part).glob("*.json"))
            }
            sys.stdout.write(f"{part}: {counts}\n")
    except GlipError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
