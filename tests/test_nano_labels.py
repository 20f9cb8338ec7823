"""Photos labelled by eye: marks in captions become phrases with boxes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from glip.errors import DataError, FileError
from tools.nano_labels import LabelledPhoto, name_of, read_labels, read_marks

CUP = [250, 100, 500, 600]
RECORD: dict[str, Any] = {
    "photo": "coffee.jpg",
    "boxes": {"1": CUP, "2": [0, 0, 1000, 1000], "3": [500, 500, 600, 600]},
    "captions": ["[1:A white cup] stands on [2:a table].", "[1, 3:The two things] are there."],
    "absent": ["a dog", "an orange", "his hat"],
}


def read(tmp_path: Path, photos: Path, *records: Any) -> list[LabelledPhoto]:
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
    (photo,) = read(tmp_path, photos, RECORD)
    first, second = photo.captioned()
    assert [first.caption, second.caption] == ["A white cup stands on a table.", "The two things are there."]
    assert [(thing.name, thing.spans) for thing in first.objects] == [
        ("A white cup", ((0, 11),)),
        ("a table", ((22, 29),)),
    ]
    assert [thing.name for thing in second.objects] == ["The two things"] * 2
    assert first.absent == ("a dog", "an orange", "his hat")


def test_boxes_are_thousandths_of_the_photos_sides(tmp_path: Path, photos: Path) -> None:
    (photo,) = read(tmp_path, photos, RECORD)
    example = photo.captioned()[0]
    height, width = example.size
    assert example.objects[0].box == pytest.approx((0.25 * width, 0.1 * height, 0.5 * width, 0.6 * height))


def test_a_list_names_single_things_once_and_without_articles(tmp_path: Path, photos: Path) -> None:
    captions = [*RECORD["captions"], "[1:a white cup], [3:its saucer] and [3:the spoon]"]
    (photo,) = read(tmp_path, photos, {**RECORD, "captions": captions})
    names = photo.listed()
    assert [thing.name for thing in names.objects] == ["white cup", "table", "spoon"]
    assert names.caption is None
    assert names.absent == ("dog", "orange")


@pytest.mark.parametrize(
    ("phrase", "name"),
    [
        ("A Dog", "dog"),
        ("an orange", "orange"),
        ("the left plant", "left plant"),
        ("another cup", None),
        ("one of his hands", None),
        ("its head", None),
        ("two headlights", None),
        ("the man's hat", "man's hat"),
        ("Giraffe's neck", None),
        ("twofold door", "twofold door"),
        ("", ""),
    ],
)
def test_a_name_has_no_article_and_is_of_a_kind_of_thing(phrase: str, name: str | None) -> None:
    assert name_of(phrase) == name


@pytest.mark.parametrize(
    ("record", "message"),
    [
        pytest.param("{", "labels.jsonl, line 2: Invalid JSON", id="no JSON"),
        pytest.param([], "line 2: Input should be an object", id="a list"),
        pytest.param({**RECORD, "boxes": {}}, "line 2: .*'A white cup' is said to be box 1, which is not", id="no box"),
        pytest.param({**RECORD, "boxes": {"1": [5, 0, 5, 9]}}, "line 2: .*box 1 must be .left, top", id="a flat box"),
        pytest.param({**RECORD, "boxes": {"1": [5, 0, 9]}}, "line 2: boxes.1.3: Field required", id="three numbers"),
        pytest.param(
            {**RECORD, "boxes": {"1": [5, 0, 9, 1001]}}, "line 2: boxes.1.3: Input should be less", id="outside"
        ),
        pytest.param({**RECORD, "boxes": [CUP]}, "line 2: boxes: Input should be an object", id="boxes without ids"),
        pytest.param({**RECORD, "captions": "[1:a]"}, "line 2: captions: Input should be", id="one caption, no list"),
        pytest.param({**RECORD, "captions": []}, "line 2: captions: .*at least 1", id="no caption"),
        pytest.param(
            {**RECORD, "captions": ["[1:a cup [2:on a table]]"]}, "line 2: .*must read .ids:words", id="nested"
        ),
        pytest.param({**RECORD, "captions": ["[1: a cup]"]}, "line 2: .*without spaces", id="a space in a mark"),
        pytest.param({**RECORD, "captions": ["[1 a cup]"]}, "line 2: .*must read .ids:words", id="no colon in a mark"),
        pytest.param({**RECORD, "absent": "dog"}, "line 2: absent: Input should be", id="one absent phrase, no list"),
        pytest.param(
            {**RECORD, "absent": [3]}, "line 2: absent.0: Input should be a valid string", id="an absent number"
        ),
        pytest.param({**RECORD, "names": {}}, "line 2: names: Extra inputs", id="an unknown field"),
        pytest.param({"photo": "coffee.jpg"}, "line 2: boxes: Field required", id="no boxes at all"),
    ],
)
def test_a_broken_line_is_named(record: Any, message: str, tmp_path: Path, photos: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, photos, RECORD, record)


def test_empty_lines_are_none(tmp_path: Path, photos: Path) -> None:
    assert len(read(tmp_path, photos, "", RECORD, " ")) == 1


def test_a_file_without_photos_is_refused(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(DataError, match="no labelled photo in it"):
        read(tmp_path, photos)


def test_a_missing_file_is_refused(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        read_labels(tmp_path / "labels.jsonl", photos)


def test_the_label_file_of_the_repository_can_be_read() -> None:
    labelled = read_labels(Path(__file__).resolve().parents[1] / "configs" / "labels" / "photos.jsonl", Path())
    assert len({photo.photo for photo in labelled}) == len(labelled) > 600
    for photo in labelled:
        marked = {name for caption in photo.captions for _, ids in read_marks(caption)[1] for name in ids}
        assert marked == photo.boxes.keys()


def test_nothing_in_the_label_file_changes_its_meaning_in_a_mirror() -> None:
    labelled = read_labels(Path(__file__).resolve().parents[1] / "configs" / "labels" / "photos.jsonl", Path())
    adverb = re.compile(r"(?<!the )(?<!far )(?<!upper )(?<!lower )\bright (?:behind|above|below|next|on top|under)\b")
    assert [caption for photo in labelled for caption in photo.captions if adverb.search(read_marks(caption)[0])] == []
