"""TSV data sets of the official code: pictures, labels and sizes in files of rows, named by a YAML file.

A label row is a list of `{"class", "rect"}` (detection), or an object with a caption and pseudo boxes. In its format v1
each box has a score and spans of its own; in v2 each phrase has spans, and lists of boxes and scores.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glip.annotations import Record, checked_spans, is_number
from glip.data.examples import Example, GroundedObject, PackedPicture
from glip.errors import DataError, FileError
from glip.files import read_yaml

MIN_SCORE = 0.5  # of a pseudo box that is used, as published
BACKGROUND = "__background__"
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class TsvRow:
    """One row of a data set.

    Attributes:
        where: file and number of the label row, for errors.
        key: its first column.
        label: its JSON, whatever it holds.
        picture: of the same number in the file of pictures.
    """

    where: str
    key: str
    label: Any
    picture: PackedPicture


def read_tsv(path: str | Path, *, min_score: float = MIN_SCORE) -> list[Example]:
    """The rows that a data set's YAML file selects.

    The YAML names files beside it: `img` and `label`, and if there are `hw` (sizes), `linelist` (numbers of the rows to
    use, which may repeat) and `labelmap` (all class names, of which the ones that a picture has no box of are absent).

    Args:
        path: the YAML file.
        min_score: least score of a pseudo box of a caption.

    Raises:
        FileError: a file is missing.
        DataError: a row is not of this form; the message names file and row.
    """
    path = Path(path)
    content = _yaml(path)
    folder = path.parent
    classes = _classes(folder / str(content["labelmap"])) if content.get("labelmap") else []
    sizes = dict(_sizes(folder / str(content["hw"]))) if content.get("hw") else {}
    return [
        _example(row.where, row.label, row.picture, sizes.get(row.key), classes, min_score)
        for row in read_tsv_rows(path)
    ]


def read_tsv_rows(path: str | Path) -> Iterator[TsvRow]:
    """The rows that a data set's YAML file selects, as they stand.

    Args:
        path: the YAML file; `img`, `label` and `linelist` in it count.

    Raises:
        FileError: a file is missing.
        DataError: a row has no key and JSON; the message names file and row.
    """
    path = Path(path)
    content = _yaml(path)
    pictures, labels = (path.parent / _name(path, content, key) for key in ("img", "label"))
    offsets = _offsets(pictures)
    label_offsets = _offsets(labels)
    rows = list(range(len(label_offsets)))
    if content.get("linelist"):
        lines = _lines(path.parent / str(content["linelist"]))
        rows = [int(line) for line in lines if line.strip().isdecimal()]
    with labels.open("rb") as file:
        for row in rows:
            where = f"{labels}: row {row}"
            if not (row < len(label_offsets) and row < len(offsets)):
                raise DataError(f"{where}: there are {len(label_offsets)} labels and {len(offsets)} pictures only")
            file.seek(label_offsets[row])
            key, label = _split(where, file.readline())
            yield TsvRow(where, key, label, PackedPicture(pictures, offsets[row]))


def _example(
    where: str,
    label: Any,
    picture: PackedPicture,
    size: tuple[int, int] | None,
    classes: list[str],
    min_score: float,
) -> Example:
    if isinstance(label, dict) and "caption" in label:
        size = (_whole(where, label, "img_h"), _whole(where, label, "img_w"))
        caption = str(label["caption"])
        return Example(picture, size, tuple(_pseudo_boxes(where, label, caption, min_score)), caption)
    things = label.get("objects") if isinstance(label, dict) else label
    if not isinstance(things, list) or not all(isinstance(thing, dict) and "class" in thing for thing in things):
        raise DataError(f"{where}: expected a list of objects with 'class' and 'rect', got {label!r:.60}")
    if size is None:
        read = picture.read()
        size = (read.height, read.width)
    objects = [
        GroundedObject(box, str(thing["class"]))
        for thing in things
        if (box := _box(where, thing.get("rect"))) is not None
    ]
    present = {thing.name for thing in objects}
    return Example(picture, size, tuple(objects), absent=tuple(name for name in classes if name not in present))


def _pseudo_boxes(where: str, label: Record, caption: str, min_score: float) -> Iterator[GroundedObject]:
    """Boxes of a caption with their spans, those that are sure enough."""
    columns = [label.get(name) for name in ("bboxes", "tokens_positive", "scores")]
    if not all(isinstance(column, list) and len(column) == len(columns[0] or []) for column in columns):
        raise DataError(f"{where}: bboxes, tokens_positive and scores must be lists of one length")
    for boxes, given, scores in zip(*columns, strict=True):
        is_nested = isinstance(boxes, list) and (not boxes or isinstance(boxes[0], list))
        spans = checked_spans(f"{where}: tokens_positive", given, caption)
        name = " ".join(caption[start:end] for start, end in spans)
        for box, score in zip(boxes if is_nested else [boxes], scores if is_nested else [scores], strict=True):
            if not is_number(score):
                raise DataError(f"{where}: a score must be a number, got {score!r:.40}")
            corners = _box(where, box)
            if score > min_score and corners is not None:
                yield GroundedObject(corners, name, spans)


def _box(where: str, rect: Any) -> Box | None:
    """Xyxy pixels; None for a box without area."""
    if not isinstance(rect, list) or len(rect) != 4 or not all(is_number(edge) for edge in rect):
        raise DataError(f"{where}: a box must be [x1, y1, x2, y2], got {rect!r:.60}")
    x1, y1, x2, y2 = (float(edge) for edge in rect)
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None


def _yaml(path: Path) -> Record:
    return read_yaml(path, what="TSV data set's YAML")


def _sizes(path: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """(height, width) by key; a row holds an object, a list of one, or two numbers."""
    for number, line in enumerate(_lines(path)):
        where = f"{path}: row {number}"
        key, _, text = line.partition("\t")
        words = text.split()
        if len(words) == 2 and all(word.isdecimal() for word in words):
            yield key, (int(words[0]), int(words[1]))
            continue
        value = _json(where, text)
        record = value[0] if isinstance(value, list) and value else value
        if not isinstance(record, dict):
            raise DataError(f"{where}: expected height and width, got {text[:60]!r}")
        yield key, (_whole(where, record, "height"), _whole(where, record, "width"))


def _classes(path: Path) -> list[str]:
    """Class names: a JSON object of numbers by name, or a name a line."""
    text = "\n".join(_lines(path))
    if text.lstrip().startswith("{"):
        content = _json(str(path), text)
        names = content.get("label_to_idx", content)
        return [str(name) for name in names if name != BACKGROUND]
    return [line.strip() for line in text.split("\n") if line.strip() and line.strip() != BACKGROUND]


def _offsets(path: Path) -> list[int]:
    """Where each row starts: the `.lineidx` file beside it, or counted."""
    index = path.with_suffix(".lineidx")
    if not path.is_file():
        raise FileError(f"{path}: no such TSV file")
    if index.is_file():
        return [int(line) for line in _lines(index) if line.strip().isdecimal()]
    offsets, place = [], 0
    with path.open("rb") as rows:
        for row in rows:
            offsets.append(place)
            place += len(row)
    return offsets


def _split(where: str, row: bytes) -> tuple[str, Any]:
    key, tab, text = row.decode("utf-8", errors="replace").rstrip("\r\n").partition("\t")
    if not tab:
        raise DataError(f"{where}: expected a key, a tab and JSON, got {key[:60]!r}")
    return key, _json(where, text)


def _json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON ({error})") from error


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise FileError(f"{path}: no such file")
    try:
        return [line.rstrip("\r") for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n")]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: it is no UTF-8 text") from error


def _name(path: Path, content: Record, key: str) -> str:
    if not isinstance(content.get(key), str):
        raise DataError(f"{path}: {key!r} must name a TSV file, got {content.get(key)!r}")
    return str(content[key])


def _whole(where: str, record: Record, name: str) -> int:
    value = record.get(name)
    if not is_number(value) or int(str(value).partition(".")[0]) < 1:
        raise DataError(f"{where}: {name} must be at least 1 pixel, got {value!r:.40}")
    return int(float(str(value)))
