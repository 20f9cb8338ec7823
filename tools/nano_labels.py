"""Photos labelled by eye, for things that no data set here has boxes of: parts, clothes, tableware, street furniture.

A label file is JSON Lines, one photo a line: `photo` (below the folder of the data sets), `boxes` ({id: [left, top,
right, bottom]} in thousandths of the photo's width and height), `captions` that name boxes in marks like
"[2,3:two headlights]", and `absent` phrases.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from glip.data.describe import Box
from glip.data.examples import Example, GroundedObject
from glip.errors import DataError
from glip.images import read_image
from glip.structures.prompt import Span

MARK = re.compile(r"\[([\w, ]+):([^\[\]]+)\]")
GRID = 1000  # units of a side
ARTICLES = ("a ", "an ", "the ", "one ", "some ")


@dataclass(frozen=True)
class Labelled:
    """A photo, the things in it and what they are called.

    Attributes:
        photo: its file.
        boxes: by id, `(left, top, right, bottom)` in thousandths of its sides.
        captions: with marks.
        absent: phrases for things that are not there.
    """

    photo: Path
    boxes: Mapping[str, Sequence[float]]
    captions: Sequence[str]
    absent: Sequence[str]

    @classmethod
    def from_record(cls, record: Mapping[str, Any], photos: Path, where: str) -> Self:
        """Read a line.

        Raises:
            DataError: a mark names no box, or a box is none.
        """
        for name, (left, top, right, bottom) in record["boxes"].items():
            if not (0 <= left < right <= GRID and 0 <= top < bottom <= GRID):
                raise DataError(
                    f"{where}: box {name} must be [left, top, right, bottom] in 0 to {GRID}, left < right, "
                    f"top < bottom, got {[left, top, right, bottom]}"
                )
        for caption in record["captions"]:
            for ids, words in MARK.findall(caption):
                unknown = [name for name in split_ids(ids) if name not in record["boxes"]]
                if unknown:
                    raise DataError(f"{where}: {words!r} is said to be box {unknown[0]}, which is not in boxes")
        return cls(photos / record["photo"], record["boxes"], tuple(record["captions"]), tuple(record["absent"]))

    def examples(self) -> tuple[list[Example], Example]:
        """An example for each caption, and one for the list of everything that they name."""
        image = read_image(self.photo)
        size = (image.height, image.width)
        read = [read_marks(caption) for caption in self.captions]
        captions = [
            Example(
                self.photo,
                size,
                tuple(
                    GroundedObject(self._pixels(name, size), text[start:end], ((start, end),))
                    for (start, end), ids in marks
                    for name in ids
                ),
                caption=text,
                absent=tuple(self.absent),
            )
            for text, marks in read
        ]
        named = {
            (bare(text[start:end]), name): GroundedObject(self._pixels(name, size), bare(text[start:end]))
            for text, marks in read
            for (start, end), ids in marks
            for name in ids
        }
        absent = tuple(bare(phrase) for phrase in self.absent)
        return captions, Example(self.photo, size, tuple(named.values()), absent=absent)

    def _pixels(self, name: str, size: tuple[int, int]) -> Box:
        left, top, right, bottom = self.boxes[name]
        height, width = (side / GRID for side in size)
        return left * width, top * height, right * width, bottom * height


def read_labels(path: Path, photos: Path) -> list[Labelled]:
    """All photos of a label file.

    Raises:
        DataError: a line is no such record; the message names it.
    """
    labelled = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        where = f"{path}, line {number}"
        try:
            labelled.append(Labelled.from_record(json.loads(line), photos, where))
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{where}: expected photo, boxes, captions and absent as JSON, got {error!r}") from error
    return labelled


def examples_of(labelled: Sequence[Labelled]) -> tuple[list[Example], list[Example]]:
    """All captions, and each photo's list of names."""
    both = [photo.examples() for photo in labelled]
    return [caption for captions, _ in both for caption in captions], [names for _, names in both]


def read_marks(caption: str) -> tuple[str, list[tuple[Span, list[str]]]]:
    """A caption without its marks, and where each marked phrase stands in it, with the ids of its boxes."""
    text, marks, done = "", [], 0
    for match in MARK.finditer(caption):
        text += caption[done : match.start()]
        marks.append(((len(text), len(text) + len(match[2])), split_ids(match[1])))
        text += match[2]
        done = match.end()
    return text + caption[done:], marks


def split_ids(ids: str) -> list[str]:
    """The ids in a mark."""
    return [name.strip() for name in ids.split(",")]


def bare(phrase: str) -> str:
    """A phrase without its article, for a list of names."""
    lowered = phrase.lower()
    return next((lowered.removeprefix(article) for article in ARTICLES if lowered.startswith(article)), lowered)
