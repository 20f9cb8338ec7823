"""What was found in one image: N boxes, N scores, N labels into the caller's own words; a value, checked at birth."""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glip.errors import FileError, ShapeError
from glip.structures.detections import Detections
from glip.structures.masks import masks_of

PHRASES = ("dog", "café 🐱", "dog")


@pytest.fixture
def found() -> Detections:
    """Three boxes: the third phrase, the second, the first."""
    return Detections(
        boxes=torch.tensor([[1.0, 2.0, 4.0, 8.0], [0.0, 0.0, 10.0, 5.0], [3.0, 3.0, 3.0, 4.0]]),
        scores=torch.tensor([0.75, 0.5, 0.25]),
        labels=torch.tensor([2, 1, 0]),
        phrases=PHRASES,
        spans=(((0, 3),), ((5, 11),), ((13, 16),)),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that does not exist yet."""
    return tmp_path / "found.json"


@pytest.mark.parametrize(
    ("boxes", "scores", "labels", "message"),
    [
        pytest.param((4,), (1,), [0], r"boxes must be \(N, 4\) xyxy, got \(4,\)", id="a box without a list"),
        pytest.param((1, 5), (1,), [0], r"boxes must be \(N, 4\)", id="five columns"),
        pytest.param((2, 4), (1,), [0, 0], r"2 boxes need scores \(2,\).* got \(1,\) and \(2,\)", id="a score too few"),
        pytest.param((2, 4), (2, 1), [0, 0], r"2 boxes need scores", id="scores with columns"),
        pytest.param((2, 4), (2,), [0], r"got \(2,\) and \(1,\)", id="a label too few"),
        pytest.param((0, 4), (0,), [0], r"0 boxes need", id="a label without a box"),
        pytest.param((2, 4), (2,), [0, 3], r"index the 3 phrases, got \[0, 3\]", id="a label past the last phrase"),
        pytest.param((2, 4), (2,), [-1, 0], r"index the 3 phrases, got \[-1, 0\]", id="a label below zero"),
    ],
)
def test_fields_that_disagree_are_refused(
    boxes: tuple[int, ...], scores: tuple[int, ...], labels: list[int], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        Detections(torch.zeros(boxes), torch.zeros(scores), torch.tensor(labels), PHRASES)


def test_a_box_needs_a_phrase() -> None:
    with pytest.raises(ShapeError, match="index the 0 phrases"):
        Detections(torch.zeros(1, 4), torch.zeros(1), torch.tensor([0]), ())


def test_fields_cannot_be_changed(found: Detections) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.scores = torch.zeros(3)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("which", "kept"),
    [
        pytest.param(slice(0, 2), [0, 1], id="a slice"),
        pytest.param([2, 0], [2, 0], id="indices in an order of their own"),
        pytest.param(torch.tensor([1]), [1], id="a tensor of indices"),
        pytest.param(torch.tensor([True, False, True]), [0, 2], id="a mask"),
        pytest.param(torch.tensor([False, False, False]), [], id="a mask that keeps nothing"),
        pytest.param([], [], id="no index"),
        pytest.param(slice(5, 9), [], id="a slice past the end"),
    ],
)
def test_some_of_the_boxes(which: torch.Tensor | slice | list[int], kept: list[int], found: Detections) -> None:
    part = found[which]
    rows = torch.tensor(kept, dtype=torch.int64)
    assert len(part) == len(kept)
    torch.testing.assert_close(part.boxes, found.boxes.index_select(0, rows))
    torch.testing.assert_close(part.scores, found.scores.index_select(0, rows))
    torch.testing.assert_close(part.labels, found.labels.index_select(0, rows))
    assert part.phrases == found.phrases
    assert part.spans == found.spans
    assert len(found) == 3


def test_nothing_found() -> None:
    nothing = Detections.empty(PHRASES)
    assert len(nothing) == 0
    assert nothing.phrases == PHRASES
    assert nothing.boxes.shape == (0, 4)
    assert nothing.labels.dtype == torch.int64
    assert nothing.text_labels == []
    assert nothing.to_dicts() == []
    assert nothing.to_coco(7) == []
    assert Detections.empty().phrases == ()


def test_text_labels_are_the_callers_words(found: Detections) -> None:
    assert found.text_labels == ["dog", "café 🐱", "dog"]


def test_to_dicts_is_the_pipelines_format(found: Detections) -> None:
    assert found.to_dicts() == [
        {"score": 0.75, "label": "dog", "box": {"xmin": 1.0, "ymin": 2.0, "xmax": 4.0, "ymax": 8.0}},
        {"score": 0.5, "label": "café 🐱", "box": {"xmin": 0.0, "ymin": 0.0, "xmax": 10.0, "ymax": 5.0}},
        {"score": 0.25, "label": "dog", "box": {"xmin": 3.0, "ymin": 3.0, "xmax": 3.0, "ymax": 4.0}},
    ]


def test_to_coco_has_corner_and_sides(found: Detections) -> None:
    assert found[:1].to_coco(7) == [
        {"image_id": 7, "category_id": 2, "bbox": [1.0, 2.0, 3.0, 6.0], "score": 0.75},
    ]


def test_to_coco_takes_the_files_own_categories(found: Detections) -> None:
    records = found.to_coco(7, category_ids=[90, 17, 3])
    assert [record["category_id"] for record in records] == [3, 17, 90]


def test_to_supervision_keeps_boxes_scores_classes_and_words(found: Detections) -> None:
    converted = found.to_supervision()
    np.testing.assert_array_equal(converted.xyxy, found.boxes.numpy())
    np.testing.assert_array_equal(converted.confidence, [0.75, 0.5, 0.25])
    np.testing.assert_array_equal(converted.class_id, [2, 1, 0])
    assert list(converted.data["class_name"]) == ["dog", "café 🐱", "dog"]


def test_to_supervision_of_nothing_is_empty() -> None:
    assert len(Detections.empty(PHRASES).to_supervision()) == 0


def test_drawing_changes_only_a_copy(found: Detections) -> None:
    image = Image.new("RGB", (40, 30), "white")
    drawn = found.draw(image)
    assert drawn.size == (40, 30)
    assert image.tobytes() == Image.new("RGB", (40, 30), "white").tobytes()
    assert drawn.tobytes() != image.tobytes()


def test_drawing_nothing_gives_an_equal_copy() -> None:
    image = Image.new("RGB", (40, 30), "white")
    drawn = Detections.empty(PHRASES).draw(image)
    assert drawn is not image
    assert drawn.tobytes() == image.tobytes()


def test_saving_writes_the_dicts(found: Detections, path: Path) -> None:
    found.save(str(path))
    assert json.loads(path.read_text(encoding="utf-8")) == found.to_dicts()


def test_saving_nothing_writes_an_empty_list(path: Path) -> None:
    Detections.empty(PHRASES).save(path)
    assert json.loads(path.read_text(encoding="utf-8")) == []


def test_saving_does_not_overwrite(found: Detections, path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(FileError, match=r"found\.json: exists already"):
        found.save(path)
    assert path.read_text() == "precious"


def test_saving_overwrites_when_asked(found: Detections, path: Path) -> None:
    path.write_text("old")
    found.save(path, overwrite=True)
    assert json.loads(path.read_text(encoding="utf-8")) == found.to_dicts()


@pytest.mark.parametrize(
    "name", [pytest.param(".", id="the folder itself"), pytest.param("missing/found.json", id="no such folder")]
)
def test_saving_needs_a_file_in_a_folder(name: str, found: Detections, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"is a folder; give a file|there is no folder"):
        found.save(tmp_path / name, overwrite=True)
    assert list(tmp_path.iterdir()) == []


def test_missing_folders_are_an_oserror_too(found: Detections, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="make it first"):
        found.save(tmp_path / "missing" / "found.json")


def test_too_few_category_ids_are_refused() -> None:
    found = Detections(torch.zeros(1, 4), torch.ones(1), torch.tensor([1]), ("cat", "dog"))
    with pytest.raises(ShapeError, match="one id for each of 2 phrases, got 1"):
        found.to_coco(1, category_ids=[7])


def test_a_phone_photo_is_drawn_the_right_way_up() -> None:
    """Boxes are pixels of the upright picture; the file says in EXIF that it lies on its side."""
    lying = Image.new("RGB", (60, 40), "white")
    lying.getexif()[0x0112] = 6  # turn by 90 degrees
    drawn = Detections(torch.tensor([[5.0, 20.0, 35.0, 55.0]]), torch.ones(1), torch.tensor([0]), ("cat",)).draw(lying)
    assert drawn.size == (40, 60)
    assert drawn.getpixel((20, 55)) != (255, 255, 255)


# --- masks -------------------------------------------------------------------------------------------------------


@pytest.fixture
def masked(found: Detections) -> Detections:
    """The same boxes in a picture of 6 x 5 pixels, each with another mask: the left half, one pixel, nothing."""
    masks = torch.zeros(3, 5, 6, dtype=torch.bool)
    masks[0, :, :3] = True
    masks[1, 4, 5] = True
    return replace(found, masks=masks)


def test_there_are_no_masks_unless_they_are_given(found: Detections) -> None:
    assert found.masks is None
    assert found.segmentations is None
    assert found[:2].masks is None


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        pytest.param(torch.zeros(2, 5, 6).bool(), "3 boxes need 3 masks, got 2", id="a mask too few"),
        pytest.param(torch.zeros(3, 5, 6), r"masks must be \(N, H, W\) bool, got .*float32", id="numbers"),
        pytest.param(torch.zeros(3, 30).bool(), r"masks must be \(N, H, W\) bool, got \(3, 30\)", id="flat masks"),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks: torch.Tensor, message: str, found: Detections) -> None:
    with pytest.raises(ShapeError, match=message):
        replace(found, masks=masks)


@pytest.mark.parametrize("which", [slice(0, 2), [2, 0], torch.tensor([False, True, False]), []], ids=str)
def test_masks_stay_with_their_boxes(which: torch.Tensor | slice | list[int], masked: Detections) -> None:
    part = masked[which]
    assert part.masks is not None
    assert masked.masks is not None
    rows = torch.arange(3)[which]
    assert torch.equal(part.masks, masked.masks.index_select(0, rows))


def test_records_have_each_masks_run_lengths(masked: Detections) -> None:
    runs = masked.segmentations
    assert runs is not None
    assert all(run["size"] == [5, 6] for run in runs)
    assert [record["segmentation"] for record in masked.to_coco(7)] == runs
    assert [record["segmentation"] for record in masked.to_dicts()] == runs
    assert masked.masks is not None
    assert torch.equal(masks_of(runs, (5, 6)), masked.masks)
    assert masked[:0].to_coco(7) == []


def test_saved_masks_are_read_again(masked: Detections, path: Path) -> None:
    masked.save(path)
    runs = [record["segmentation"] for record in json.loads(path.read_text(encoding="utf-8"))]
    assert masked.masks is not None
    assert torch.equal(masks_of(runs, (5, 6)), masked.masks)


def test_to_supervision_keeps_masks(masked: Detections) -> None:
    assert masked.masks is not None
    np.testing.assert_array_equal(masked.to_supervision().mask, masked.masks.numpy())
    assert masked.masks.any()


def test_masks_shine_on_the_drawn_picture() -> None:
    mask = torch.zeros(1, 30, 40, dtype=torch.bool)
    mask[0, 20:28, 30:38] = True
    found = Detections(torch.tensor([[1.0, 1.0, 5.0, 5.0]]), torch.ones(1), torch.tensor([0]), ("cat",), masks=mask)
    image = Image.new("RGB", (40, 30), "white")
    with_masks, without = found.draw(image), replace(found, masks=None).draw(image)
    assert without.getpixel((34, 24)) == (255, 255, 255)
    assert with_masks.getpixel((34, 24)) == (128, 184, 216)  # half white, half the first colour, #0072B2
    assert with_masks.getpixel((34, 29)) == (255, 255, 255)


def test_masks_are_not_drawn_on_another_picture(masked: Detections) -> None:
    with pytest.raises(ShapeError, match="masks are of a picture of 6 x 5 pixels, got one of 40 x 30; draw on the"):
        masked.draw(Image.new("RGB", (40, 30)))
