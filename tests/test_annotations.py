"""Predictions files: what is broken is named by file, record and field."""

import json
from pathlib import Path
from typing import Any

import pytest

from glip.annotations import read_object, read_predictions, to_bbox
from glip.errors import DataError, FileError

BOXES = ("image_id", "boxes", "scores", "labels")
PHRASES = ("image_id", "phrases")
GOOD = {"image_id": 1, "boxes": [[0, 0, 2.5, 3]], "scores": [0.5], "labels": [1]}


def test_a_list_and_a_record_a_line_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps([GOOD, {**GOOD, "image_id": 2}]))
    (tmp_path / "p.jsonl").write_text(json.dumps(GOOD) + "\n" + json.dumps({**GOOD, "image_id": 2}) + "\n")
    assert read_predictions(tmp_path / "p.json", BOXES) == read_predictions(tmp_path / "p.jsonl", BOXES)


@pytest.mark.parametrize(("name", "text"), [("p.json", "[]"), ("p.jsonl", "")], ids=["a list", "lines"])
def test_no_predictions_are_fine(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert read_predictions(tmp_path / name, BOXES) == []


@pytest.mark.parametrize(
    ("records", "fields", "message"),
    [
        pytest.param({"image_id": 1}, BOXES, "expected a list of predictions, got a dict", id="an object"),
        pytest.param([3], BOXES, r"prediction 1: expected an object with \['boxes'", id="a number as record"),
        pytest.param([GOOD, {"image_id": 1}], BOXES, "prediction 2: field 'boxes' is missing", id="no boxes"),
        pytest.param([{**GOOD, "boxes": 3}], BOXES, "boxes must be a list of", id="boxes that are no list"),
        pytest.param([{**GOOD, "boxes": [[0, 0, 1]]}], BOXES, r"a box must be \[x1, y1, x2, y2\]", id="three numbers"),
        pytest.param([{**GOOD, "boxes": [[0, 0, 1, "x"]]}], BOXES, "a box must be", id="a word in a box"),
        pytest.param(
            [{**GOOD, "boxes": [[0, 0, 1, float("nan")]]}], BOXES, "a box must be", id="not a number in a box"
        ),
        pytest.param([{**GOOD, "boxes": [[0, 0, 1, float("inf")]]}], BOXES, "a box must be", id="infinity in a box"),
        pytest.param([{**GOOD, "scores": []}], BOXES, "1 boxes need as many scores", id="too few scores"),
        pytest.param([{**GOOD, "labels": [1, 2]}], BOXES, "1 boxes need as many labels", id="too many labels"),
        pytest.param([{**GOOD, "scores": ["high"]}], BOXES, "scores must be numbers, got 'high'", id="a word as score"),
        pytest.param([{**GOOD, "labels": ["cat"]}], BOXES, "labels must be whole numbers", id="a word as label"),
        pytest.param([{**GOOD, "scores": [True]}], BOXES, "scores must be numbers, got True", id="true as score"),
        pytest.param([{**GOOD, "image_id": [1]}], BOXES, "image_id must be a number or a word", id="a list as image"),
        pytest.param([{**GOOD, "image_id": 10**30}], BOXES, "image_id must be", id="an image number without end"),
        pytest.param([{**GOOD, "labels": [1.5]}], BOXES, "labels must be whole numbers, got 1.5", id="half a label"),
        pytest.param([{"image_id": 1, "phrases": [3]}], PHRASES, "each of phrases must have", id="a number as phrase"),
        pytest.param(
            [{"image_id": 1, "phrases": [{"boxes": [], "scores": [1]}]}],
            PHRASES,
            "0 boxes need",
            id="a score without box",
        ),
        pytest.param([{"image_id": 1, "phrases": None}], PHRASES, "phrases must be a list", id="null as phrases"),
    ],
)
def test_predictions_are_refused_for(records: Any, fields: tuple[str, ...], message: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps(records))
    with pytest.raises(DataError, match=rf"p\.json: .*{message}|p\.json: {message}"):
        read_predictions(tmp_path / "p.json", fields)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("p.json", b'[{"a":', "not valid JSON", id="cut JSON"),
        pytest.param("p.jsonl", b'{"a": 1}\n{"a"', "line 2 is not valid JSON", id="a cut line"),
        pytest.param("p.json", b"\xff\xfe\x00", "no UTF-8 text", id="no text"),
        pytest.param("p.json", b"[" * 100_000, "not valid JSON", id="a hundred thousand brackets"),
    ],
)
def test_a_broken_file_is_refused_for(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_predictions(tmp_path / name, BOXES)


def test_a_long_value_is_not_printed_whole(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps([{**GOOD, "boxes": [list(range(10_000))]}]))
    with pytest.raises(DataError) as caught:
        read_predictions(tmp_path / "p.json", BOXES)
    assert len(str(caught.value)) < 300


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such predictions file"):
        read_predictions(tmp_path / "p.json", BOXES)
    with pytest.raises(FileError, match="no such annotation file"):
        read_object(tmp_path / "a.json")


def test_a_box_becomes_corner_and_sides() -> None:
    assert to_bbox((1.0, 2.0, 4.0, 6.5)) == [1.0, 2.0, 3.0, 4.5]
