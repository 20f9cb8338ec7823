"""A mask follows its picture: mirrored, cut and resized, whether it is an outline, run lengths or pixels."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from glip.data.instance_masks import InstanceMask
from glip.errors import DataError
from glip.structures.masks import encode_masks

SIZE = (6, 8)  # (height, width)
OUTLINE = [[1, 1, 4, 1, 4, 5, 1, 5]]  # columns 1 to 3, rows 1 to 4


def pixels() -> Tensor:
    """The same thing as `OUTLINE`."""
    mask = torch.zeros(1, *SIZE, dtype=torch.bool)
    mask[0, 1:5, 1:4] = True
    return mask


KINDS: dict[str, Any] = {"an outline": OUTLINE, "run lengths": encode_masks(pixels())[0], "pixels": pixels()[0].numpy()}


@pytest.fixture(params=list(KINDS))
def mask(request: pytest.FixtureRequest) -> InstanceMask:
    return InstanceMask(KINDS[request.param], SIZE, "a.json: annotation 3")


def extent(mask: InstanceMask, size: tuple[int, int] = SIZE) -> tuple[list[int], list[int]]:
    """Rows and columns that have a pixel."""
    drawn = mask.draw(size)
    assert drawn.shape == size
    assert drawn.dtype == torch.bool
    return drawn.any(dim=1).nonzero().flatten().tolist(), drawn.any(dim=0).nonzero().flatten().tolist()


def test_a_mask_is_drawn_as_it_stands(mask: InstanceMask) -> None:
    assert torch.equal(mask.draw(SIZE), pixels()[0])


def test_a_mirror_image_turns_columns_round(mask: InstanceMask) -> None:
    assert extent(mask.mirrored()) == ([1, 2, 3, 4], [4, 5, 6])
    assert torch.equal(mask.mirrored().mirrored().draw(SIZE), pixels()[0])


def test_a_cut_starts_counting_at_its_corner(mask: InstanceMask) -> None:
    """The window has columns 2 to 6 and rows 0 to 2; the thing is cut on two sides."""
    assert extent(mask.cut((2, 0, 7, 3)), (3, 5)) == ([1, 2], [0, 1])


def test_twice_the_size_is_twice_the_mask(mask: InstanceMask) -> None:
    assert extent(mask, (12, 16)) == ([2, 3, 4, 5, 6, 7, 8, 9], [2, 3, 4, 5, 6, 7])


def test_a_thing_outside_the_window_has_no_pixel(mask: InstanceMask) -> None:
    assert extent(mask.cut((5, 0, 8, 6)), (6, 3)) == ([], [])


def test_a_mirrored_cut_is_the_cut_of_the_mirror_image() -> None:
    """Random outlines, drawn at another size."""
    draw = np.random.default_rng(0)
    for _ in range(20):
        outline = [draw.uniform(0, 40, 12).tolist()]
        mask = InstanceMask(outline, (40, 40))
        one = mask.mirrored().cut((5, 3, 30, 33)).draw((60, 50))
        other = mask.cut((10, 3, 35, 33)).mirrored().draw((60, 50))
        assert (one != other).float().mean() < 0.02


@pytest.mark.parametrize(
    "segmentation",
    [["a"], [[1, 2, 3]], [[1, 1, 2, 2]], {"size": [6, 8], "counts": [1, 2]}, {"size": [9, 9], "counts": [81]}],
    ids=["a word", "half a corner", "two corners", "too few pixels", "another size"],
)
def test_what_is_no_mask_is_named_when_it_is_drawn(segmentation: Any) -> None:
    with pytest.raises(DataError, match=r"a\.json: annotation 3: segmentation"):
        InstanceMask(segmentation, SIZE, "a.json: annotation 3").draw(SIZE)
