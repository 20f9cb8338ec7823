"""Masks are cut to boxes and pasted back, in pixels of the image."""

import math

import pytest
import torch
from torch import Tensor

from glip.detection.masks import crop_masks, mask_loss, paste_masks
from glip.errors import ShapeError


def left_half(height: int, width: int) -> Tensor:
    """`(1, height, width)`, True on the left."""
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    mask[..., : width // 2] = True
    return mask


def test_a_cut_of_the_whole_image_is_the_resized_mask() -> None:
    found = crop_masks(left_half(8, 8), torch.tensor([[0.0, 0.0, 8.0, 8.0]]), 4)
    assert found.tolist() == [[[1, 1, 0, 0]] * 4]


def test_a_cut_shows_what_is_in_its_box_and_nothing_beyond_the_image() -> None:
    """The box starts in the middle of the left half and ends far outside below."""
    found = crop_masks(left_half(8, 8), torch.tensor([[2.0, 4.0, 6.0, 12.0]]), 2)
    assert found.tolist() == [[[1, 0], [0, 0]]]


def test_nothing_is_cut_from_no_mask() -> None:
    assert crop_masks(torch.zeros(0, 8, 8).bool(), torch.zeros(0, 4), 4).shape == (0, 4, 4)


def test_pasting_fills_the_box_and_nothing_else() -> None:
    found = paste_masks(torch.ones(1, 4, 4), torch.tensor([[1.0, 2.0, 4.0, 6.0]]), (8, 10))
    assert found.shape == (1, 8, 10)
    assert found.nonzero()[:, 1].unique().tolist() == [2, 3, 4, 5]
    assert found.nonzero()[:, 2].unique().tolist() == [1, 2, 3]
    assert found.sum() == 12


@pytest.mark.parametrize("box", [[2.0, 2.0, 2.0, 6.0], [20.0, 20.0, 30.0, 30.0]], ids=["no width", "outside"])
def test_nothing_is_pasted_for_a_box_with(box: list[float]) -> None:
    assert not paste_masks(torch.ones(1, 4, 4), torch.tensor([box]), (8, 10)).any()


def test_many_boxes_are_pasted_as_if_one_by_one() -> None:
    draw = torch.Generator().manual_seed(0)
    probabilities = torch.rand(40, 6, 6, generator=draw)
    corners = torch.rand(40, 2, generator=draw) * 20
    boxes = torch.cat([corners, corners + 5 + torch.rand(40, 2, generator=draw) * 20], dim=1)
    together = paste_masks(probabilities, boxes, (30, 40))
    alone = [paste_masks(probabilities[i : i + 1], boxes[i : i + 1], (30, 40)) for i in range(40)]
    assert torch.equal(together, torch.cat(alone))
    assert together.any()


def test_no_box_gives_no_mask() -> None:
    assert paste_masks(torch.zeros(0, 4, 4), torch.zeros(0, 4), (8, 10)).shape == (0, 8, 10)


def test_what_was_cut_is_pasted_back() -> None:
    """A disc of 40 pixels, cut at 28 places a side: the two agree in nearly all pixels."""
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    disc = ((rows - 30) ** 2 + (columns - 34) ** 2 < 400).unsqueeze(0)
    box = torch.tensor([[14.0, 10.0, 55.0, 51.0]])
    pasted = paste_masks(crop_masks(disc, box, 28), box, (64, 64))
    assert (pasted & disc).sum() / (pasted | disc).sum() > 0.95


def test_the_loss_of_not_knowing_is_the_logarithm_of_two() -> None:
    assert mask_loss(torch.zeros(2, 4, 4), torch.ones(2, 4, 4)).item() == pytest.approx(math.log(2))


def test_the_loss_of_no_box_is_nothing() -> None:
    assert mask_loss(torch.zeros(0, 4, 4), torch.zeros(0, 4, 4)) == 0


def test_one_mask_for_each_box_is_asked_for() -> None:
    with pytest.raises(ShapeError, match=r"\(2, 4, 4\) need masks of the same shape, got \(1, 4, 4\)"):
        mask_loss(torch.zeros(2, 4, 4), torch.zeros(1, 4, 4))
