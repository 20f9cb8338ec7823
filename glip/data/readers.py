"""Annotation files to examples. A broken file ends in one sentence that names the file, the record and the field."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from glip.data.examples import Example, GroundedObject
from glip.errors import DataError, FileError
from glip.structures.prompt import Span

Record = dict[str, Any]
BACKGROUND_ID = 0


def read_detection_json(path: str | Path, *, images: str | Path | None = None) -> list[Example]:
    """A COCO detection file.

    Crowd regions and boxes without area are left out. `absent` is every category that an image has no box of, or the
    categories in its `neg_category_ids` where the file says so (LVIS's federated annotation).

    Args:
        path: the JSON file.
        images: folder that `file_name` is relative to; None for the file's own.

    Raises:
        FileError: the file does not exist.
        DataError: the file is not such JSON.
    """
    content = _read_json(Path(path))
    _section(path, content, "annotations")
    names = {
        _field(path, category, "categories", "id"): str(_field(path, category, "categories", "name"))
        for category in _section(path, content, "categories")
        if category.get("id") != BACKGROUND_ID or _uses_background_id(content)
    }
    by_image = _annotations_by_image(path, content)
    examples = []
    for record in _section(path, content, "images"):
        annotations = by_image[_field(path, record, "images", "id")]
        for annotation in annotations:
            if not _is_known(annotation.get("category_id"), names):
                raise DataError(
                    f"{path}: annotation {annotation.get('id')}: category_id {annotation.get('category_id')!r} is not "
                    "in categories; add it there"
                )
        objects = tuple(
            GroundedObject(box, names[annotation["category_id"]])
            for annotation in annotations
            if not annotation.get("iscrowd") and (box := _box(path, annotation)) is not None
        )
        present = {annotation["category_id"] for annotation in annotations}
        absent = record.get("neg_category_ids", [*names])
        if not isinstance(absent, list):
            raise DataError(f"{path}: image {record['id']}: neg_category_ids must be a list, got {absent!r}")
        examples.append(
            Example(
                **_image_fields(path, record, images),
                objects=objects,
                absent=tuple(names[c] for c in absent if _is_known(c, names) and c not in present),
            )
        )
    return examples


def read_grounding_json(path: str | Path, *, images: str | Path | None = None) -> list[Example]:
    """An MDETR grounding file (Flickr30k, mixed, referring): each caption is an image record of its own.

    Args:
        path: the JSON file.
        images: folder that `file_name` is relative to; None for the file's own.

    Raises:
        FileError: the file does not exist.
        DataError: the file is not such JSON.
    """
    content = _read_json(Path(path))
    by_image = _annotations_by_image(path, content)
    examples = []
    for record in _section(path, content, "images"):
        caption = str(_field(path, record, "images", "caption"))
        objects = []
        for annotation in by_image[_field(path, record, "images", "id")]:
            box = _box(path, annotation)
            spans = _spans(path, annotation, caption)
            if box is not None:
                name = " ".join(caption[start:end] for start, end in spans)
                objects.append(GroundedObject(box, name, spans))
        examples.append(Example(**_image_fields(path, record, images), objects=tuple(objects), caption=caption))
    return examples


def _read_json(path: Path) -> Record:
    if not path.is_file():
        raise FileError(f"{path}: no such annotation file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}); is the file cut short?") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object with 'images' and 'annotations', got a {type(content).__name__}")
    return content


def _section(path: str | Path, content: Record, name: str) -> list[Record]:
    section = content.get(name)
    if not isinstance(section, list) or not all(isinstance(record, dict) for record in section):
        raise DataError(f"{path}: {name!r} must be a list of objects, got {type(section).__name__}")
    return section


def _is_known(category: Any, names: dict[Any, str]) -> bool:
    return isinstance(category, int | str) and category in names


def _uses_background_id(content: Record) -> bool:
    """Whether category 0 is a class like others: some files have it as a background without boxes."""
    return any(annotation.get("category_id") == BACKGROUND_ID for annotation in content.get("annotations") or [])


def _field(path: str | Path, record: Record, section: str, name: str) -> Any:
    if record.get(name) is None:
        raise DataError(f"{path}: {section} record {record.get('id', record)}: field {name!r} is missing")
    if name in ("id", "image_id") and not isinstance(record[name], int | str):
        raise DataError(
            f"{path}: {section} record {record.get('id')}: {name} must be a number or a word, got {record[name]!r}"
        )
    return record[name]


def _annotations_by_image(path: str | Path, content: Record) -> dict[Any, list[Record]]:
    known = {_field(path, record, "images", "id") for record in _section(path, content, "images")}
    by_image: dict[Any, list[Record]] = defaultdict(list)
    for annotation in _section(path, content, "annotations"):
        image = _field(path, annotation, "annotations", "image_id")
        if image not in known:
            raise DataError(f"{path}: annotation {annotation.get('id')}: image_id {image!r} is not in images")
        by_image[image].append(annotation)
    return by_image


def _image_fields(path: str | Path, record: Record, images: str | Path | None) -> Record:
    folder = Path(images) if images is not None else Path(path).parent
    size = _pixels(path, record, "height"), _pixels(path, record, "width")
    return {"image": folder / str(_field(path, record, "images", "file_name")), "size": size}


def _pixels(path: str | Path, record: Record, name: str) -> int:
    """A length; MDETR's converter writes it as a string."""
    value = _field(path, record, "images", name)
    try:
        pixels = int(value)
    except (TypeError, ValueError, OverflowError):
        pixels = 0
    if pixels < 1:
        raise DataError(f"{path}: images record {record.get('id')}: {name} must be at least 1 pixel, got {value!r}")
    return pixels


def _box(path: str | Path, annotation: Record) -> tuple[float, float, float, float] | None:
    """An annotation's xywh as xyxy; None for one without area."""
    bbox = _field(path, annotation, "annotations", "bbox")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(_is_number(number) for number in bbox):
        raise DataError(f"{path}: annotation {annotation.get('id')}: bbox must be [x, y, width, height], got {bbox!r}")
    x, y, width, height = (float(number) for number in bbox)
    return (x, y, x + width, y + height) if width > 0 and height > 0 else None


def _spans(path: str | Path, annotation: Record, caption: str) -> tuple[Span, ...]:
    given = annotation.get("tokens_positive", annotation.get("tokens"))
    pairs = given if isinstance(given, list) else []
    if not pairs or not all(_is_span(pair, caption) for pair in pairs):
        raise DataError(
            f"{path}: annotation {annotation.get('id')}: tokens_positive must be [start, end) spans of the caption "
            f"({len(caption)} characters), got {given!r}"
        )
    return tuple((int(start), int(end)) for start, end in pairs)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e18


def _is_span(value: Any, caption: str) -> bool:
    match value:
        case [int(start), int(end)]:
            return 0 <= start < end <= len(caption)
    return False
