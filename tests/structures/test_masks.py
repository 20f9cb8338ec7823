"""Masks are (N, H, W) bool; COCO's run lengths go down the columns and start with the background."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from glip.errors import DataError, ShapeError
from glip.structures.masks import encode_masks, mask_boxes, masks_of, union_of


def drawn(*rows: str) -> torch.Tensor:
    """A mask from rows of dots and hashes."""
    return torch.tensor([[letter == "#" for letter in row] for row in rows])


STEP = drawn("#..", "##.")  # columns from the left: ##, .#, ..


def test_a_mask_is_written_as_size_and_a_string() -> None:
    (rle,) = encode_masks(STEP[None])
    assert rle["size"] == [2, 3]
    assert json.loads(json.dumps(rle)) == rle


def test_run_lengths_go_down_the_columns_and_start_with_the_background() -> None:
    plain = {"size": [2, 3], "counts": [0, 2, 1, 1, 2]}
    torch.testing.assert_close(masks_of([plain], (2, 3)), STEP[None])


def test_decoding_undoes_encoding() -> None:
    masks = torch.rand(5, 37, 23, generator=torch.Generator().manual_seed(0)) > 0.6
    masks[3] = False
    torch.testing.assert_close(masks_of(encode_masks(masks), (37, 23)), masks)


def test_pycocotools_writes_the_same_strings() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    for seed, size in enumerate([(61, 47), (200, 300), (1, 1), (3, 500)]):
        soft = torch.rand(4, *size, generator=torch.Generator().manual_seed(seed))
        masks = torch.cat([soft > 0.5, soft > 0.97, soft > 0.02, soft > 2])
        columns = np.asfortranarray(masks.permute(1, 2, 0).numpy().astype(np.uint8))
        theirs = [{**rle, "counts": rle["counts"].decode("ascii")} for rle in coco.encode(columns)]
        assert encode_masks(masks) == theirs
        torch.testing.assert_close(masks_of(theirs, size), masks)


def test_no_masks_are_no_run_lengths_and_back() -> None:
    assert encode_masks(torch.zeros(0, 4, 5, dtype=torch.bool)) == []
    assert masks_of([], (4, 5)).shape == (0, 4, 5)


def test_a_thing_of_two_polygons_is_filled_in_both() -> None:
    left, right = [0, 0, 2, 0, 2, 2, 0, 2], [4, 1, 6, 1, 6, 3, 4, 3]
    masks = masks_of([[left, right], [right]], (3, 6))
    torch.testing.assert_close(masks[0], drawn("##....", "##..##", "....##"))
    torch.testing.assert_close(masks[1], drawn("......", "....##", "....##"))


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        pytest.param([[0, 0, 4, 4]], "at least three corners", id="two corners, which is a box"),
        pytest.param([[0, 0, 4, 4, 1, 2, 3]], "at least three corners", id="an odd number of numbers"),
        pytest.param([[0, 0, 4, float("nan"), 1, 2]], "at least three corners", id="no number"),
        pytest.param([], "must be polygons", id="nothing"),
        pytest.param(None, "must be polygons", id="null"),
        pytest.param({"size": [3, 2], "counts": [6]}, r"\[height, width\] \[2, 3\]", id="another size"),
        pytest.param({"size": [2, 3], "counts": [4, 1]}, "add up to 6 pixels", id="too few pixels"),
        pytest.param({"size": [2, 3], "counts": 6}, "string or a list", id="a number"),
        pytest.param({"size": [2, 3], "counts": "~!"}, "string or a list", id="letters that mean nothing"),
        pytest.param({"size": [2, 3], "counts": "o"}, "cut short", id="a string that is cut short"),
        pytest.param({"counts": [6]}, "size", id="without a size"),
    ],
)
def test_a_segmentation_is_refused_that_is(segmentation: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        masks_of([segmentation], (2, 3))


def test_the_union_is_where_any_mask_is() -> None:
    torch.testing.assert_close(union_of(torch.stack([STEP, drawn("..#", "...")])), drawn("#.#", "##."))
    assert not union_of(torch.zeros(0, 2, 3, dtype=torch.bool)).any()


def test_a_box_is_tight_and_its_far_edges_are_exclusive() -> None:
    masks = torch.stack([STEP, drawn("...", "..#"), drawn("...", "...")])
    expected = torch.tensor([[0.0, 0.0, 2.0, 2.0], [2.0, 1.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(mask_boxes(masks), expected)
    assert mask_boxes(masks[:0]).shape == (0, 4)


@pytest.mark.parametrize("masks", [torch.ones(2, 3, dtype=torch.bool), torch.ones(1, 2, 3)], ids=["(H, W)", "float"])
def test_masks_of_another_form_are_refused(masks: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match=r"must be \(N, H, W\) bool"):
        encode_masks(masks)
