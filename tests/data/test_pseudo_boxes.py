"""What is written is read again as the same boxes, phrases and pictures, whatever the format."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from glip.data.examples import Example, GroundedObject
from glip.data.odvg import read_odvg
from glip.data.pairs import Pair, read_pairs
from glip.data.pseudo_boxes import (
    PseudoExample,
    ScoredPhrase,
    TsvVersion,
    check_pictures,
    files_of,
    write_pseudo_boxes,
)
from glip.data.readers import read_any, read_grounding_json
from glip.data.tsv import read_tsv
from glip.errors import ConfigError

CAPTION = "a red ball on a sofa"
BALL = ScoredPhrase(((0, 10),), ((1.0, 2.0, 3.5, 5.0), (4.0, 0.0, 8.0, 6.0)), (0.9, 0.6))
SOFA = ScoredPhrase(((14, 20),), ((0.0, 3.0, 8.0, 6.0),), (0.7,))
OBJECTS = (
    GroundedObject((1.0, 2.0, 3.5, 5.0), "a red ball", ((0, 10),)),
    GroundedObject((4.0, 0.0, 8.0, 6.0), "a red ball", ((0, 10),)),
    GroundedObject((0.0, 3.0, 8.0, 6.0), "a sofa", ((14, 20),)),
)


@pytest.fixture
def example(tmp_path: Path) -> PseudoExample:
    """The seventh pair: a red picture of 8 x 6 pixels, three boxes of two phrases."""
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 6), "red").save(tmp_path / "photos" / "a.png")
    return PseudoExample(7, Pair("a.png", tmp_path / "photos" / "a.png", CAPTION), (6, 8), (BALL, SOFA))


@pytest.mark.parametrize(
    ("name", "version"),
    [
        pytest.param("p.jsonl", "v2", id="ODVG"),
        pytest.param("p.json", "v2", id="MDETR"),
        pytest.param("p.yaml", "v1", id="TSV v1"),
        pytest.param("p.yaml", "v2", id="TSV v2"),
    ],
)
def test_what_is_written_is_read_again(name: str, version: TsvVersion, tmp_path: Path, example: PseudoExample) -> None:
    write_pseudo_boxes(tmp_path / name, [example], tsv_version=version)
    (read,) = read_any(tmp_path / name, images=tmp_path / "photos")
    assert (read.caption, read.size, read.objects) == (CAPTION, (6, 8), OBJECTS)
    assert read.read().getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        pytest.param("p.jsonl", read_odvg, id="ODVG"),
        pytest.param("p.json", read_grounding_json, id="MDETR"),
        pytest.param("p.yaml", read_tsv, id="TSV"),
    ],
)
def test_nothing_found_is_a_file_without_examples(
    name: str, read: Callable[[Path], list[Example]], tmp_path: Path
) -> None:
    write_pseudo_boxes(tmp_path / name, [])
    assert read(tmp_path / name) == []


def test_an_odvg_region_by_hand(tmp_path: Path, example: PseudoExample) -> None:
    write_pseudo_boxes(tmp_path / "p.jsonl", [example])
    record = json.loads((tmp_path / "p.jsonl").read_text())
    assert record["filename"] == "a.png"
    assert record["grounding"]["regions"][1] == {
        "phrase": "a sofa",
        "tokens_positive": [[14, 20]],
        "bbox": [[0, 3, 8, 6]],
        "scores": [0.7],
    }


def test_both_versions_of_a_tsv_label_by_hand(tmp_path: Path, example: PseudoExample) -> None:
    rows = {}
    for version in ("v1", "v2"):
        write_pseudo_boxes(tmp_path / "p.yaml", [example], tsv_version=version)
        rows[version] = json.loads((tmp_path / "p.label.tsv").read_text().partition("\t")[2])
    assert rows["v1"]["bboxes"] == [[1, 2, 3.5, 5], [4, 0, 8, 6], [0, 3, 8, 6]]
    assert rows["v1"]["scores"] == [0.9, 0.6, 0.7]
    assert rows["v1"]["tokens_positive"] == [[[0, 10]], [[0, 10]], [[14, 20]]]
    assert rows["v2"]["bboxes"] == [[[1, 2, 3.5, 5], [4, 0, 8, 6]], [[0, 3, 8, 6]]]
    assert rows["v2"]["scores"] == [[0.9, 0.6], [0.7]]
    assert rows["v2"]["tokens_positive"] == [[[0, 10]], [[14, 20]]]


def test_pictures_of_a_tsv_file_are_copied_as_they_are(tmp_path: Path, example: PseudoExample) -> None:
    write_pseudo_boxes(tmp_path / "p.yaml", [example])
    (pair,) = read_pairs(tmp_path / "p.yaml")
    again = PseudoExample(7, pair, (6, 8), (BALL, SOFA))
    write_pseudo_boxes(tmp_path / "q.yaml", [again])
    assert (tmp_path / "q.img.tsv").read_bytes() == (tmp_path / "p.img.tsv").read_bytes()
    check_pictures(tmp_path / "q.yaml", [pair])
    with pytest.raises(ConfigError, match=r"cannot name pictures that lie in a TSV file; end the name in \.yaml"):
        check_pictures(tmp_path / "q.jsonl", [pair])


def test_an_ending_without_a_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"end the name in \.jsonl"):
        files_of(tmp_path / "p.txt")
    assert files_of(Path("p.yaml")) == (Path("p.yaml"), Path("p.img.tsv"), Path("p.label.tsv"))


def test_a_sheet_shows_phrases_with_scores(example: PseudoExample) -> None:
    assert [thing.name for thing in example.to_example().objects] == [
        "a red ball 0.90",
        "a red ball 0.60",
        "a sofa 0.70",
    ]
