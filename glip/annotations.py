"""Annotation and prediction files on disk, read strictly: an error names the file, the record and the field."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from glip.errors import DataError, FileError
from glip.structures.prompt import Span

Record = dict[str, Any]
LARGEST = 1e18  # of a number in a file; beyond it arithmetic stops making sense


def read_object(path: str | Path) -> Record:
    """A JSON file that holds an object with sections, such as COCO's.

    Raises:
        FileError: there is no such file.
        DataError: it is not valid JSON, or something else than an object.
    """
    content = _parse(Path(path), "annotation")
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object with 'images' and 'annotations', got a {type(content).__name__}")
    return content


def read_predictions(path: str | Path, fields: Collection[str]) -> list[Record]:
    """Predictions: a JSON list of records, or one record a line (`.jsonl`).

    Args:
        path: the file.
        fields: what every record must have. `boxes` must be `(N, 4)` finite numbers, `scores` and `labels` as long.

    Raises:
        FileError: there is no such file.
        DataError: a record is not of this form.
    """
    path = Path(path)
    content = _parse_lines(path) if path.suffix == ".jsonl" else _parse(path, "predictions")
    if not isinstance(content, list):
        raise DataError(f"{path}: expected a list of predictions, got a {type(content).__name__}")
    for number, entry in enumerate(content, start=1):
        _check_prediction(f"{path}: prediction {number}", entry, fields)
    return content


def check_boxes_and_scores(where: str, record: Record) -> None:
    """Refuse boxes that are not `(N, 4)` finite numbers, and other lists of another length.

    Raises:
        DataError: with the given place in front.
    """
    boxes = record["boxes"]
    if not isinstance(boxes, list):
        raise DataError(f"{where}: boxes must be a list of [x1, y1, x2, y2], got {_shown(boxes)}")
    for box in boxes:
        if not isinstance(box, list) or len(box) != 4 or not all(is_number(edge) for edge in box):
            raise DataError(f"{where}: a box must be [x1, y1, x2, y2] in pixels, got {_shown(box)}")
    for name in ("scores", "labels"):
        values = record.get(name, boxes)
        if not isinstance(values, list) or len(values) != len(boxes):
            raise DataError(f"{where}: {len(boxes)} boxes need as many {name}, got {_shown(values)}")
        kind = is_number if name == "scores" else is_whole
        wrong = [value for value in values if values is not boxes and not kind(value)]
        if wrong:
            raise DataError(
                f"{where}: {name} must be {'numbers' if name == 'scores' else 'whole numbers'}, got {_shown(wrong[0])}"
            )


def _check_prediction(where: str, entry: Any, fields: Collection[str]) -> None:
    if not isinstance(entry, dict):
        raise DataError(f"{where}: expected an object with {sorted(fields)}, got {_shown(entry)}")
    for name in fields:
        if name not in entry:
            raise DataError(f"{where}: field {name!r} is missing; it must have {sorted(fields)}")
        if name.endswith("_id") and not is_id(entry[name]):
            raise DataError(f"{where}: {name} must be a number or a word, got {_shown(entry[name])}")
    if "boxes" in fields:
        check_boxes_and_scores(where, entry)
    if "bbox" in fields:
        _check_result(where, entry)
    if "phrases" in fields:
        _check_phrases(where, entry["phrases"])


def _check_result(where: str, entry: Record) -> None:
    """A record of a COCO results file."""
    bbox = entry["bbox"]
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(is_number(edge) for edge in bbox):
        raise DataError(f"{where}: bbox must be [x, y, width, height], got {_shown(bbox)}")
    if not is_number(entry["score"]):
        raise DataError(f"{where}: score must be a number, got {_shown(entry['score'])}")


def _check_phrases(where: str, phrases: Any) -> None:
    if not isinstance(phrases, list):
        raise DataError(f"{where}: phrases must be a list, got {_shown(phrases)}")
    for phrase in phrases:
        if not isinstance(phrase, dict) or not {"boxes", "scores"} <= phrase.keys():
            raise DataError(f"{where}: each of phrases must have 'boxes' and 'scores', got {_shown(phrase)}")
        check_boxes_and_scores(where, phrase)


def section(path: str | Path, content: Record, name: str) -> list[Record]:
    """A list of records of a file.

    Raises:
        DataError: it is missing or no such list.
    """
    found = content.get(name)
    if not isinstance(found, list) or not all(isinstance(record, dict) for record in found):
        raise DataError(f"{path}: {name!r} must be a list of objects, got {type(found).__name__}")
    return found


def field(path: str | Path, record: Record, where: str, name: str) -> Any:
    """A field of a record; ids must be numbers or words.

    Raises:
        DataError: it is missing or null.
    """
    if record.get(name) is None:
        raise DataError(f"{path}: {where} record {_shown(record.get('id', record))}: field {name!r} is missing")
    if (name == "id" or name.endswith("_id")) and not is_id(record[name]):
        raise DataError(
            f"{path}: {where} record {_shown(record.get('id'))}: {name} must be a whole number or a word, "
            f"got {_shown(record[name])}"
        )
    return record[name]


def picture_name(path: str | Path, record: Record) -> str:
    """`file_name` of an image record; LVIS has the last two parts of `coco_url` instead.

    Raises:
        DataError: neither is there.
    """
    if record.get("file_name") is None and record.get("coco_url") is not None:
        return "/".join(str(record["coco_url"]).split("/")[-2:])
    return str(field(path, record, "images", "file_name"))


def annotations_by_image(path: str | Path, content: Record) -> dict[Any, list[Record]]:
    """The annotations of each image.

    Raises:
        DataError: one speaks of an image that is not in the file.
    """
    known = distinct_ids(path, section(path, content, "images"), "images")
    by_image: dict[Any, list[Record]] = defaultdict(list)
    for annotation in section(path, content, "annotations"):
        image = field(path, annotation, "annotations", "image_id")
        if image not in known:
            raise DataError(
                f"{path}: annotation {_shown(annotation.get('id'))}: image_id {_shown(image)} is not in images"
            )
        by_image[image].append(annotation)
    return by_image


def distinct_ids(path: str | Path, records: list[Record], where: str) -> dict[Any, Record]:
    """Records by their ids.

    Raises:
        DataError: an id is missing, stands there twice, or some are numbers and some words.
    """
    by_id: dict[Any, Record] = {}
    for record in records:
        key = field(path, record, where, "id")
        if key in by_id:
            raise DataError(f"{path}: {where} id {_shown(key)} stands there twice; give each record its own")
        by_id[key] = record
    if len({isinstance(key, str) for key in by_id}) > 1:
        raise DataError(f"{path}: {where} ids must be all numbers or all words, got both")
    return by_id


def distinct_names(names: Mapping[Any, str]) -> dict[Any, str]:
    """Names by id, all different: of classes with one name, the id stands behind it, as in "mouse (64)"."""
    count = Counter(names.values())
    return {key: name if count[name] == 1 else f"{name} ({key})" for key, name in names.items()}


def category_names(path: str | Path, content: Record) -> dict[Any, str]:
    """Names by category id, in the file's order.

    Raises:
        DataError: an id or a name is missing, or an id stands there twice.
    """
    names: dict[Any, str] = {}
    for key, category in distinct_ids(path, section(path, content, "categories"), "categories").items():
        name = field(path, category, "categories", "name")
        if not isinstance(name, str) or not name.isprintable():
            raise DataError(f"{path}: category {_shown(key)}: name must be a word or more, got {_shown(name)}")
        names[key] = name
    return names


def pixels(path: str | Path, record: Record, name: str) -> int:
    """A length of an image record; MDETR's converter writes it as a string.

    Raises:
        DataError: it is missing, or less than a pixel.
    """
    value = field(path, record, "images", name)
    try:
        length = int(value)
    except (TypeError, ValueError, OverflowError):
        length = 0
    if length < 1:
        raise DataError(f"{path}: images record {record.get('id')}: {name} must be at least 1 pixel, got {value!r}")
    return length


def xywh_of(path: str | Path, annotation: Record) -> tuple[float, float, float, float]:
    """An annotation's bbox as it stands: x, y, width, height in pixels.

    Raises:
        DataError: it is missing or not four numbers.
    """
    bbox = field(path, annotation, "annotations", "bbox")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(is_number(number) for number in bbox):
        where = f"{path}: annotation {_shown(annotation.get('id'))}"
        raise DataError(f"{where}: bbox must be [x, y, width, height], got {_shown(bbox)}")
    x, y, width, height = (float(number) for number in bbox)
    return x, y, width, height


def to_bbox(box: tuple[float, float, float, float]) -> list[float]:
    """A box `(left, top, right, bottom)` as an annotation's bbox: x, y, width, height, in the same unit."""
    left, top, right, bottom = box
    return [left, top, right - left, bottom - top]


