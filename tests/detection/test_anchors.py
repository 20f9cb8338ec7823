"""One square anchor at each position: eight strides wide, its centre in the middle of the position's pixels."""

import pytest
import torch

from glip.detection.anchors import box_centres, make_anchors


def test_the_anchors_of_two_rows_and_three_columns_at_stride_8() -> None:
    expected = torch.tensor(
        [
            [-28.0, -28.0, 35.0, 35.0],
            [-20.0, -28.0, 43.0, 35.0],
            [-12.0, -28.0, 51.0, 35.0],
            [-28.0, -20.0, 35.0, 43.0],
            [-20.0, -20.0, 43.0, 43.0],
            [-12.0, -20.0, 51.0, 43.0],
        ]
    )
    torch.testing.assert_close(make_anchors([(2, 3)], [8]), expected)


@pytest.mark.parametrize(
    ("stride", "low", "high"),
    [
        pytest.param(8, -28.0, 35.0, id="8"),
        pytest.param(16, -56.0, 71.0, id="16"),
        pytest.param(32, -112.0, 143.0, id="32"),
        pytest.param(64, -224.0, 287.0, id="64"),
        pytest.param(128, -448.0, 575.0, id="128"),
    ],
)
def test_the_first_anchor_of_the_published_level_of_stride(stride: int, low: float, high: float) -> None:
    torch.testing.assert_close(make_anchors([(1, 1)], [stride]), torch.tensor([[low, low, high, high]]))


def test_levels_stand_behind_each_other_finest_first() -> None:
    shapes = [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]
    anchors = make_anchors(shapes, [8, 16, 32, 64, 128])
    assert anchors.shape == (22_400, 4)
    sides = anchors[:, 2] - anchors[:, 0] + 1
    starts = [0, 16_800, 21_000, 22_050, 22_323]
    assert [float(sides[start]) for start in starts] == [64.0, 128.0, 256.0, 512.0, 1024.0]
    torch.testing.assert_close(sides, anchors[:, 3] - anchors[:, 1] + 1)


def test_a_centre_is_in_the_middle_of_its_positions_pixels() -> None:
    centres = box_centres(make_anchors([(2, 2)], [16]))
    torch.testing.assert_close(centres, torch.tensor([[7.5, 7.5], [23.5, 7.5], [7.5, 23.5], [23.5, 23.5]]))


def test_an_empty_level_has_no_anchors() -> None:
    assert make_anchors([(0, 3)], [8]).shape == (0, 4)


def test_anchors_are_made_where_they_are_wanted() -> None:
    assert make_anchors([(2, 3)], [8], device="meta").device.type == "meta"
