"""Annotation files to examples. A broken file ends in one sentence that names the file, the record and the field."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from glip.annotations import (
    Record,
    annotations_by_image,
    field,
    is_number,
    picture_name,
    pixels,
    read_object,
    section,
    spans_of,
    xywh_of,
)
from glip.data.examples import Example, GroundedObject
from glip.data.instance_masks import InstanceMask
from glip.data.odvg import read_odvg
from glip.data.tsv import read_tsv
from glip.errors import DataError
from glip.text.prompts import plain_question

BACKGROUND_ID = 0


def read_detection_json(
    path: str | Path, *, images: str | Path | None = None, names: Mapping[Any, str] | None = None
) -> list[Example]:
    """A COCO detection file.

    Crowd regions and boxes without area are left out. An image record may have a `description`, and a `question` with
    `answers` ({answer: how right}, or a list of right ones); an annotation may have a `segmentation`. `absent` is every
    category that an image has no box of, or the categories in its `neg_category_ids` where the file says so (LVIS's
    federated annotation).

    Args:
        path: the JSON file.
        images: folder that `file_name` is relative to; None for the file's own.
        names: category ids and other names for them, instead of the file's; boxes of other ids are left out.

    Raises:
        FileError: the file does not exist.
        DataError: the file is not such JSON.
    """
    content = read_object(path)
    section(path, content, "annotations")
    own_names = _category_names(path, content)
    asked = own_names if names is None else names
    by_image = annotations_by_image(path, content)
    examples = []
    for record in section(path, content, "images"):
        annotations = by_image[field(path, record, "images", "id")]
        for annotation in annotations:
            if not _is_known(annotation.get("category_id"), own_names):
                raise DataError(
                    f"{path}: annotation {annotation.get('id')}: category_id {annotation.get('category_id')!r} is not "
                    "in categories; add it there"
                )
        objects = tuple(
            GroundedObject(box, asked[annotation["category_id"]], mask=_mask(path, record, annotation))
            for annotation in annotations
            if not annotation.get("iscrowd")
            and (box := _box(path, annotation)) is not None
            and annotation["category_id"] in asked
        )
        present = {asked.get(annotation["category_id"]) for annotation in annotations}
        absent = record.get("neg_category_ids", [*asked])
        if not isinstance(absent, list):
            raise DataError(f"{path}: image {record['id']}: neg_category_ids must be a list, got {absent!r}")
        examples.append(
            Example(
                **_image_fields(path, record, images),
                objects=objects,
                absent=_distinct(asked[c] for c in absent if _is_known(c, asked) and asked[c] not in present),
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
    content = read_object(path)
    by_image = annotations_by_image(path, content)
    examples = []
    for record in section(path, content, "images"):
        caption = str(field(path, record, "images", "caption"))
        objects = []
        for annotation in by_image[field(path, record, "images", "id")]:
            box = _box(path, annotation)
            spans = spans_of(path, annotation, caption)
            if box is not None:
                name = " ".join(caption[start:end] for start, end in spans)
                objects.append(GroundedObject(box, name, spans, _mask(path, record, annotation)))
        examples.append(Example(**_image_fields(path, record, images), objects=tuple(objects), caption=caption))
    return examples


def read_any(path: str | Path, *, images: str | Path | None = None) -> list[Example]:
    """Examples of any format, told by the file.

    `.jsonl` is ODVG, `.yaml` a TSV data set, JSON with captions is grounding, and other JSON detection.

    Raises:
        FileError: the file does not exist.
        DataError: the file is of none of them.
    """
    if Path(path).suffix == ".jsonl":
        return read_odvg(path, images=images)
    if Path(path).suffix in (".yaml", ".yml"):
        return read_tsv(path)
    records = read_object(path).get("images")
    has_captions = isinstance(records, list) and any(isinstance(r, dict) and "caption" in r for r in records)
    return (read_grounding_json if has_captions else read_detection_json)(path, images=images)


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once: several ids may have one."""
    return tuple(dict.fromkeys(names))


def _category_names(path: str | Path, content: Record) -> dict[Any, str]:
    return {
        field(path, category, "categories", "id"): str(field(path, category, "categories", "name"))
        for category in section(path, content, "categories")
        if category.get("id") != BACKGROUND_ID or _uses_background_id(content)
    }


def _is_known(category: Any, names: Mapping[Any, str]) -> bool:
    return isinstance(category, int | str) and category in names


def _uses_background_id(content: Record) -> bool:
    """Whether category 0 is a class like others: some files have it as a background without boxes."""
    return any(annotation.get("category_id") == BACKGROUND_ID for annotation in content.get("annotations") or [])


def _image_fields(path: str | Path, record: Record, images: str | Path | None) -> Record:
    folder = Path(images) if images is not None else Path(path).parent
    size = pixels(path, record, "height"), pixels(path, record, "width")
    return {"image": folder / picture_name(path, record), "size": size, **_told(path, record)}


def _told(path: str | Path, record: Record) -> Record:
    """What words say of the whole picture, where the record has any.

    Raises:
        DataError: it is of another form.
    """
    where = f"{path}: image {record.get('id')}"
    told: Record = {name: record[name] for name in ("description", "question") if record.get(name) is not None}
    for name, text in told.items():
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{where}: {name} must be one or more words, got {text!r}")
    if "question" not in told:
        return told
    given = record.get("answers")
    shares = dict.fromkeys(given, 1.0) if isinstance(given, list) and _are_words(given) else given
    if not isinstance(shares, dict) or not all(is_number(share) and 0 <= share <= 1 for share in shares.values()):
        raise DataError(
            f"{where}: a question needs answers, a list of words or {{answer: how right, in [0, 1]}}, got {given!r}"
        )
    answers = tuple((answer, float(share)) for answer, share in shares.items())
    return {**told, "question": plain_question(told["question"]), "answers": answers}


def _are_words(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _mask(path: str | Path, record: Record, annotation: Record) -> InstanceMask | None:
    """An annotation's mask, which is looked at when it is drawn; None where it has none."""
    segmentation = annotation.get("segmentation")
    if not segmentation:
        return None
    size = pixels(path, record, "height"), pixels(path, record, "width")
    return InstanceMask(segmentation, size, f"{path}: annotation {annotation.get('id')}")


def _box(path: str | Path, annotation: Record) -> tuple[float, float, float, float] | None:
    """An annotation's xywh as xyxy; None for one without area."""
    x, y, width, height = xywh_of(path, annotation)
    return (x, y, x + width, y + height) if width > 0 and height > 0 else None
