"""The second dev set: photos labelled by eye take realground's form."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from glip.errors import DataError
from glip.predictor import Predictor
from tools.evaluate_dev import RealGround, everything_of
from tools.make_labelled_dev import DevPhoto, as_realground, main
from tools.nano_labels import read_labels, read_records

ROOT = Path(__file__).resolve().parents[1]
RECORD: dict[str, Any] = {
    "photo": "coffee.jpg",
    "boxes": {"1": [250, 100, 500, 600], "2": [0, 0, 1000, 1000]},
    "captions": ["[1:A white cup] stands on [2:a board].", "[1,2:Two things] are there."],
    "kinds": {"A white cup": "plain", "a board": "beyond_coco", "Two things": "synonym_hypernym"},
    "referring": [["the cup on the board", "1"]],
    "absent": ["a dog"],
}


def read(tmp_path: Path, photos: Path, **changes: Any) -> list[DevPhoto]:
    file = tmp_path / "dev.jsonl"
    file.write_text(json.dumps(RECORD | changes))
    return read_records(file, photos, DevPhoto)


def test_phrases_have_their_boxes_in_pixels_and_their_kinds(tmp_path: Path, photos: Path) -> None:
    content = as_realground(read(tmp_path, photos))
    height, width = (content["images"][0][side] for side in ("height", "width"))
    cup = pytest.approx([0.25 * width, 0.1 * height, 0.25 * width, 0.5 * height])
    board = pytest.approx([0, 0, width, height])
    image = str((photos / "coffee.jpg").resolve())
    assert content == {
        "images": [
            {"id": number, "file_name": image, "height": height, "width": width, "caption": caption}
            for number, caption in [(1, "A white cup stands on a board."), (2, "Two things are there.")]
        ],
        "annotations": [
            {"image_id": number, "bbox": box, "phrase": phrase, "tokens_positive": [span], "head_type": kind}
            for number, box, phrase, span, kind in [
                (1, cup, "A white cup", [0, 11], "plain"),
                (1, board, "a board", [22, 29], "beyond_coco"),
                (2, cup, "Two things", [0, 10], "synonym_hypernym"),
                (2, board, "Two things", [0, 10], "synonym_hypernym"),
            ]
        ],
        "referring": [{"image": image, "expression": "the cup on the board", "bbox": cup}],
        "absent": [{"image": image, "phrases": ["a dog"]}],
    }


def test_no_photos_are_an_empty_set() -> None:
    assert as_realground([]) == {"images": [], "annotations": [], "referring": [], "absent": []}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"kinds": RECORD["kinds"] | {"a rope": "beyond_coco"}},
            "'a rope' is in kinds, but marked in no caption",
            id="a kind too many",
        ),
        pytest.param({"kinds": {}}, "'A white cup' is not in kinds; say what its head noun is", id="no kind"),
        pytest.param({"referring": [["the cat", "7"]]}, "'the cat' is said to be box 7, which is not", id="no box"),
        pytest.param({"kinds": {"A white cup": "crockery"}}, "line 1: kinds.A white cup: .*'plain'", id="another kind"),
    ],
)
def test_a_photo_is_refused_that_has(changes: dict[str, Any], message: str, tmp_path: Path, photos: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, photos, **changes)


def test_no_photo_is_both_learnt_and_measured() -> None:
    labels = ROOT / "configs" / "labels"
    learnt = {photo.photo for photo in read_labels(labels / "photos.jsonl", Path())}
    measured = {photo.photo for photo in read_records(labels / "dev.jsonl", Path(), DevPhoto)}
    assert len(measured) > 50
    assert not learnt & measured


def test_the_tool_writes_a_set_that_can_be_measured(
    tmp_path: Path, photos: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [RECORD, RECORD | {"photo": "chelsea.jpg"}]
    (tmp_path / "dev.jsonl").write_text("\n".join(map(json.dumps, records)))
    words = [str(tmp_path / "dev.jsonl"), "--photos", str(photos), "--output", str(tmp_path / "data")]
    monkeypatch.setattr(sys, "argv", ["make_labelled_dev.py", *words])
    main()
    metrics = RealGround(tmp_path / "data" / "labelled", everything_of(predictor)).metrics()
    assert metrics["phrases"] == 6
    assert {name for name in metrics if name.startswith("recall@1 ")} == {
        "recall@1 plain",
        "recall@1 beyond_coco",
        "recall@1 synonym_hypernym",
        "recall@1 of shuffled phrases",
    }
