"""The report is one file that needs nothing else, says the numbers of a hand-made case, and escapes every name."""

import base64
import copy
import io
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor

from glip.errors import ConfigError, DataError, FileError
from glip.evaluation.coco import coco_metrics
from glip.evaluation.error_report import COLOURS, MAX_LISTED, NUM_CURVES, pr_curve_svg, write_error_report
from glip.structures.drawing import PALETTE

CAT, DOG, OWL, CROWDED = 1, 2, 3, 4
LEFT, RIGHT, CORNER = [10, 20, 40, 40], [110, 20, 40, 40], [160, 80, 30, 15]  # xywh; do not overlap
DASH = "\N{EN DASH}"  # for what is not defined
VOID = {"img", "meta", "rect", "polyline"}


class Page(HTMLParser):
    """What a reader of the page finds.

    Attributes:
        tables: rows of cells of each table.
        figures: text of each figure's caption.
        numbers: of the headline, each with its name behind it.
        pictures: `src` of each image.
        charts: how many.
        tags: of every element.
        text: all of it.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.figures: list[str] = []
        self.numbers: list[str] = []
        self.pictures: list[str] = []
        self.charts = 0
        self.tags: set[str] = set()
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin what the element is collected in."""
        self.tags.add(tag)
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "figcaption":
            self.figures.append("")
        elif tag == "li":
            self.numbers.append("")
        elif tag == "img":
            assert {name for name, _ in attrs} == {"src", "width", "height", "alt"}
            self.pictures.append(dict(attrs)["src"] or "")
        elif tag == "svg":
            self.charts += 1

    def handle_endtag(self, tag: str) -> None:
        """Check that elements are closed in order."""
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect text."""
        self.text += data
        if {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += data
        elif "figcaption" in self._open:
            self.figures[-1] += data
        elif "li" in self._open:
            self.numbers[-1] += data

    def picture(self, index: int) -> Image.Image:
        """A picture of the page, decoded."""
        start, code = self.pictures[index].split(",")
        assert start == "data:image/jpeg;base64"
        return Image.open(io.BytesIO(base64.b64decode(code)))


def truth(bbox: list[int], category_id: int, image_id: int, *, iscrowd: int = 0) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox} | ({"iscrowd": 1} if iscrowd else {})


def result(bbox: list[int], category_id: int, score: float, image_id: int) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}


def annotated(*truths: dict[str, Any], names: tuple[str, ...] = ("cat", "dog", "owl", "bee")) -> dict[str, Any]:
    """Three images of 200 x 100 pixels."""
    return {
        "images": [{"id": number, "file_name": f"{number}.jpg", "width": 200, "height": 100} for number in (1, 2, 3)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
        "annotations": list(truths),
    }


ZOO = annotated(
    truth(LEFT, CAT, 1),
    truth(RIGHT, DOG, 1),
    truth(LEFT, CAT, 2),
    truth(RIGHT, CAT, 2),
    truth(LEFT, CAT, 3),
    truth(RIGHT, CROWDED, 3, iscrowd=1),
)
FOUND = [
    result(LEFT, CAT, 0.9, 1),  # right
    result(LEFT, CAT, 0.8, 1),  # duplicate
    result(RIGHT, CAT, 0.7, 1),  # wrong word: the dog
    result(RIGHT, OWL, 0.6, 1),  # wrong word: the dog
    result([10, 20, 40, 10], CAT, 0.55, 2),  # bad box: IoU 0.25
    result(CORNER, DOG, 0.5, 2),  # background
    result(LEFT, CAT, 0.6, 3),  # right
    result(RIGHT, CROWDED, 0.9, 3),  # in the crowd: left out
    result(RIGHT, CAT, 0.4, 2),  # right, but below the threshold
]


def write(path: Path, **changes: Any) -> str:
    """Write a report of the zoo, or what is changed of it, and read it."""
    arguments = {"annotations": ZOO, "results": FOUND, "images": None, "threshold": 0.5, "title": "Zoo"} | changes
    write_error_report(path, **arguments)
    return path.read_text(encoding="utf-8")


@pytest.fixture
def page_path(tmp_path: Path) -> Path:
    return tmp_path / "report.html"


def test_the_headline_by_hand(page_path: Path) -> None:
    """7 detections, 2 of them right, of 5 true boxes; AP is that of COCO, of cats and dogs."""
    page = Page(write(page_path))
    expected = coco_metrics({**ZOO, "annotations": with_areas(ZOO)}, [dict(record) for record in FOUND])
    assert page.numbers == [
        "3images",
        "5true boxes",
        "7detections of a score of at least 0.5",
        "0.286precision",
        "0.400recall",
        f"{expected['AP']:.3f}AP",
        f"{expected['AP50']:.3f}AP50",
    ]
    assert [row[:2] for row in page.tables[0]] == [
        ["right", "2"],
        ["duplicate", "1"],
        ["wrong word", "2"],
        ["bad box", "1"],
        ["background", "1"],
        ["missed", "3"],
    ]


def with_areas(annotations: dict[str, Any]) -> list[dict[str, Any]]:
    """The annotations as coco_metrics wants them."""
    return [
        {"iscrowd": 0, **record, "id": number, "area": record["bbox"][2] * record["bbox"][3]}
        for number, record in enumerate(annotations["annotations"], start=1)
    ]


def test_the_class_table_by_hand(page_path: Path) -> None:
    """Cats by score: right, duplicate, wrong, right, bad, right: precision 1, 1/2, 1/2 up to recalls 1/4, 2/4, 3/4."""
    cat = f"{(26 + 50 * 0.5) / 101:.3f}"  # 26 recalls up to 0.25, 50 up to 0.75
    assert Page(write(page_path)).tables[1] == [
        ["class", "true boxes", "AP", "AP50", "right", "duplicate", "wrong word", "bad box", "background", "missed"],
        ["dog", "1", "0.000", "0.000", "0", "0", "0", "0", "1", "1"],
        ["cat", "4", cat, cat, "2", "1", "1", "1", "0", "2"],
        ["owl", "0", DASH, DASH, "0", "0", "1", "0", "0", "0"],
        ["bee", "0", DASH, DASH, "0", "0", "0", "0", "0", "0"],
    ]


def test_confusions_are_counted(page_path: Path) -> None:
    results = [*FOUND, result(RIGHT, OWL, 0.9, 1)]
    assert Page(write(page_path, results=results)).tables[2] == [
        ["confusion", "detections"],
        ["said owl, is dog", "2"],
        ["said cat, is dog", "1"],
    ]


def test_images_with_most_errors_come_first(page_path: Path) -> None:
    """Image 1 and 2 have four errors each, image 3 has none."""
    assert Page(write(page_path)).figures[-2:] == [
        "1.jpg, 4 errors: missed: dog; duplicate: cat 0.80; wrong word: cat 0.70; wrong word: owl 0.60",
        "2.jpg, 4 errors: missed: cat (x 2); bad box: cat 0.55; background: dog 0.50",
    ]
    higher = Page(write(page_path, threshold=0.85, overwrite=True))
    assert [line[:17] for line in higher.figures[-3:]] == [
        "2.jpg, 2 errors: ",
        "1.jpg, 1 error: m",
        "3.jpg, 1 error: m",
    ]


def test_so_many_images_are_shown_as_asked(page_path: Path) -> None:
    page = Page(write(page_path, num_worst=1))
    assert "1.jpg" in page.text
    assert "2.jpg" not in page.text


def test_a_line_of_many_errors_is_cut(page_path: Path) -> None:
    results = [result(CORNER, OWL, 0.5 + index / 100, 1) for index in range(MAX_LISTED + 3)]
    line = Page(write(page_path, annotations=annotated(), results=results)).figures[-1]
    assert line.startswith(f"1.jpg, {MAX_LISTED + 3} errors: background: owl 0.92; background: owl 0.91;")
    assert line.endswith("background: owl 0.53; and 3 more")


def test_charts_are_the_mean_and_the_classes_of_most_true_boxes(page_path: Path) -> None:
    page = Page(write(page_path))
    assert page.charts == 3
    assert [line.split(":")[0] for line in page.figures[:3]] == ["mean of 2 classes", "cat", "dog"]


def test_at_most_thirty_classes_have_charts(page_path: Path) -> None:
    names = tuple(f"class {number}" for number in range(1, 42))
    truths = [truth(LEFT, number, 1 + number % 3) for number in range(1, 42)]
    page = Page(write(page_path, annotations=annotated(*truths, truth(RIGHT, 41, 1), names=names)))
    assert page.charts == 1 + NUM_CURVES
    assert page.figures[0].startswith("mean of 41 classes")
    assert page.figures[1].startswith("class 41:")


def test_a_chart_by_hand() -> None:
    svg = pr_curve_svg(np.array([1.0, 0.5, 0.0]), label="cat & dog")
    assert 'points="0.0,0.0 80.0,50.0 160.0,100.0"' in svg
    assert "<title>cat &amp; dog: AP50 0.500</title>" in svg
    assert "<figcaption>cat &amp; dog: AP50 0.500</figcaption>" in svg


@pytest.mark.parametrize(
    ("annotations", "results", "said"),
    [
        pytest.param(
            ZOO, [], ["5true boxes0detections", "0.000recall", "0.000AP50", "None: no detection is on"], id="no result"
        ),
        pytest.param(
            annotated(),
            FOUND,
            ["0true boxes", f"0.000precision{DASH}recall", "No class has true boxes"],
            id="no true box",
        ),
        pytest.param(
            annotated(), [], [f"{DASH}precision{DASH}recall{DASH}AP{DASH}AP50", "no image has an error"], id="neither"
        ),
        pytest.param(
            {"images": [], "categories": [], "annotations": []}, [], ["0images0true boxes"], id="not even an image"
        ),
    ],
)
def test_a_page_of(
    annotations: dict[str, Any], results: list[dict[str, Any]], said: list[str], page_path: Path
) -> None:
    page = Page(write(page_path, annotations=annotations, results=results))
    assert [text for text in said if text not in page.text] == []


def test_average_precision_is_that_of_coco_metrics(page_path: Path) -> None:
    """60 jittered detections of 40 boxes of three classes, some of which are crowds."""
    random = np.random.default_rng(0)
    corners = random.integers(0, 60, (40, 2))
    truths = [
        truth([int(x), int(y), 30, 30], int(random.integers(1, 4)), int(random.integers(1, 4)), iscrowd=index % 5 == 0)
        for index, (x, y) in enumerate(corners)
    ]
    results = []
    for index in random.integers(0, 40, 60).tolist():
        x, y = (corners[index] + random.integers(-6, 7, 2)).tolist()
        known = truths[index]
        results.append(result([x, y, 30, 30], known["category_id"], float(random.random()), known["image_id"]))
    annotations = annotated(*truths)
    expected = coco_metrics({**annotations, "annotations": with_areas(annotations)}, copy.deepcopy(results))
    assert 0.1 < expected["AP"] < expected["AP50"] < 0.9
    numbers = Page(write(page_path, annotations=annotations, results=results)).numbers
    assert numbers[-2:] == [f"{expected['AP']:.3f}AP", f"{expected['AP50']:.3f}AP50"]


def test_only_what_is_in_the_file_is_needed(page_path: Path, tmp_path: Path) -> None:
    Image.new("RGB", (200, 100), "white").save(tmp_path / "1.jpg")
    html = write(page_path, images=tmp_path)
    assert not {"script", "link", "iframe", "object", "a"} & Page(html).tags
    assert re.findall(r"https?:|url\(|@import|\bsrc=\"(?!data:)|\bhref=", html) == []


def test_every_name_is_escaped(page_path: Path, tmp_path: Path) -> None:
    names = ('<script>alert("cat")</script>', "dog & co", "<i>owl</i>", "bee")
    annotations = annotated(*ZOO["annotations"], names=names)
    annotations["images"][0]["file_name"] = '<b>1</b" id="1.png'
    (tmp_path / "<b>1<").mkdir()
    Image.new("RGB", (200, 100), "white").save(tmp_path / "<b>1<" / 'b" id="1.png')
    page = Page(write(page_path, annotations=annotations, images=tmp_path, title="<h3>Zoo</h3>"))
    assert not {"script", "i", "h3"} & page.tags
    assert len(page.pictures) == 1
    assert page.text.count("<h3>Zoo</h3>") == 2
    assert '<b>1</b" id="1.png' in page.text
    assert f"said <i>owl</i>, is {names[1]}" in page.text
    assert {row[0] for row in page.tables[1][1:]} == set(names)


def ink_at(picture: Image.Image, where: tuple[int, int]) -> str:
    """The kind whose colour a pixel has, as far as JPEG keeps it; else "none"."""
    pixel = np.array(picture.convert("RGB").getpixel(where), np.float64)
    for kind, colour in COLOURS.items():
        if np.abs(pixel - ImageColor.getrgb(PALETTE[colour])).max() < 60:
            return kind
    return "none"


def test_boxes_are_drawn_in_the_colours_of_their_kinds(page_path: Path, tmp_path: Path) -> None:
    """A picture of 1280 x 640 is halved; each box is found at half its place."""
    Image.new("RGB", (1280, 640), "white").save(tmp_path / "1.jpg")
    annotations = annotated(truth([200, 200, 200, 400], CAT, 1), truth([600, 200, 200, 400], DOG, 1))
    results = [result([200, 200, 200, 400], CAT, 0.9, 1), result([1000, 200, 200, 400], CAT, 0.9, 1)]
    page = Page(write(page_path, annotations=annotations, results=results, images=tmp_path))
    picture = page.picture(0)
    assert picture.size == (640, 320)
    places = [(100, 200), (300, 200), (500, 200), (150, 200)]  # on the left edges, and inside the first
    assert [ink_at(picture, place) for place in places] == ["right", "missed", "background", "none"]


def test_of_too_many_boxes_the_errors_are_drawn(
    page_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glip.evaluation.error_report.MAX_DRAWN", 1)
    Image.new("RGB", (200, 100), "white").save(tmp_path / "1.jpg")
    results = [result([20, 40, 60, 50], CAT, 0.9, 1), result([120, 40, 60, 50], CAT, 0.8, 1)]
    annotations = annotated(truth([20, 40, 60, 50], CAT, 1))
    picture = Page(write(page_path, annotations=annotations, results=results, images=tmp_path)).picture(0)
    assert [ink_at(picture, place) for place in [(120, 70), (20, 70)]] == ["background", "none"]


def test_a_small_picture_keeps_its_size_and_may_have_a_box_of_negative_sides(page_path: Path, tmp_path: Path) -> None:
    Image.new("RGB", (200, 100), "white").save(tmp_path / "1.jpg")
    page = Page(write(page_path, results=[result([50, 50, -5, -5], CAT, 0.9, 1)], images=str(tmp_path)))
    assert page.picture(0).size == (200, 100)


@pytest.mark.parametrize("content", [pytest.param(None, id="missing"), pytest.param(b"no picture", id="no picture")])
def test_a_picture_that_cannot_be_read_leaves_its_line(content: bytes | None, page_path: Path, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "1.jpg").write_bytes(content)
    Image.new("RGB", (200, 100), "white").save(tmp_path / "2.jpg")
    page = Page(write(page_path, images=tmp_path))
    assert len(page.pictures) == 1
    assert [line[:5] for line in page.figures[-2:]] == ["1.jpg", "2.jpg"]


def test_without_a_folder_there_are_no_pictures(page_path: Path) -> None:
    assert Page(write(page_path)).pictures == []


def test_a_file_that_exists_is_only_replaced_if_asked(page_path: Path) -> None:
    page_path.write_text("mine")
    with pytest.raises(FileError, match="exists already"):
        write(page_path)
    assert page_path.read_text() == "mine"
    assert "Zoo" in write(page_path, overwrite=True)


@pytest.mark.parametrize("name", ["", "nowhere/report.html"])
def test_a_path_that_cannot_be_written_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"is a folder; give a file|there is no folder"):
        write(tmp_path / name, overwrite=True)


def test_an_unknown_category_is_refused_and_nothing_written(page_path: Path) -> None:
    with pytest.raises(DataError, match=r"results\[0\]: category 9"):
        write(page_path, results=[result(LEFT, 9, 0.9, 1)])
    assert not page_path.exists()


def test_without_pycocotools_the_cure_is_named(page_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(ConfigError, match=r"needs pycocotools: pip install 'glip-for-everyone\[train\]'"):
        write(page_path)


def test_inputs_stay_and_nothing_is_printed(page_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = copy.deepcopy((ZOO, FOUND))
    write(page_path)
    assert before == (ZOO, FOUND)
    assert capsys.readouterr() == ("", "")
