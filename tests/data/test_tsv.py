"""The official code's TSV data sets: pictures in base64, labels as JSON, selected rows."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glip.data.examples import GroundedObject, PackedPicture
from glip.data.readers import read_any
from glip.data.tsv import read_tsv
from glip.errors import DataError, FileError, ImageError

CAPTION = "a red ball on a sofa"


def packed(colour: str, size: tuple[int, int] = (8, 6)) -> str:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def write(folder: Path, *labels: Any, **files: str) -> Path:
    """A data set of pictures of 8 x 6 pixels with these labels; `files` are further entries of the YAML."""
    colours = ("red", "blue", "green")[: len(labels)]
    rows = "".join(f"k{n}\textra\t{packed(colour)}\n" for n, colour in enumerate(colours))
    (folder / "img.tsv").write_text(rows)
    (folder / "label.tsv").write_text("".join(f"k{n}\t{json.dumps(label)}\n" for n, label in enumerate(labels)))
    names = {"img": "img.tsv", "label": "label.tsv"}
    for name, content in files.items():
        (folder / f"{name}.tsv").write_text(content)
        names[name] = f"{name}.tsv"
    (folder / "set.yaml").write_text("".join(f"{name}: {file}\n" for name, file in names.items()))
    return folder / "set.yaml"


def thing(name: str, *rect: float) -> dict[str, Any]:
    return {"class": name, "rect": list(rect)}


def test_a_detection_set_by_hand(tmp_path: Path) -> None:
    labels = [[thing("dog", 1, 2, 5.5, 6)], {"objects": [thing("cat", 0, 0, 2, 2), thing("cat", 3, 3, 3, 5)]}]
    path = write(tmp_path, *labels, hw='k0\t[{"height":6,"width":8}]\nk1\t6 8\n', labelmap="dog\ncat\n")
    first, second = read_tsv(path)
    assert first.size == second.size == (6, 8)
    assert first.objects == (GroundedObject((1, 2, 5.5, 6), "dog"),)
    assert first.absent == ("cat",)
    assert second.objects == (GroundedObject((0, 0, 2, 2), "cat"),)  # the other one has no area
    assert [example.read().getpixel((0, 0)) for example in (first, second)] == [(255, 0, 0), (0, 0, 255)]


def test_sizes_are_read_from_the_pictures_where_no_file_has_them(tmp_path: Path) -> None:
    (example,) = read_tsv(write(tmp_path, []))
    assert example.size == (6, 8)
    assert (example.objects, example.absent) == ((), ())


def test_rows_are_selected_and_may_repeat(tmp_path: Path) -> None:
    labels = [[thing(name, 0, 0, 2, 2)] for name in ("a", "b", "c")]
    examples = read_tsv(write(tmp_path, *labels, linelist="2\n0\n2\n"))
    assert [example.objects[0].name for example in examples] == ["c", "a", "c"]


def test_an_index_of_rows_is_followed(tmp_path: Path) -> None:
    path = write(tmp_path, [thing("a", 0, 0, 2, 2)], [thing("b", 0, 0, 2, 2)])
    first = len((tmp_path / "label.tsv").read_text().split("\n")[0]) + 1
    (tmp_path / "label.lineidx").write_text(f"{first}\n0\n")  # the rows the other way round
    assert [example.objects[0].name for example in read_tsv(path)] == ["b", "a"]


@pytest.mark.parametrize(
    "labelmap", ['{"cat": 1, "dog": 2}', '{"label_to_idx": {"cat": 1, "dog": 2}}', "__background__\ncat\ndog\n"]
)
def test_class_names_may_stand_in(labelmap: str, tmp_path: Path) -> None:
    (example,) = read_tsv(write(tmp_path, [], labelmap=labelmap))
    assert example.absent == ("cat", "dog")


BALL, SOFA = [[0, 10]], [[14, 20]]


@pytest.mark.parametrize(
    "label",
    [
        pytest.param(
            {
                "bboxes": [[0, 0, 2, 2], [1, 1, 4, 4], [2, 2, 6, 6]],
                "tokens_positive": [BALL, BALL, SOFA],
                "scores": [0.9, 0.5, 0.8],
            },
            id="v1: a box each",
        ),
        pytest.param(
            {
                "bboxes": [[[0, 0, 2, 2], [1, 1, 4, 4]], [[2, 2, 6, 6]]],
                "tokens_positive": [BALL, SOFA],
                "scores": [[0.9, 0.5], [0.8]],
            },
            id="v2: boxes of each phrase",
        ),
    ],
)
def test_pseudo_boxes_that_are_sure_enough_are_taken_from(label: dict[str, Any], tmp_path: Path) -> None:
    (example,) = read_tsv(write(tmp_path, {"img_w": 8, "img_h": 6, "caption": CAPTION, **label}))
    assert (example.caption, example.size) == (CAPTION, (6, 8))
    assert example.objects == (
        GroundedObject((0, 0, 2, 2), "a red ball", ((0, 10),)),
        GroundedObject((2, 2, 6, 6), "a sofa", ((14, 20),)),
    )
    assert len(read_tsv(tmp_path / "set.yaml", min_score=0.4)[0].objects) == 3


def test_a_phrase_without_boxes_is_fine(tmp_path: Path) -> None:
    label = {"img_w": 8, "img_h": 6, "caption": CAPTION, "bboxes": [[]], "tokens_positive": [BALL], "scores": [[]]}
    (example,) = read_tsv(write(tmp_path, label))
    assert example.objects == ()


@pytest.mark.parametrize(
    ("label", "message"),
    [
        pytest.param({"class": "dog"}, "expected a list of objects", id="no list"),
        pytest.param([{"rect": [0, 0, 1, 1]}], "expected a list of objects", id="no class"),
        pytest.param([thing("dog", 0, 0, 1)], r"a box must be \[x1, y1, x2, y2\]", id="three numbers"),
        pytest.param({"caption": CAPTION}, "img_h must be at least 1 pixel", id="no size"),
        pytest.param(
            {"caption": CAPTION, "img_w": 8, "img_h": 6, "bboxes": [[0, 0, 1, 1]], "tokens_positive": [], "scores": []},
            "lists of one length",
            id="a box without spans",
        ),
    ],
)
def test_a_row_is_refused_for(label: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"label\.tsv: row 0: .*{message}"):
        read_tsv(write(tmp_path, label))


def test_a_row_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 5: there are 1 labels and 1 pictures only"):
        read_tsv(write(tmp_path, [], linelist="5\n"))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"nowhere\.yaml"):
        read_tsv(tmp_path / "nowhere.yaml")
    path = write(tmp_path, [])
    (tmp_path / "label.tsv").unlink()
    with pytest.raises(FileError, match=r"label\.tsv: no such TSV file"):
        read_tsv(path)


def test_a_row_without_a_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "img.tsv").write_text("k0\tno picture\n")
    with pytest.raises(ImageError, match=r"img\.tsv@0: the row's last column is no picture"):
        PackedPicture(tmp_path / "img.tsv", 0).read()


def test_the_format_is_told_by_the_file(tmp_path: Path) -> None:
    (example,) = read_any(write(tmp_path, [thing("dog", 0, 0, 2, 2)]))
    assert example.objects[0].name == "dog"