def spans_of(path: str | Path, annotation: Record, caption: str) -> tuple[Span, ...]:
    """The character spans that an annotation's box belongs to.

    Raises:
        DataError: there are none, or they are no spans of the caption.
    """
    given = annotation.get("tokens_positive", annotation.get("tokens"))
    return checked_spans(f"{path}: annotation {annotation.get('id')}: tokens_positive", given, caption)


def checked_spans(where: str, given: Any, caption: str) -> tuple[Span, ...]:
    """Half-open spans of a caption.

    Raises:
        DataError: they are not, or there are none.
    """
    pairs = given if isinstance(given, list) else []
    if not pairs or not all(_is_span(pair, caption) for pair in pairs):
        raise DataError(
            f"{where} must be [start, end) spans of the caption ({len(caption)} characters), got {_shown(given)}"
        )
    return tuple((int(start), int(end)) for start, end in pairs)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number of sensible size."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def is_id(value: Any) -> bool:
    """Whether a value is a word, or a whole number that fits 64 bits."""
    return isinstance(value, str) or is_whole(value)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number that fits 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _parse(path: Path, kind: str) -> Any:
    text = _text(path, kind)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error}); is the file cut short?") from error


def _parse_lines(path: Path) -> list[Any]:
    records = []
    for number, line in enumerate(_text(path, "predictions").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: line {number} is not valid JSON ({error}); is the file cut short?") from error
    return records


def _text(path: Path, kind: str) -> str:
    if not path.is_file():
        raise FileError(f"{path}: no such {kind} file")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not valid JSON (it is no UTF-8 text)") from error


def _shown(value: Any) -> str:
    """A value as an error shows it: never pages of it."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _is_span(value: Any, caption: str) -> bool:
    match value:
        case [int(start), int(end)]:
            return 0 <= start < end <= len(caption)
    return False
