"""A page for people: which classes are weak, what they are taken for, and the pictures with the most errors.

One HTML file without scripts, fonts or links, so that it can be kept and sent.
"""

import base64
import contextlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from glip.errors import ConfigError, FileError, ImageError
from glip.evaluation.matching import IOU_THRESHOLD, KINDS, NEAR, Floats, Matching, match_detections
from glip.files import check_target
from glip.images import read_image
from glip.structures.drawing import PALETTE, draw_boxes

NUM_WORST = 24
NUM_CONFUSIONS = 20
NUM_CURVES = 30
MAX_LISTED = 40  # errors in the line of one image
MAX_DRAWN = 100  # boxes on one picture; more cannot be read, and placing their captions takes long
PICTURE_SIDE = 640  # pixels, of the longer side at most
JPEG_QUALITY = 80
CURVE_WIDTH, CURVE_HEIGHT = 160, 100  # of the plotted area
COLOURS = {"right": 2, "duplicate": 6, "wrong word": 1, "bad box": 0, "background": 8, "missed": 7}  # of the palette
MEANINGS = {
    "right": f"took a true box of its class: IoU of at least {IOU_THRESHOLD:g}",
    "duplicate": "a better detection took the same true box",
    "wrong word": "on a true box of another class",
    "bad box": f"near a true box of its class: IoU of {NEAR:g} to {IOU_THRESHOLD:g}",
    "background": "on nothing",
    "missed": "a true box that no detection took",
}
STYLE = """
body { background: #fff; color: #1a1a1a; font: 15px/1.5 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 84rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #ddd; padding: .2rem .7rem; text-align: right; }
th { background: #fff; position: sticky; top: 0; } th.name, td.name { text-align: left; }
.numbers { display: flex; flex-wrap: wrap; gap: .4rem 2rem; list-style: none; padding: 0; }
.numbers b { display: block; font-size: 1.4rem; }
.many { display: flex; flex-wrap: wrap; gap: 1rem; } .note { color: #555; }
figure { margin: 0; } figcaption { overflow-wrap: anywhere; }
.curve { width: 180px; } .image { max-width: 640px; } .image img { display: block; height: auto; max-width: 100%; }
.key { border-radius: .2rem; color: #fff; padding: 0 .4rem; white-space: nowrap; }
svg { display: block; } svg text { fill: #555; font-size: 10px; }
"""


@dataclass(frozen=True, eq=False)
class _Curve:
    """Average precision of one class.

    Attributes:
        ap: mean over IoU thresholds 0.50, 0.55, ... 0.95, in `[0, 1]`.
        ap50: at an IoU of 0.5.
        precision: `(101,)` at recalls 0.00, 0.01, ... 1.00, at an IoU of 0.5.
    """

    ap: float
    ap50: float
    precision: Floats


def write_error_report(
    path: str | Path,
    *,
    annotations: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    images: str | Path | None,
    threshold: float,
    overwrite: bool = False,
    title: str,
    num_worst: int = NUM_WORST,
) -> None:
    """Write one self-contained HTML file that shows what a detector gets wrong.

    Args:
        path: of the file to write.
        annotations: content of a COCO detection file.
        results: records of a COCO results file, boxes xywh pixels; may be empty.
        images: folder that the annotations' file names start from; None for a page without pictures. A picture that
            cannot be read is left out.
        threshold: least score of a detection that is counted and drawn; average precision uses all.
        overwrite: whether a file may be replaced.
        title: of the page, any text.
        num_worst: how many images to show at most.

    Raises:
        FileError: the file exists and `overwrite` is not set, or its folder does not exist.
        DataError: a record breaks the format (see `match_detections`).
        ConfigError: pycocotools is not installed.
    """
    path = check_target(path, overwrite=overwrite)
    matching = match_detections(annotations, results, threshold=threshold)
    curves = _average_precision(annotations, results)
    sections = [
        f"<h1>{escape(title)}</h1>",
        _headline(matching, curves, num_images=len(annotations["images"]), threshold=threshold),
        _class_table(matching, curves),
        _curve_gallery(matching, curves),
        _confusion_table(matching),
        _worst_images(matching, annotations["images"], None if images is None else Path(images), num_worst),
    ]
    page = f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
    page += f"<style>{STYLE}</style>\n</head>\n<body>\n" + "\n".join(sections) + "\n</body>\n</html>\n"
    path.write_text(page, encoding="utf-8")


