"""A masked mean counts only the positions that the mask shows."""

import pytest
import torch

from glip.layers.pooling import masked_mean


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        pytest.param(None, 2.5, id="no mask: all four"),
        pytest.param([[True, True], [True, True]], 2.5, id="a mask that shows all four"),
        pytest.param([[True, False], [True, False]], 2.0, id="the left column"),
        pytest.param([[False, False], [False, True]], 4.0, id="one position"),
        pytest.param([[False, False], [False, False]], 0.0, id="no position"),
    ],
)
def test_the_mean_of_one_two_three_four_over(mask: list[list[bool]] | None, expected: float) -> None:
    features = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    found = masked_mean(features, None if mask is None else torch.tensor([mask]))
    torch.testing.assert_close(found, torch.tensor([[expected]]))


def test_each_image_has_its_own_mask_and_each_channel_its_own_mean() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[10.0, 20.0]]], [[[3.0, 4.0]], [[30.0, 40.0]]]])
    mask = torch.tensor([[[True, False]], [[False, True]]])
    torch.testing.assert_close(masked_mean(features, mask), torch.tensor([[1.0, 10.0], [4.0, 40.0]]))


def test_no_images_give_no_means() -> None:
    assert masked_mean(torch.zeros(0, 3, 2, 2), torch.zeros(0, 2, 2, dtype=torch.bool)).shape == (0, 3)
