"""The head is linear in image positions; a score is the position's dot product with a projected, normalised word."""

import math

import pytest
import torch
from torch import nn

from glip.models.alignment_head import MAX_LOGIT, AlignmentHead


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
