"""Pictures with captions come as a folder, a table, a TSV data set or a grounding file; each caption is a pair."""

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from glip.data.examples import PackedPicture
from glip.data.pairs import Pair, fingerprint, read_pairs
from glip.errors import DataError, FileError, GlipError


def save_picture(path: Path, colour: str = "red") -> Path:
    Image.new("RGB", (8, 6), colour).save(path)
    return path


def said(path: Path, content: str, **images: Path) -> list[tuple[str, str]]:
    """Names and captions of a file with this content."""
    path.write_bytes(content.encode())
    return [(pair.name, pair.caption) for pair in read_pairs(path, **images)]


def test_a_folder_has_a_text_file_beside_each_picture_with_a_caption_a_line(tmp_path: Path) -> None:
    save_picture(tmp_path / "b.png")
    save_picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a cat\n\n the cat's ball \n")
    (tmp_path / "b.txt").write_text("\ufeffa dog", encoding="utf-8")
    assert read_pairs(tmp_path) == [
        Pair("a.png", tmp_path / "a.png", "a cat"),
        Pair("a.png", tmp_path / "a.png", "the cat's ball"),
        Pair("b.png", tmp_path / "b.png", "a dog"),
    ]


def test_a_picture_without_a_text_file_has_an_empty_caption(tmp_path: Path) -> None:
    save_picture(tmp_path / "a.png")
    save_picture(tmp_path / "b.png")
    (tmp_path / "b.txt").write_text("a dog")
    assert [pair.caption for pair in read_pairs(tmp_path)] == ["", "a dog"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        pytest.param(
            "t.csv", 'a.jpg,"a cat, asleep"\nb.jpg,a dog\n', ["a cat, asleep", "a dog"], id="commas and quotes"
        ),
        pytest.param(
            "t.csv", "id,Caption,path\n7,a cat,a.jpg\n8,a dog,b.jpg\n", ["a cat", "a dog"], id="named columns"
        ),
        pytest.param("t.tsv", 'a.jpg\ta 5" cat\r\nb.jpg\ta dog\r\n', ['a 5" cat', "a dog"], id="tabs and a lone quote"),
        pytest.param("t.tsv", "title\tfilepath\n\na cat\ta.jpg\na dog\tb.jpg", ["a cat", "a dog"], id="an empty line"),
    ],
)
def test_a_table_has_paths_and_captions(name: str, content: str, expected: list[str], tmp_path: Path) -> None:
    assert said(tmp_path / name, content) == list(zip(("a.jpg", "b.jpg"), expected, strict=True))


def test_paths_of_a_table_start_at_its_own_folder_or_the_given_one(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("in/a.jpg,a cat\n/far/b.jpg,a dog\n")
    near, far = read_pairs(tmp_path / "t.csv", images=tmp_path / "photos")
    assert (near.image, far.image) == (tmp_path / "photos" / "in" / "a.jpg", Path("/far/b.jpg"))
    assert read_pairs(tmp_path / "t.csv")[0].image == tmp_path / "in" / "a.jpg"


def test_a_tsv_data_set_brings_its_pictures(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), "blue").save(file, "PNG")
    (tmp_path / "img.tsv").write_text(f"k\t{base64.b64encode(file.getvalue()).decode()}\n" * 3)
    labels = [{"caption": "a cat", "bboxes": []}, "a dog", [{"caption": "a ball"}, "a sofa"]]
    (tmp_path / "label.tsv").write_text("".join(f"k{n}\t{json.dumps(label)}\n" for n, label in enumerate(labels)))
    (tmp_path / "set.yaml").write_text("img: img.tsv\nlabel: label.tsv\n")
    pairs = read_pairs(tmp_path / "set.yaml")
    assert [(p.name, p.caption) for p in pairs] == [
        ("k0", "a cat"),
        ("k1", "a dog"),
        ("k2", "a ball"),
        ("k2", "a sofa"),
    ]
    assert isinstance(pairs[1].image, PackedPicture)
    assert pairs[1].read().getpixel((0, 0)) == (0, 0, 255)


def test_a_grounding_file_gives_its_captions(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "in/a.jpg", "height": 6, "width": 8, "caption": "a cat"}
    content = json.dumps({"images": [image], "annotations": []})
    assert said(tmp_path / "g.json", content) == [("in/a.jpg", "a cat")]
    assert said(tmp_path / "g.json", content, images=tmp_path / "photos") == [("in/a.jpg", "a cat")]


def test_half_a_character_becomes_a_question_mark_and_places_stay(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "a.jpg", "height": 6, "width": 8, "caption": "a \ud800 cat"}
    assert said(tmp_path / "g.json", json.dumps({"images": [image], "annotations": []})) == [("a.jpg", "a ? cat")]


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        pytest.param("t.csv", "", DataError, "no captions in it", id="an empty table"),
        pytest.param("t.csv", "a.jpg,\n", DataError, "no captions in it", id="empty captions only"),
        pytest.param("t.csv", "a.jpg,a cat, asleep\n", DataError, "row 1: expected a path and a caption", id="a comma"),
        pytest.param("t.csv", "path,caption\na.jpg\n", DataError, "row 2: expected a path", id="a row too short"),
        pytest.param("t.md", "a.jpg a cat", DataError, r"pairs come as a folder, \.csv", id="another file"),
        pytest.param(
            "g.json", '{"images": [], "annotations": [], "categories": []}', DataError, "no captions", id="no pictures"
        ),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    name: str, content: str, error: type[GlipError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        said(tmp_path / name, content)


def test_what_is_not_there_or_no_text_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file or folder of pictures"):
        read_pairs(tmp_path / "nothing.csv")
    (tmp_path / "t.csv").write_bytes(b"a.jpg,the se\xf1or\n")
    with pytest.raises(DataError, match="no UTF-8 text"):
        read_pairs(tmp_path / "t.csv")


def test_a_fingerprint_changes_with_names_captions_and_order() -> None:
    cat, dog = Pair("a", Path("a"), "a cat"), Pair("b", Path("b"), "a dog")
    prints = [fingerprint(pairs) for pairs in ([], [cat], [cat, dog], [dog, cat], [Pair("c", Path("a"), "a cat")])]
    assert len(set(prints)) == len(prints)
    assert fingerprint([cat]) == fingerprint([Pair("a", Path("elsewhere/a"), "a cat")])
