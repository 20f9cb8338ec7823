"""Photos labelled by eye, for things that no data set here has boxes of: parts, clothes, tableware, street furniture.

A label file is JSON Lines, one photo a line: `photo` (below the folder of the data sets), `boxes` ({id: [left, top,
right, bottom]} in thousandths of the photo's width and height), `captions` that name boxes in marks like
"[2,3:two headlights]", and `absent` phrases.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from glip.data.describe import Box
from glip.data.examples import Example, GroundedObject
from glip.errors import DataError, FileError
from glip.images import read_image
from glip.structures.prompt import Span

MARK = re.compile(r"\[(\w+(?:, ?\w+)*):([^\[\]\s](?:[^\[\]]*[^\[\]\s])?)\]")
GRID = 1000  # units of a side
ARTICLE = re.compile(r"(?:an?|the) ")
DETERMINED = re.compile(  # phrases that begin so name no kind of thing
    r"(?:his|her|its|their|one|two|three|four|five|six|seven|eight|nine|ten|several|some|many|few|both|all|another|other|"
    r"each|this|that|these|those|\S+'s?)\b"
)
Place = Annotated[float, Field(ge=0, le=GRID)]
Marks = Sequence[tuple[Span, Sequence[str]]]


class LabelledPhoto(BaseModel, frozen=True, extra="forbid"):
    """A photo, the things in it and what they are called.

    Attributes:
        photo: its file.
        boxes: by id, `(left, top, right, bottom)` in thousandths of its sides.
        captions: with marks.
        absent: phrases for things that are not there.
    """

    photo: Path
    boxes: dict[str, tuple[Place, Place, Place, Place]]
    captions: tuple[str, ...] = Field(min_length=1)
    absent: tuple[str, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, (left, top, right, bottom) in self.boxes.items():
            if not (left < right and top < bottom):
                raise ValueError(f"box {name} must be [left, top, right, bottom], left < right, top < bottom")
        for caption in self.captions:
            text, marks = read_marks(caption)
            if "[" in text or "]" in text:
                raise ValueError(f"a mark must read [ids:words], without spaces around the words, got {caption!r}")
            for (start, end), ids in marks:
                unknown = [name for name in ids if name not in self.boxes]
                if unknown:
                    raise ValueError(f"{text[start:end]!r} is said to be box {unknown[0]}, which is not in boxes")
        return self

    def captioned(self) -> list[Example]:
        """An example for each caption."""
        examples = []
        for text, marks in map(read_marks, self.captions):
            things = tuple(
                GroundedObject(self.pixels(name), text[start:end], ((start, end),))
                for (start, end), ids in marks
                for name in ids
            )
            examples.append(Example(self.photo, self._size, things, caption=text, absent=self.absent))
        return examples

    def listed(self) -> Example:
        """What the captions call the photo's single things, as a list of names."""
        named = [
            (bare, name)
            for text, marks in map(read_marks, self.captions)
            for (start, end), (name, *others) in marks
            if not others and (bare := name_of(text[start:end])) is not None
        ]
        things = tuple(GroundedObject(self.pixels(name), bare) for bare, name in dict.fromkeys(named))
        absent = tuple(bare for phrase in self.absent if (bare := name_of(phrase)) is not None)
        return Example(self.photo, self._size, things, absent=absent)

    def pixels(self, name: str) -> Box:
        """A box `(left, top, right, bottom)` in pixels."""
        left, top, right, bottom = self.boxes[name]
        height, width = (side / GRID for side in self._size)
        return left * width, top * height, right * width, bottom * height

    @cached_property
    def _size(self) -> tuple[int, int]:
        image = read_image(self.photo)
        return image.height, image.width


Photo = TypeVar("Photo", bound=LabelledPhoto)


def read_labels(path: Path, photos: Path) -> list[LabelledPhoto]:
    """All photos of a label file, as `read_records` does."""
    return read_records(path, photos, LabelledPhoto)


def read_records(path: Path, photos: Path, record: type[Photo]) -> list[Photo]:
    """All photos of a label file.

    Args:
        path: the file.
        photos: folder of the data sets.
        record: what a line is.

    Raises:
        FileError: there is no such file.
        DataError: it is empty, or a line is no such record; the message names it.
    """
    if not path.is_file():
        raise FileError(f"{path}: no such file; give a JSON Lines file of labelled photos")
    labelled = [
        _read_line(line, photos, record, f"{path}, line {number}")
        for number, line in _lines(path.read_text(encoding="utf-8"))
    ]
    if not labelled:
        raise DataError(f"{path}: no labelled photo in it; give a file with one JSON record a line")
    return labelled


def _lines(text: str) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip())


def _read_line(line: str, photos: Path, record: type[Photo], where: str) -> Photo:
    try:
        labelled = record.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{where}: {place + ': ' if place else ''}{first['msg']}") from None
    return labelled.model_copy(update={"photo": photos / labelled.photo})


def read_marks(caption: str) -> tuple[str, Marks]:
    """A caption without its marks, and where each marked phrase stands in it, with the ids of its boxes."""
    text, done = "", 0
    marks: list[tuple[Span, Sequence[str]]] = []
    for match in MARK.finditer(caption):
        text += caption[done : match.start()]
        marks.append(((len(text), len(text) + len(match[2])), re.split(", ?", match[1])))
        text += match[2]
        done = match.end()
    return text + caption[done:], marks


def name_of(phrase: str) -> str | None:
    """A phrase as a name in a list, without its article; None where it names no kind of thing ("its head")."""
    lowered = phrase.lower()
    return None if DETERMINED.match(lowered) else lowered[len(found[0]) if (found := ARTICLE.match(lowered)) else 0 :]
