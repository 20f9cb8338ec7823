"""Photos labelled by eye: marks in captions become phrases with boxes."""

import json
from pathlib import Path
from typing import Any

import pytest

from glip.errors import DataError
from tools.nano_labels import bare, examples_of, read_labels, read_marks

CUP = [250, 100, 500, 600]
RECORD: dict[str, Any] = {
    "photo": "coffee.jpg",
    "boxes": {"1": CUP, "2": [0, 0, 1000, 1000], "3": [500, 500, 600, 600]},
    "captions": ["[1:A white cup] stands on [2:a table].", "[1, 3:The two things] are there."],
    "absent": ["a dog", "an orange"],
}


def read(tmp_path: Path, photos: Path, *records: Any) -> Any:
    file = tmp_path / "labels.jsonl"
    file.write_text("\n".join(record if isinstance(record, str) else json.dumps(record) for record in records))
    return read_labels(file, photos)


@pytest.mark.parametrize(
    ("caption", "text", "marks"),
    [
        pytest.param("", "", [], id="nothing"),
        pytest.param("a cup", "a cup", [], id="no mark"),
        pytest.param(
            "[1:A cup] on [2:a table].", "A cup on a table.", [((0, 5), ["1"]), ((9, 16), ["2"])], id="two marks"
        ),
        pytest.param("[2, 3:two cups]", "two cups", [((0, 8), ["2", "3"])], id="one mark of two things"),
    ],
)
def test_marks_are_taken_out_of_a_caption_with(caption: str, text: str, marks: Any) -> None:
    assert read_marks(caption) == (text, marks)


def test_each_caption_is_an_example_and_a_phrase_of_two_things_has_two_boxes(tmp_path: Path, photos: Path) -> None:
    captions, _ = examples_of(read(tmp_path, photos, RECORD))
    assert [example.caption for example in captions] == ["A white cup stands on a table.", "The two things are there."]
    assert [(thing.name, thing.spans) for thing in captions[0].objects] == [
        ("A white cup", ((0, 11),)),
        ("a table", ((22, 29),)),
    ]
    assert [thing.name for thing in captions[1].objects] == ["The two things"] * 2
    assert captions[0].absent == ("a dog", "an orange")


def test_boxes_are_thousandths_of_the_photos_sides(tmp_path: Path, photos: Path) -> None:
    captions, _ = examples_of(read(tmp_path, photos, RECORD))
    height, width = captions[0].size
    assert captions[0].objects[0].box == pytest.approx((0.25 * width, 0.1 * height, 0.5 * width, 0.6 * height))


def test_all_names_of_a_photo_are_a_list_without_articles(tmp_path: Path, photos: Path) -> None:
    _, (names,) = examples_of(read(tmp_path, photos, RECORD))
    assert [thing.name for thing in names.objects] == ["white cup", "table", "two things", "two things"]
    assert names.caption is None
    assert names.absent == ("dog", "orange")


@pytest.mark.parametrize(
    ("phrase", "name"),
    [("A Dog", "dog"), ("an orange", "orange"), ("its head", "its head"), ("another cup", "another cup"), ("", "")],
)
def test_a_name_has_no_article(phrase: str, name: str) -> None:
    assert bare(phrase) == name


@pytest.mark.parametrize(
    ("record", "message"),
    [
        pytest.param("{", "labels.jsonl, line 2: expected photo, boxes, captions and absent as JSON", id="no JSON"),
        pytest.param("[]", "line 2: expected photo", id="a list"),
        pytest.param(
            {**RECORD, "boxes": {}}, "line 2: 'A white cup' is said to be box 1, which is not in", id="no box"
        ),
        pytest.param({**RECORD, "boxes": {"1": [5, 0, 5, 9]}}, "line 2: box 1 must be .left, top", id="a flat box"),
        pytest.param({**RECORD, "boxes": {"1": [5, 0, 9]}}, "line 2: expected photo", id="three numbers"),
        pytest.param(
            {"photo": "coffee.jpg"}, "line 2: expected photo, boxes, captions and absent", id="no boxes at all"
        ),
    ],
)
def test_a_broken_line_is_named(record: Any, message: str, tmp_path: Path, photos: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, photos, RECORD, record)


def test_an_empty_file_has_no_photos(tmp_path: Path, photos: Path) -> None:
    assert examples_of(read(tmp_path, photos)) == ([], [])


def test_the_label_file_of_the_repository_can_be_read() -> None:
    labelled = read_labels(Path(__file__).resolve().parents[1] / "configs" / "labels" / "photos.jsonl", Path())
    assert len({photo.photo for photo in labelled}) == len(labelled) > 300
    for photo in labelled:
        marked = {name for caption in photo.captions for _, ids in read_marks(caption)[1] for name in ids}
        assert marked == photo.boxes.keys()