def _average_precision(annotations: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> dict[int, _Curve]:
    """Curves by category id, of classes that have true boxes; the 100 best detections of an image and class count."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ConfigError("the error report needs pycocotools: pip install 'glip-for-everyone[train]'") from error
    records = [  # ids from 1: pycocotools takes 0 for "no match"
        {"iscrowd": 0, "area": record["bbox"][2] * record["bbox"][3], **record, "id": number}
        for number, record in enumerate(annotations["annotations"], start=1)
    ]
    with_truth = sorted({record["category_id"] for record in records if not record["iscrowd"]})
    if not results:
        return dict.fromkeys(with_truth, _Curve(0.0, 0.0, np.zeros(101)))
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        truth = COCO()
        truth.dataset = {**annotations, "annotations": records}
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes([dict(record) for record in results]), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.params.catIds = with_truth
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, 0]  # (10 IoU thresholds, 101 recalls, classes)
    return {
        category: _Curve(float(precision[:, :, k].mean()), float(precision[0, :, k].mean()), precision[0, :, k])
        for k, category in enumerate(with_truth)
    }


def _headline(matching: Matching, curves: Mapping[int, _Curve], *, num_images: int, threshold: float) -> str:
    kinds = Counter(matching.kinds.tolist())
    right = kinds["right"]
    numbers = {
        "images": str(num_images),
        "true boxes": str(len(matching.truths)),
        f"detections of a score of at least {threshold:g}": str(len(matching)),
        "precision": _share(right / len(matching) if len(matching) else None),
        "recall": _share(right / len(matching.truths) if len(matching.truths) else None),
        "AP": _share(_mean([curve.ap for curve in curves.values()])),
        "AP50": _share(_mean([curve.ap50 for curve in curves.values()])),
    }
    items = "".join(f"<li><b>{number}</b>{name}</li>" for name, number in numbers.items())
    rows = "".join(
        f'<tr><td class="name">{_key(kind)}</td><td>{count}</td><td class="name">{MEANINGS[kind]}</td></tr>\n'
        for kind, count in [*((kind, kinds[kind]) for kind in KINDS), ("missed", len(matching.missed))]
    )
    return (
        f'<ul class="numbers">{items}</ul>\n<table>\n{rows}</table>\n'
        '<p class="note">AP and AP50 use all detections. Those in a crowd region of their class are ignored.</p>'
    )


def _class_table(matching: Matching, curves: Mapping[int, _Curve]) -> str:
    """One row a class, the lowest AP50 first, classes without true boxes last."""
    truths = Counter(matching.truths.category_ids.tolist())
    missed = Counter(matching.missed.category_ids.tolist())
    kinds = Counter(zip(matching.detections.category_ids.tolist(), matching.kinds.tolist(), strict=True))
    order = sorted(curves, key=lambda category: curves[category].ap50)
    rows: list[tuple[str, list[int | str]]] = []
    for category in [*order, *(category for category in matching.names if category not in curves)]:
        curve = curves.get(category)
        cells: list[int | str] = [
            truths[category],
            _share(curve.ap if curve else None),
            _share(curve.ap50 if curve else None),
            *(kinds[category, kind] for kind in KINDS),
            missed[category],
        ]
        rows.append((matching.names[category], cells))
    heads = ["class", "true boxes", "AP", "AP50", *map(_key, (*KINDS, "missed"))]
    return "<h2>Classes, the weakest first</h2>\n" + _table(heads, rows)


def _curve_gallery(matching: Matching, curves: Mapping[int, _Curve]) -> str:
    """Small charts: the mean of all classes, then the classes of most true boxes."""
    if not curves:
        return "<h2>Precision and recall</h2>\n<p>No class has true boxes.</p>"
    truths = Counter(matching.truths.category_ids.tolist())
    most = sorted(curves, key=lambda category: -truths[category])[:NUM_CURVES]
    whole = np.mean([curve.precision for curve in curves.values()], axis=0)
    charts = [
        pr_curve_svg(whole, label=f"mean of {len(curves)} classes"),
        *(pr_curve_svg(curves[category].precision, label=matching.names[category]) for category in most),
    ]
    return (
        "<h2>Precision and recall at an IoU of 0.5</h2>\n"
        '<p class="note">Precision upwards, recall to the right, both from 0 to 1; the area is AP50. '
        f"The {len(most)} classes with most true boxes.</p>\n"
        f'<div class="many">\n{"".join(charts)}</div>'
    )


def pr_curve_svg(precision: Floats, *, label: str) -> str:
    """A figure of one curve, as inline SVG.

    Args:
        precision: `(R,)` in `[0, 1]` at R recalls from 0 to 1 at equal distances; their mean is written below.
        label: any text.
    """
    recalls = np.linspace(0, 1, len(precision))
    points = " ".join(
        f"{CURVE_WIDTH * recall:.1f},{CURVE_HEIGHT * (1 - value):.1f}"
        for recall, value in zip(recalls, precision, strict=True)
    )
    name = f"{escape(label)}: AP50 {precision.mean():.3f}"
    return (
        f'<figure class="curve"><svg width="{CURVE_WIDTH + 20}" height="{CURVE_HEIGHT + 20}" role="img" '
        f'viewBox="-15 -5 {CURVE_WIDTH + 20} {CURVE_HEIGHT + 20}"><title>{name}</title>'
        f'<rect width="{CURVE_WIDTH}" height="{CURVE_HEIGHT}" fill="none" stroke="#bbb"/>'
        f'<text x="-10" y="8">1</text><text x="-10" y="{CURVE_HEIGHT + 10}">0</text>'
        f'<text x="{CURVE_WIDTH - 4}" y="{CURVE_HEIGHT + 12}">1</text>'
        f'<polyline points="{points}" fill="none" stroke="{PALETTE[0]}" stroke-width="2"/></svg>'
        f"<figcaption>{name}</figcaption></figure>\n"
    )


def _confusion_table(matching: Matching) -> str:
    is_wrong_word = matching.kinds == "wrong word"
    said = matching.detections.category_ids[is_wrong_word].tolist()
    true = matching.truths.category_ids[matching.met[is_wrong_word]].tolist()
    most = Counter(zip(said, true, strict=True)).most_common(NUM_CONFUSIONS)
    heading = "<h2>Most frequent confusions</h2>\n"
    if not most:
        return f"{heading}<p>None: no detection is on a true box of another class.</p>"
    rows = [(f"said {matching.names[word]}, is {matching.names[truth]}", [count]) for (word, truth), count in most]
    return heading + _table(["confusion", "detections"], rows)


@dataclass(frozen=True)
class _Mark:
    """A box to draw on an image: a detection, or a true box that was missed.

    Attributes:
        kind: one of `KINDS`, or "missed".
        caption: what to write at the box.
        box_xywh: pixels.
    """

    kind: str
    caption: str
    box_xywh: tuple[float, float, float, float]


def _worst_images(matching: Matching, records: Iterable[Mapping[str, Any]], folder: Path | None, num_worst: int) -> str:
    """Pictures with most errors: missed true boxes and detections that are not right."""
    errors = Counter(matching.missed.image_ids.tolist())
    errors.update(matching.detections.image_ids[~matching.is_right].tolist())
    worst = sorted(errors, key=lambda image: (-errors[image], image))[:num_worst]
    heading = "<h2>Images with most errors</h2>\n"
    if not worst:
        return f"{heading}<p>None: no image has an error.</p>"
    by_id = {record["id"]: record for record in records}
    figures = []
    for image in worst:
        name = str(by_id[image].get("file_name", image))
        marks = _marks_of(matching, image)
        picture = None if folder is None else _picture(folder / name, marks)
        figures.append(
            f'<figure class="image">{picture or ""}<figcaption><b>{escape(name)}</b>, {errors[image]} '
            f"{'error' if errors[image] == 1 else 'errors'}: {escape(_listed(marks))}</figcaption></figure>\n"
        )
    return heading + f'<div class="many">\n{"".join(figures)}</div>'


def _marks_of(matching: Matching, image: int) -> list[_Mark]:
    """Everything on one image: missed true boxes first, then wrong detections, then right ones, each best first."""
    every_missed = matching.missed
    missed = every_missed.take(every_missed.image_ids == image)
    marks = [
        _Mark("missed", f"missed: {matching.names[category]}", tuple(box))
        for category, box in zip(missed.category_ids.tolist(), missed.boxes_xywh.tolist(), strict=True)
    ]
    rows = np.flatnonzero(matching.detections.image_ids == image)
    for row in rows[np.argsort(matching.is_right[rows], kind="stable")].tolist():
        kind, name = str(matching.kinds[row]), matching.names[int(matching.detections.category_ids[row])]
        caption = f"{kind}: {name} {matching.scores[row]:.2f}"
        marks.append(_Mark(kind, caption, tuple(matching.detections.boxes_xywh[row].tolist())))
    return marks


def _listed(marks: Sequence[_Mark]) -> str:
    """The errors in one line; equal ones once, with their number."""
    counts = Counter(mark.caption for mark in marks if mark.kind != "right")
    texts = [caption if count == 1 else f"{caption} (x {count})" for caption, count in counts.items()]
    more = len(texts) - MAX_LISTED
    return "; ".join(texts[:MAX_LISTED]) + (f"; and {more} more" if more > 0 else "")


def _picture(path: Path, marks: Sequence[_Mark]) -> str | None:
    """The picture with its marks as an HTML image; None if it cannot be read."""
    try:
        image = read_image(path)
    except (FileError, ImageError):
        return None
    marks = marks[:MAX_DRAWN]
    scale = min(1, PICTURE_SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    drawn = draw_boxes(
        image.resize(size, Image.Resampling.BILINEAR),
        [_corners(mark.box_xywh, size[0] / image.width, size[1] / image.height) for mark in marks],
        [mark.caption for mark in marks],
        [COLOURS[mark.kind] for mark in marks],
    )
    buffer = io.BytesIO()
    drawn.save(buffer, "JPEG", quality=JPEG_QUALITY)
    code = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img src="data:image/jpeg;base64,{code}" width="{size[0]}" height="{size[1]}" alt="{escape(path.name)}">'


def _corners(box_xywh: Sequence[float], scale_x: float, scale_y: float) -> list[float]:
    """Scaled xyxy pixels; a negative side counts as 0."""
    x, y, width, height = box_xywh
    return [x * scale_x, y * scale_y, (x + max(width, 0)) * scale_x, (y + max(height, 0)) * scale_y]


def _table(heads: Sequence[str], rows: Iterable[tuple[str, Sequence[int | str]]]) -> str:
    """A table whose first column is a name."""
    first, *others = heads
    head = f'<th class="name">{first}</th>' + "".join(f"<th>{name}</th>" for name in others)
    body = "".join(
        f'<tr><td class="name">{escape(name)}</td>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>\n'
        for name, cells in rows
    )
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>"


def _key(kind: str) -> str:
    return f'<span class="key" style="background: {PALETTE[COLOURS[kind]]}">{kind}</span>'


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _share(value: float | None) -> str:
    return "&ndash;" if value is None else f"{value:.3f}"
