"""Phrase localisation on Flickr30k Entities (Plummer et al. 2015), from its own files or from MDETR's JSON.

A phrase is evaluated if its entity has a box.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

import torch

from glip.annotations import is_number
from glip.errors import DataError, FileError
from glip.evaluation.benchmark import Key, Record
from glip.evaluation.grounding import GroundingBenchmark, TruePhrase, TrueSentence

_PHRASE = re.compile(r"\[/EN#([^/\s\]]+)((?:/[^\s\]]*)?) ([^\]]*)\]")


def read_entities(root: str | Path, split: str) -> dict[Key, TrueSentence]:
    """The evaluated phrases of every sentence of a split.

    Args:
        root: folder with `SPLIT.txt`, `Annotations/` and `Sentences/`, or the folder above it.
        split: "val" or "test".

    Returns:
        Sentences by (image id, number of the sentence); one without an evaluated phrase has none.

    Raises:
        FileError: a file is missing.
        DataError: an annotation cannot be read.
    """
    folder = _folder(Path(root), split)
    sentences: dict[Key, TrueSentence] = {}
    for image in _read_text(folder / f"{split}.txt").split():
        boxes = _read_boxes(folder / "Annotations" / f"{image}.xml")
        lines = [line for line in _read_text(folder / "Sentences" / f"{image}.txt").split("\n") if line.strip()]
        for number, line in enumerate(lines):
            sentences[_number(folder / f"{split}.txt", image), number] = _sentence(f"{image}.jpg", line, boxes)
    return sentences


@dataclass(frozen=True, kw_only=True)
class Flickr30kBenchmark(GroundingBenchmark):
    """A split of Flickr30k Entities.

    Attributes:
        annotations: the folder of Flickr30k Entities, or MDETR's JSON file of the split.
        split: "val" or "test"; a JSON file has one split only.
    """

    name: ClassVar[str] = "flickr30k"
    key_fields: ClassVar[tuple[str, ...]] = ("image_id", "sentence_id")
    fields: ClassVar[tuple[str, ...]] = ("image_id", "sentence_id", "phrases")
    truth_keys: ClassVar[tuple[str, ...]] = ("original_img_id", "sentence_id")

    split: str = "test"

    def settings(self) -> Record:
        """The place, the split and the protocol."""
        return {**super().settings(), "split": self.split}

    def _read_truth(self) -> dict[Key, TrueSentence]:
        return super()._read_truth() if self.annotations.is_file() else read_entities(self.annotations, self.split)

    def _files(self) -> list[Path]:
        if self.annotations.is_file():
            return [self.annotations]
        folder = _folder(self.annotations, self.split)
        images = _read_text(folder / f"{self.split}.txt").split()
        parts = [
            folder / part / f"{image}{end}"
            for image in images
            for part, end in (("Annotations", ".xml"), ("Sentences", ".txt"))
        ]
        return [folder / f"{self.split}.txt", *parts]


def _folder(root: Path, split: str) -> Path:
    """Where the files are: in the folder given, or in `flickr30k` inside it."""
    inside = root / "flickr30k"
    return inside if not (root / f"{split}.txt").is_file() and inside.is_dir() else root


def _number(path: Path, image: str) -> int:
    if not image.isdecimal():
        raise DataError(f"{path}: expected image ids, whole numbers, got {image[:40]!r}")
    return int(image)


def _sentence(image: str, line: str, boxes: dict[str, list[list[float]]]) -> TrueSentence:
    """A line with its markup taken out; phrases of entities with boxes keep their places."""
    caption, phrases, done = "", [], 0
    for match in _PHRASE.finditer(line):
        entity, kinds, text = match.groups()
        caption += line[done : match.start()]
        span = (len(caption), len(caption) + len(text))
        caption += text
        done = match.end()
        if entity in boxes:
            corners = torch.tensor(boxes[entity], dtype=torch.float64)
            types = tuple(kind for kind in kinds.split("/") if kind)
            phrases.append(TruePhrase(text, (span,), corners, types, entity))
    return TrueSentence(image, caption + line[done:], tuple(phrases))


def _read_boxes(path: Path) -> dict[str, list[list[float]]]:
    """Boxes of each entity; one object may belong to several entities, and some have none."""
    try:
        root = ElementTree.fromstring(_read_text(path))
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: not valid XML ({error})") from error
    boxes = defaultdict(list)
    for thing in root.iter("object"):
        corners = thing.find("bndbox")
        if corners is None:
            continue
        values = [corners.findtext(name) for name in ("xmin", "ymin", "xmax", "ymax")]
        try:
            box = [float(str(value)) for value in values]
        except ValueError:
            box = []
        if len(box) != 4 or not all(is_number(edge) for edge in box):
            raise DataError(f"{path}: a bndbox needs numbers xmin, ymin, xmax and ymax, got {values}")
        for name in thing.iter("name"):
            boxes[str(name.text)].append(box)
    return dict(boxes)


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise FileError(f"{path}: no such file; give the folder of Flickr30k Entities")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: it is no UTF-8 text") from error
