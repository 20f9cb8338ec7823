"""The head is linear in image positions; a score is the position's dot product with a projected, normalised word."""

import math

import pytest
import torch
from torch import nn

from glip.detection.anchors import box_centres, make_anchors
from glip.detection.box_coder import decode_boxes
from glip.models.alignment_head import MAX_LOGIT, AlignmentHead, distance_deltas


def make_head(num_levels: int = 2) -> AlignmentHead:
    torch.manual_seed(0)
    return AlignmentHead(2, 2, num_levels=num_levels)


def test_a_fresh_head_believes_in_one_per_cent() -> None:
    head = make_head()
    nn.init.zeros_(head.word_projection.weight)
    nn.init.zeros_(head.word_projection.bias)
    alignment, deltas, centerness = head(torch.randn(1, 3, 2), torch.randn(1, 4, 2), [2, 1])
    torch.testing.assert_close(alignment, torch.full((1, 3, 4), -4.59511985))
    torch.testing.assert_close(alignment.sigmoid(), torch.full((1, 3, 4), 0.01))
    assert deltas.abs().max() < 0.2
    assert centerness.abs().max() < 0.2


def test_the_alignment_of_a_hand_made_word() -> None:
    head = make_head()
    nn.init.eye_(head.word_projection.weight)
    head.word_projection.bias.data = torch.tensor([0.1, -0.2])
    head.word_bias.data = torch.tensor([1.0, 2.0])
    head.bias.data = torch.tensor([-1.0])
    head.log_scale.data = torch.tensor([math.log(2.0)])
    image = torch.tensor([[[10.0, 20.0]]])
    words = torch.tensor([[[3.0, 4.0]]])  # direction (0.6, 0.8), projected (0.4, 0.2), bias 0.6 + 1.6 - 1
    alignment, _, _ = head(image, words, [1, 0])
    torch.testing.assert_close(alignment, torch.tensor([[[(10 * 0.4 + 20 * 0.2) / 2 + 1.2]]]))


def test_a_words_length_does_not_matter_and_a_zero_word_gives_the_bias() -> None:
    head = make_head()
    image, words = torch.randn(1, 3, 2), torch.randn(1, 4, 2)
    torch.testing.assert_close(head(image, words, [2, 1])[0], head(image, 7 * words, [2, 1])[0])
    nn.init.zeros_(head.word_projection.bias)
    torch.testing.assert_close(head(image, 0 * words, [2, 1])[0], torch.full((1, 3, 4), -4.59511985))


def test_scores_are_clamped() -> None:
    head = make_head()
    nn.init.eye_(head.word_projection.weight)
    alignment, _, _ = head(torch.tensor([[[1e9, 0.0], [-1e9, 0.0]]]), torch.tensor([[[1.0, 0.0]]]), [2, 0])
    assert alignment.flatten().tolist() == [MAX_LOGIT, -MAX_LOGIT]


def test_each_level_scales_its_own_deltas_and_nothing_else() -> None:
    head = make_head()
    image, words = torch.randn(1, 3, 2), torch.randn(1, 4, 2)
    before = head(image, words, [2, 1])
    head.scales[1].data = torch.tensor([3.0])
    after = head(image, words, [2, 1])
    torch.testing.assert_close(after[1][:, :2], before[1][:, :2])
    torch.testing.assert_close(after[1][:, 2:], 3 * before[1][:, 2:])
    torch.testing.assert_close((after[0], after[2]), (before[0], before[2]))


@pytest.mark.parametrize(
    ("images", "words"),
    [pytest.param(0, 4, id="no images"), pytest.param(2, 0, id="captions without tokens")],
)
def test_empty_input(images: int, words: int) -> None:
    alignment, deltas, centerness = make_head()(torch.zeros(images, 3, 2), torch.zeros(images, words, 2), [2, 1])
    assert (alignment.shape, deltas.shape, centerness.shape) == ((images, 3, words), (images, 3, 4), (images, 3))


@pytest.mark.parametrize("stride", [8, 32])
def test_a_side_that_is_surely_in_bin_b_is_b_strides_away(stride: int) -> None:
    anchors = make_anchors([(4, 4)], [stride])
    logits = torch.full((16, 4, 11), -50.0)
    for side, strides in enumerate((1, 2, 3, 10)):  # left, top, right, bottom
        logits[:, side, strides] = 50.0
    boxes = decode_boxes(distance_deltas(logits), anchors)
    x, y = box_centres(anchors).unbind(dim=1)
    half = 0.5  # corners are pixel indices: a side is x2 - x1 + 1
    expected = [x - 1 * stride + half, y - 2 * stride + half, x + 3 * stride - half, y + 10 * stride - half]
    torch.testing.assert_close(boxes, torch.stack(expected, dim=1), rtol=0, atol=1e-3)


def test_an_undecided_side_is_in_the_middle_of_its_bins() -> None:
    deltas = distance_deltas(torch.zeros(1, 4, 11))  # five strides to each side: ten strides, of an anchor of eight
    torch.testing.assert_close(deltas, torch.tensor([[0.0, 0.0, 5 * math.log(10 / 8), 5 * math.log(10 / 8)]]))


def test_a_box_without_sides_has_finite_deltas() -> None:
    logits = torch.full((1, 4, 11), -50.0)
    logits[..., 0] = 50.0
    assert distance_deltas(logits).isfinite().all()


def test_a_head_with_bins_gives_four_deltas_a_position() -> None:
    head = AlignmentHead(2, 2, num_levels=2, box_bins=11)
    _, deltas, _ = head(torch.randn(1, 3, 2), torch.randn(1, 4, 2), [2, 1])
    assert deltas.shape == (1, 3, 4)
    assert head(torch.randn(1, 0, 2), torch.randn(1, 4, 2), [0, 0])[1].shape == (1, 0, 4)
