"""ODVG files become the same examples as COCO's and MDETR's: boxes xyxy pixels, sizes (height, width)."""

import json
from pathlib import Path
from typing import Any

import pytest

from glip.data.examples import Example, GroundedObject
from glip.data.odvg import read_odvg
from glip.data.readers import read_any
from glip.errors import DataError, FileError

SIZE = {"filename": "a.jpg", "height": 60, "width": 80}
CAPTION = "a red ball on a red sofa"


def read(tmp_path: Path, *records: dict[str, Any]) -> list[Example]:
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_odvg(tmp_path / "train.jsonl")


def detection(*things: tuple[list[float], str], **changes: Any) -> dict[str, Any]:
    instances = [{"bbox": box, "label": 0, "category": name} for box, name in things]
    return {**SIZE, "detection": {"instances": instances}, **changes}


def grounding(*regions: dict[str, Any]) -> dict[str, Any]:
    return {**SIZE, "grounding": {"caption": CAPTION, "regions": list(regions)}}


def test_a_detection_record_by_hand(tmp_path: Path) -> None:
    first, second = read(tmp_path, detection(([1, 2, 30, 40.5], "cat")), detection(([0, 0, 5, 5], "dog")))
    assert first == Example(
        tmp_path / "a.jpg", (60, 80), (GroundedObject((1, 2, 30, 40.5), "cat"),), None, absent=("dog",)
    )
    assert second.absent == ("cat",)


def test_a_grounding_record_by_hand(tmp_path: Path) -> None:
    regions: list[dict[str, Any]] = [
        {"bbox": [1, 2, 3, 4], "phrase": "a red ball", "tokens_positive": [[0, 10]]},
        {"bbox": [[5, 5, 9, 9], [0, 0, 2, 2]], "phrase": "a red sofa"},
    ]
    (example,) = read(tmp_path, grounding(*regions))
    assert example.caption == CAPTION
    assert example.objects == (
        GroundedObject((1, 2, 3, 4), "a red ball", ((0, 10),)),
        GroundedObject((5, 5, 9, 9), "a red sofa", ((14, 24),)),
        GroundedObject((0, 0, 2, 2), "a red sofa", ((14, 24),)),
    )
    assert example.absent == ()


def test_a_picture_without_boxes_is_an_example(tmp_path: Path) -> None:
    (example,) = read(tmp_path, detection())
    assert example.objects == ()


def test_a_box_without_area_is_left_out(tmp_path: Path) -> None:
    (example,) = read(tmp_path, detection(([5, 5, 5, 9], "cat"), ([9, 5, 5, 9], "cat")))
    assert example.objects == ()


def test_an_empty_file_has_no_example(tmp_path: Path) -> None:
    assert read(tmp_path) == []


@pytest.mark.parametrize(
    ("record", "message"),
    [
        pytest.param({"height": 1, "width": 1}, "prediction 1: field 'filename' is missing", id="no file name"),
        pytest.param({**SIZE}, "record 1: needs 'detection' or 'grounding'", id="neither kind"),
        pytest.param(
            {**SIZE, "height": 0, "detection": {"instances": []}}, "height must be at least 1", id="no height"
        ),
        pytest.param({**SIZE, "detection": {"instances": 3}}, "'instances' must be a list", id="no list"),
        pytest.param(detection(([1, 2, 3], "cat")), r"bbox must be \[x1, y1, x2, y2\]", id="three numbers"),
        pytest.param(
            {**SIZE, "detection": {"instances": [{"bbox": [1, 2, 3, 4]}]}}, "'category' is missing", id="no name"
        ),
        pytest.param(grounding({"bbox": [1, 2, 3, 4]}), "'phrase' is missing", id="no phrase"),
        pytest.param(
            grounding({"bbox": [1, 2, 3, 4], "phrase": "a cat"}), "does not stand in the caption", id="a foreign phrase"
        ),
        pytest.param(
            grounding({"bbox": [1, 2, 3, 4], "phrase": "a", "tokens_positive": [[0, 99]]}),
            "spans of the caption",
            id="a span outside",
        ),
    ],
)
def test_a_record_is_refused_for(record: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, record)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"train\.jsonl"):
        read_odvg(tmp_path / "train.jsonl")


def test_the_format_is_told_by_the_file(tmp_path: Path) -> None:
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "tokens_positive": [[0, 10]]}
    image = {"id": 1, "file_name": "a.jpg", "height": 60, "width": 80}
    (tmp_path / "d.json").write_text(
        json.dumps({"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "ball"}]})
    )
    (tmp_path / "g.json").write_text(json.dumps({"images": [{**image, "caption": CAPTION}], "annotations": [box]}))
    read(tmp_path, detection(([1, 2, 3, 4], "ball")))
    names = [read_any(tmp_path / name)[0].objects[0].name for name in ("d.json", "g.json", "train.jsonl")]
    assert names == ["ball", "a red ball", "ball"]
