"""ODVG files, mmdetection's format for grounding data: one JSON record a line."""

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from glip.annotations import Record, checked_spans, is_number, pixels, read_predictions
from glip.data.examples import Example, GroundedObject
from glip.errors import DataError


def read_odvg(path: str | Path, *, images: str | Path | None = None) -> list[Example]:
    """An ODVG file (mmdetection): one JSON record a line, either detection or grounding.

    Detection records hold `detection: {instances: [{bbox, label, category}]}`, grounding records
    `grounding: {caption, regions: [{bbox, phrase, tokens_positive}]}`; boxes are xyxy pixels. A region's box may be a
    list of boxes. Where `tokens_positive` is missing, the phrase's first place in the caption counts. `absent` of a
    detection record is every category of the file that it has no box of.

    Args:
        path: the `.jsonl` file.
        images: folder that `filename` is relative to; None for the file's own.

    Raises:
        FileError: the file does not exist.
        DataError: a record is not of this form.
    """
    records = read_predictions(path, ("filename",))
    folder = Path(images) if images is not None else Path(path).parent
    examples = []
    for number, record in enumerate(records, start=1):
        where = f"{path}: record {number}"
        size = pixels(path, {"id": number, **record}, "height"), pixels(path, {"id": number, **record}, "width")
        image = folder / str(record["filename"])
        if isinstance(record.get("detection"), dict):
            things = _list(where, record["detection"], "instances")
            objects = [
                GroundedObject(box, str(_field(where, thing, "category")))
                for thing in things
                for box in _boxes(where, thing)
            ]
            examples.append(Example(image, size, tuple(objects)))
        elif isinstance(record.get("grounding"), dict):
            caption = str(_field(where, record["grounding"], "caption"))
            regions = _list(where, record["grounding"], "regions")
            grounded = [_region(where, region, caption) for region in regions]
            examples.append(Example(image, size, tuple(chain(*grounded)), caption))
        else:
            raise DataError(f"{where}: needs 'detection' or 'grounding', has {sorted(record)}")
    classes = list(dict.fromkeys(thing.name for e in examples if e.caption is None for thing in e.objects))
    return [
        replace(e, absent=tuple(name for name in classes if name not in {thing.name for thing in e.objects}))
        if e.caption is None
        else e
        for e in examples
    ]


def _region(where: str, region: Record, caption: str) -> list[GroundedObject]:
    phrase = _field(where, region, "phrase")
    if "tokens_positive" in region:
        spans = checked_spans(f"{where}: tokens_positive", region["tokens_positive"], caption)
    else:
        words = phrase if isinstance(phrase, list) else [phrase]
        places = [(caption.lower().find(str(word).lower()), len(str(word))) for word in words]
        if not places or min(start for start, _ in places) < 0:
            raise DataError(f"{where}: the phrase {phrase!r} does not stand in the caption {caption!r}")
        spans = tuple((start, start + length) for start, length in places)
    name = " ".join(caption[start:end] for start, end in spans)
    return [GroundedObject(box, name, spans) for box in _boxes(where, region)]


def _boxes(where: str, record: Record) -> list[tuple[float, float, float, float]]:
    """The xyxy boxes of a record, those without area left out."""
    given = _field(where, record, "bbox")
    boxes = given if isinstance(given, list) and given and isinstance(given[0], list) else [given]
    found = []
    for box in boxes:
        if not isinstance(box, list) or len(box) != 4 or not all(is_number(edge) for edge in box):
            raise DataError(f"{where}: bbox must be [x1, y1, x2, y2], got {box!r}")
        x1, y1, x2, y2 = (float(edge) for edge in box)
        if x2 > x1 and y2 > y1:
            found.append((x1, y1, x2, y2))
    return found


def _list(where: str, record: Record, name: str) -> list[Record]:
    found = _field(where, record, name)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise DataError(f"{where}: {name!r} must be a list of objects, got {found!r}")
    return found


def _field(where: str, record: Record, name: str) -> Any:
    if record.get(name) is None:
        raise DataError(f"{where}: field {name!r} is missing")
    return record[name]
