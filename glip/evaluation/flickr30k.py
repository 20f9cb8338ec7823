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

from glip.errors import DataError, FileError
from glip.evaluation.benchmark import Key, Record
from glip.evaluation.grounding import GroundingBenchmark, TruePhrase, TrueSentence

_PHRASE = re.compile(r"\[/EN#(\d+)/(\S+) ([^\]]*)\]")


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
    folder = Path(root)
    if not (folder / f"{split}.txt").is_file() and (folder / "flickr30k").is_dir():
        folder = folder / "flickr30k"
    sentences: dict[Key, TrueSentence] = {}
    for image in _read_text(folder / f"{split}.txt").split():
        boxes = _read_boxes(folder / "Annotations" / f"{image}.xml")
        for number, line in enumerate(_read_text(folder / "Sentences" / f"{image}.txt").splitlines()):
            sentences[int(image), number] = _sentence(f"{image}.jpg", line, boxes)
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

    def truth(self) -> dict[Key, TrueSentence]:
        """The sentences by image id and number."""
        return super().truth() if self.annotations.is_file() else read_entities(self.annotations, self.split)


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
            corners = torch.tensor(boxes[entity], dtype=torch.float32)
            phrases.append(TruePhrase(text, (span,), corners, tuple(kinds.split("/")), entity))
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
        except ValueError as error:
            raise DataError(f"{path}: a bndbox needs numbers xmin, ymin, xmax and ymax, got {values}") from error
        for name in thing.iter("name"):
            boxes[str(name.text)].append(box)
    return dict(boxes)


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise FileError(f"{path}: no such file; give the folder of Flickr30k Entities")
    return path.read_text(encoding="utf-8")
