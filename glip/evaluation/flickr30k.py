"""Phrase localisation on Flickr30k Entities (Plummer et al. 2015): sentences, entities, protocols.

A phrase is evaluated if its entity has a box. "any-box" (GLIP's numbers): one box of the entity is enough;
"merged-box": the one box round all of them must be met.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import torch
from torch import Tensor

from glip.errors import DataError, FileError
from glip.evaluation.recall import Query, RecallReport, count_hits

Protocol = Literal["any-box", "merged-box"]
SentenceKey = tuple[int, int]
"""(image id, number of the sentence)."""

_PHRASE = re.compile(r"\[/EN#(\d+)/(\S+) ([^\]]*)\]")


@dataclass(frozen=True, eq=False)
class EntityPhrase:
    """A phrase of a sentence.

    Attributes:
        text: the words.
        entity: its entity's id.
        kinds: the entity's types, such as "people"; several are possible.
        boxes: `(M, 4)` xyxy pixels of the entity.
    """

    text: str
    entity: str
    kinds: tuple[str, ...]
    boxes: Tensor


def read_entities(root: str | Path, split: str) -> dict[SentenceKey, list[EntityPhrase]]:
    """The evaluated phrases of every sentence of a split.

    Args:
        root: folder with `SPLIT.txt`, `Annotations/` and `Sentences/`, or the folder above it.
        split: "val" or "test".

    Returns:
        Phrases in sentence order; a sentence without any has an empty list.

    Raises:
        FileError: a file is missing.
        DataError: an annotation cannot be read.
    """
    folder = Path(root)
    if not (folder / f"{split}.txt").is_file() and (folder / "flickr30k").is_dir():
        folder = folder / "flickr30k"
    sentences = {}
    for image in _read_text(folder / f"{split}.txt").split():
        boxes = _read_boxes(folder / "Annotations" / f"{image}.xml")
        for number, line in enumerate(_read_text(folder / "Sentences" / f"{image}.txt").splitlines()):
            sentences[int(image), number] = [
                EntityPhrase(text, entity, tuple(kinds.split("/")), torch.tensor(boxes[entity], dtype=torch.float32))
                for entity, kinds, text in _PHRASE.findall(line)
                if entity in boxes
            ]
    return sentences


def score_flickr30k(
    sentences: Mapping[SentenceKey, Sequence[EntityPhrase]],
    predictions: Iterable[Mapping[str, Any]],
    *,
    protocol: Protocol = "any-box",
) -> RecallReport:
    """Recall@1, 5, 10 and the upper bound, in all and by phrase type.

    Args:
        sentences: the truth, as `read_entities` gives it.
        predictions: records `{image_id, sentence_id, phrases: [{boxes, scores}]}`, boxes xyxy pixels in any order;
            the first record of a sentence counts, later ones are ignored.
        protocol: which boxes of an entity must be met.

    Raises:
        DataError: a sentence is missing, or its phrases are not those of the annotation.
    """
    found: dict[SentenceKey, list[Mapping[str, Any]]] = {}
    for record in predictions:
        found.setdefault((int(record["image_id"]), int(record["sentence_id"])), record["phrases"])
    queries = []
    for key, phrases in sentences.items():
        if key not in found and phrases:
            raise DataError(f"predictions: sentence {key[1]} of image {key[0]} is missing; predict every sentence")
        answers = found.get(key, [])
        if len(answers) != len(phrases):
            raise DataError(
                f"predictions: sentence {key[1]} of image {key[0]} has {len(phrases)} evaluated phrases, "
                f"got {len(answers)}"
            )
        queries += [_query(phrase, answer, protocol) for phrase, answer in zip(phrases, answers, strict=True)]
    return count_hits(queries)


def _query(phrase: EntityPhrase, answer: Mapping[str, Any], protocol: Protocol) -> Query:
    targets = phrase.boxes
    if protocol == "merged-box":
        targets = torch.cat([targets[:, :2].amin(dim=0), targets[:, 2:].amax(dim=0)]).unsqueeze(0)
    boxes = torch.tensor(answer["boxes"], dtype=torch.float32).view(-1, 4)
    return Query(boxes, torch.tensor(answer["scores"], dtype=torch.float32), targets, phrase.kinds)


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
        if any(value is None for value in values):
            raise DataError(f"{path}: a bndbox needs xmin, ymin, xmax and ymax, got {values}")
        for name in thing.iter("name"):
            boxes[str(name.text)].append([float(str(value)) for value in values])
    return dict(boxes)


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise FileError(f"{path}: no such file; give the folder of Flickr30k Entities")
    return path.read_text(encoding="utf-8")
