"""Deltas are centre moves in anchor sides times 10 and log side ratios times 5; sides count one pixel more."""

import math

import pytest
import torch

from glip.detection.box_coder import decode_boxes, encode_boxes

ANCHOR = torch.tensor([[0.0, 0.0, 9.0, 19.0]])  # 10 wide, 20 high, centre (4.5, 9.5)


@pytest.mark.parametrize(
    ("box", "deltas"),
    [
        pytest.param([0.0, 0.0, 9.0, 19.0], [0.0, 0.0, 0.0, 0.0], id="the anchor itself"),
        pytest.param([1.0, 0.0, 10.0, 19.0], [1.0, 0.0, 0.0, 0.0], id="one pixel to the right"),
        pytest.param([0.0, -4.0, 9.0, 15.0], [0.0, -2.0, 0.0, 0.0], id="four pixels up"),
        pytest.param([-5.0, 0.0, 14.0, 19.0], [0.0, 0.0, 5 * math.log(2), 0.0], id="twice as wide"),
        pytest.param([0.0, 5.0, 9.0, 14.0], [0.0, 0.0, 0.0, -5 * math.log(2)], id="half as high"),
        pytest.param([4.0, 9.0, 4.0, 9.0], [-0.5, -0.25, -5 * math.log(10), -5 * math.log(20)], id="one pixel"),
    ],
)
def test_the_deltas_of(box: list[float], deltas: list[float]) -> None:
    boxes = torch.tensor([box])
    torch.testing.assert_close(encode_boxes(boxes, ANCHOR), torch.tensor([deltas]))
    torch.testing.assert_close(decode_boxes(torch.tensor([deltas]), ANCHOR), boxes)


def test_decoding_undoes_encoding() -> None:
    generator = torch.Generator().manual_seed(0)
    corners, sides = torch.rand(50, 2, generator=generator) * 500, torch.rand(50, 2, generator=generator) * 300
    boxes = torch.cat([corners, corners + sides], dim=1)
    anchors = boxes.roll(7, dims=0)
    torch.testing.assert_close(decode_boxes(encode_boxes(boxes, anchors), anchors), boxes, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "delta", [pytest.param(5 * math.log(1000 / 16), id="at the limit"), pytest.param(1e9, id="far beyond")]
)
def test_a_side_grows_no_more_than_62_and_a_half_times(delta: float) -> None:
    box = decode_boxes(torch.tensor([[0.0, 0.0, delta, delta]]), ANCHOR)
    sides = box[:, 2:] - box[:, :2] + 1
    torch.testing.assert_close(sides, torch.tensor([[625.0, 1250.0]]))


def test_a_side_may_shrink_to_nothing() -> None:
    box = decode_boxes(torch.tensor([[0.0, 0.0, -1e9, -1e9]]), ANCHOR)
    torch.testing.assert_close(box, torch.tensor([[5.0, 10.0, 4.0, 9.0]]))  # a legacy side of 0 crosses its corners


def test_a_batch_decodes_as_its_images() -> None:
    deltas = torch.randn(2, 3, 4)
    anchors = ANCHOR.expand(3, 4) + torch.arange(3.0)[:, None]
    torch.testing.assert_close(decode_boxes(deltas, anchors)[1], decode_boxes(deltas[1], anchors))


def test_no_boxes_have_no_deltas() -> None:
    nothing = torch.zeros(0, 4)
    assert encode_boxes(nothing, nothing).shape == (0, 4)
    assert decode_boxes(nothing, nothing).shape == (0, 4)
