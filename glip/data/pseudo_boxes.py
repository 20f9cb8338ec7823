"""Pseudo boxes as files that training reads: ODVG, MDETR's grounding JSON, or a TSV data set with captions."""

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from glip.annotations import Record
from glip.data.examples import Example, GroundedObject, PackedPicture
from glip.data.pairs import Pair
from glip.errors import ConfigError
from glip.files import write_json, write_text
from glip.structures.prompt import Span

Box = tuple[float, float, float, float]
TsvVersion = Literal["v1", "v2"]
ENDINGS = (".jsonl", ".json", ".yaml")


@dataclass(frozen=True)
class ScoredPhrase:
    """A phrase of a caption and the boxes that were found for it.

    Attributes:
        spans: where it stands in the caption, half-open character spans.
        boxes: xyxy pixels of the upright picture, best first.
        scores: one for each box, in `[0, 1]`.
    """

    spans: tuple[Span, ...]
    boxes: tuple[Box, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class PseudoExample:
    """A pair and the boxes that a teacher found in it.

    Attributes:
        number: the pair's place among all pairs, from 0.
        pair: picture and caption.
        size: `(height, width)` in pixels.
        phrases: those with boxes, in the caption's order.
    """

    number: int
    pair: Pair
    size: tuple[int, int]
    phrases: tuple[ScoredPhrase, ...]

    def text_of(self, phrase: ScoredPhrase) -> str:
        """The phrase's words."""
        return " ".join(self.pair.caption[start:end] for start, end in phrase.spans)

    def to_example(self) -> Example:
        """For a contact sheet: each box named by its phrase and score."""
        objects = [
            GroundedObject(box, f"{self.text_of(phrase)} {score:.2f}", phrase.spans)
            for phrase in self.phrases
            for box, score in zip(phrase.boxes, phrase.scores, strict=True)
        ]
        return Example(self.pair.image, self.size, tuple(objects), self.pair.caption)


def files_of(output: Path) -> tuple[Path, ...]:
    """What `write_pseudo_boxes` writes for a name.

    Raises:
        ConfigError: its ending says no format.
    """
    if output.suffix not in ENDINGS:
        raise ConfigError(f"{output}: end the name in .jsonl (ODVG), .json (MDETR) or .yaml (a TSV data set)")
    return (output, *_tsv_files(output)) if output.suffix == ".yaml" else (output,)


def check_pictures(output: Path, pairs: Iterable[Pair]) -> None:
    """Refuse a format that cannot name the pictures.

    Raises:
        ConfigError: they lie in a TSV file, and the output is none.
    """
    if output.suffix != ".yaml" and any(isinstance(pair.image, PackedPicture) for pair in pairs):
        raise ConfigError(f"{output}: cannot name pictures that lie in a TSV file; end the name in .yaml")


def write_pseudo_boxes(output: Path, examples: Sequence[PseudoExample], *, tsv_version: TsvVersion = "v2") -> None:
    """Write the format that the name's ending says; each file is whole, or the one from before.

    `.jsonl` is ODVG, a region for each phrase; `.json` is MDETR's; both name pictures as the pairs did. `.yaml` is a
    TSV data set: pictures and labels go into `NAME.img.tsv` and `NAME.label.tsv` beside it.

    Args:
        output: the file.
        examples: what was found.
        tsv_version: "v1" gives each box its own score and spans, "v2" each phrase lists of boxes and scores.

    Raises:
        ConfigError: the ending says no format.
    """
    files_of(output)
    if output.suffix == ".jsonl":
        write_text(output, "".join(_line(_odvg(example)) for example in examples))
    elif output.suffix == ".json":
        write_json(output, _mdetr(examples))
    else:
        pictures, labels = _tsv_files(output)
        _write_pictures(pictures, examples)
        rows = (f"{example.number}\t{_line(_label(example, tsv_version))}" for example in examples)
        write_text(labels, "".join(rows))
        write_text(output, f"img: {json.dumps(pictures.name)}\nlabel: {json.dumps(labels.name)}\n")


def _line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _odvg(example: PseudoExample) -> Record:
    regions = [
        {
            "phrase": example.text_of(phrase),
            "tokens_positive": [list(span) for span in phrase.spans],
            "bbox": [list(box) for box in phrase.boxes],
            "scores": list(phrase.scores),
        }
        for phrase in example.phrases
    ]
    height, width = example.size
    grounding = {"caption": example.pair.caption, "regions": regions}
    return {"filename": example.pair.name, "height": height, "width": width, "grounding": grounding}


def _mdetr(examples: Sequence[PseudoExample]) -> Record:
    images: list[Record] = []
    annotations: list[Record] = []
    for example in examples:
        height, width = example.size
        images.append(
            {
                "id": example.number,
                "file_name": example.pair.name,
                "height": height,
                "width": width,
                "caption": example.pair.caption,
            }
        )
        for phrase in example.phrases:
            for (x1, y1, x2, y2), score in zip(phrase.boxes, phrase.scores, strict=True):
                bbox = [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": example.number,
                        "category_id": 1,
                        "bbox": bbox,
                        "area": round(bbox[2] * bbox[3], 2),
                        "iscrowd": 0,
                        "tokens_positive": [list(span) for span in phrase.spans],
                        "score": score,
                    }
                )
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}


def _label(example: PseudoExample, version: TsvVersion) -> Record:
    height, width = example.size
    columns: list[tuple[Any, Any, list[list[int]]]] = []
    for phrase in example.phrases:
        spans = [list(span) for span in phrase.spans]
        boxes = [list(box) for box in phrase.boxes]
        if version == "v2":
            columns.append((boxes, list(phrase.scores), spans))
        else:
            columns += [(box, score, spans) for box, score in zip(boxes, phrase.scores, strict=True)]
    return {
        "img_h": height,
        "img_w": width,
        "caption": example.pair.caption,
        "bboxes": [boxes for boxes, _, _ in columns],
        "scores": [scores for _, scores, _ in columns],
        "tokens_positive": [spans for _, _, spans in columns],
    }


def _tsv_files(output: Path) -> tuple[Path, Path]:
    return output.with_suffix(".img.tsv"), output.with_suffix(".label.tsv")


def _write_pictures(path: Path, examples: Sequence[PseudoExample]) -> None:
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        for example in examples:
            image = example.pair.image
            packed = image.column() if isinstance(image, PackedPicture) else base64.b64encode(image.read_bytes())
            file.write(f"{example.number}\t".encode() + packed + b"\n")
    unfinished.replace(path)
