"""Make a second phrase-grounding dev set, beside realground, of photos that were labelled by eye.

    python tools/make_labelled_dev.py configs/labels/dev.jsonl --photos ../shared/data --output runs/dev_data
    python tools/evaluate_dev.py --data runs/dev_data --sets labelled

OUTPUT/labelled/dev.json has realground's form. Its photos are in no train file, and none is in realground: a second set
to choose thresholds and rules on.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glip.annotations import to_bbox
from glip.errors import FileError, GlipError
from glip.files import write_json
from tools.nano_labels import LabelledPhoto, read_marks, read_records

Kind = Literal["plain", "synonym_hypernym", "beyond_coco"]
Record = dict[str, Any]


class DevPhoto(LabelledPhoto, frozen=True, extra="forbid"):
    """A photo whose phrases are measured.

    Attributes:
        kinds: of each marked phrase, what its head noun is: the name of a class of COCO, another or a wider word for
            one, or neither.
        referring: expressions that mean one box each, with its id.
    """

    kinds: dict[str, Kind]
    referring: tuple[tuple[str, str], ...]

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        marked = {text[start:end] for text, marks in map(read_marks, self.captions) for (start, end), _ in marks}
        for phrase in sorted(marked - self.kinds.keys()):
            raise ValueError(f"{phrase!r} is not in kinds; say what its head noun is")
        for phrase in sorted(self.kinds.keys() - marked):
            raise ValueError(f"{phrase!r} is in kinds, but marked in no caption; mark it, or take it out")
        for expression, name in self.referring:
            if name not in self.boxes:
                raise ValueError(f"{expression!r} is said to be box {name}, which is not in boxes")
        return self


def as_realground(photos: list[DevPhoto]) -> Record:
    """Photos as a dev.json of realground's form; boxes are `[x, y, width, height]` in pixels."""
    content: Record = {"images": [], "annotations": [], "referring": [], "absent": []}
    for photo in photos:
        image = str(photo.photo.resolve())
        for caption, example in zip(photo.captions, photo.captioned(), strict=True):
            number = len(content["images"]) + 1
            height, width = example.size
            content["images"].append(
                {"id": number, "file_name": image, "height": height, "width": width, "caption": read_marks(caption)[0]}
            )
            content["annotations"] += [
                {
                    "image_id": number,
                    "bbox": to_bbox(thing.box),
                    "phrase": thing.name,
                    "tokens_positive": [list(span) for span in thing.spans],
                    "head_type": photo.kinds[thing.name],
                }
                for thing in example.objects
            ]
        content["referring"] += [
            {"image": image, "expression": expression, "bbox": to_bbox(photo.pixels(name))}
            for expression, name in photo.referring
        ]
        content["absent"].append({"image": image, "phrases": list(photo.absent)})
    return content


def main() -> None:
    """Read, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path, help="JSON Lines, a photo a line")
    parser.add_argument("--photos", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    arguments = parser.parse_args()
    if arguments.output.exists():
        raise FileError(f"{arguments.output}: exists already; give a new folder")
    content = as_realground(read_records(arguments.labels, arguments.photos, DevPhoto))
    (arguments.output / "labelled").mkdir(parents=True)
    write_json(arguments.output / "labelled" / "dev.json", content)
    counts = {name: len(records) for name, records in content.items()}
    sys.stdout.write(json.dumps(counts) + "\n")


if __name__ == "__main__":
    try:
        main()
    except GlipError as error:
        sys.exit(f"error: {error}")
