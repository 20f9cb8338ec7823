"""Words look where they are aligned."""

import pytest
import torch
from torch import nn

from glip.layers.glance import MOST, Glance, counted

SURE, NO = 20.0, -20.0


def test_a_word_finds_what_is_where_it_is_aligned() -> None:
    level = torch.zeros(1, 3, 2, 4)
    level[0, :, 1, 3] = torch.tensor([1.0, 2.0, 3.0])
    alignment = torch.full((1, 2, 2, 4), NO)
    alignment[0, 0, 1, 3] = SURE  # the first word at the bottom right
    alignment[0, 1, 0, 0] = SURE  # the second at the top left
    layer = Glance(3, 8)
    _, where, sure = layer(torch.zeros(1, 2, 8), level, torch.ones(1, 2, 4, dtype=torch.bool), alignment)
    torch.testing.assert_close(where[0], torch.tensor([[0.875, 0.75], [0.125, 0.25]]))
    assert sure.tolist() == [[SURE, SURE]]


@pytest.mark.parametrize("sharpness", [2.0, 0.0], ids=["a sharp look", "a look at everything alike"])
def test_padding_is_never_looked_at(sharpness: float) -> None:
    mask = torch.ones(1, 2, 4, dtype=torch.bool)
    mask[:, :, 2:] = False
    level, alignment = torch.randn(1, 3, 2, 4), torch.randn(1, 1, 2, 4)
    layer = Glance(3, 8).eval()
    nn.init.constant_(layer.sharpness, sharpness)
    words = torch.randn(1, 1, 8)
    expected = layer(words, level, mask, alignment)
    level[:, :, :, 2:], alignment[:, :, :, 2:] = 99.0, SURE
    torch.testing.assert_close(layer(words, level, mask, alignment), expected)


@pytest.mark.parametrize("count", range(4))
def test_as_many_peaks_are_counted_as_there_are(count: int) -> None:
    logits = torch.full((1, 1, 8, 8), NO)
    for row, column in [(0, 0), (4, 4), (0, 7)][:count]:
        logits[0, 0, row, column] = SURE
    thermometer = counted(logits)[0, 0]
    torch.testing.assert_close(thermometer, (torch.arange(MOST) < count).float(), atol=1e-4, rtol=0)


def test_the_slopes_of_a_peak_are_not_counted() -> None:
    logits = torch.tensor([[[[0.0, 1.0, 0.0], [1.0, SURE, 1.0], [0.0, 1.0, 0.0]]]])
    assert counted(logits)[0, 0].sum() == pytest.approx(1, abs=1e-4)


def test_no_words_see_nothing() -> None:
    words, where, sure = Glance(3, 8)(
        torch.zeros(1, 0, 8), torch.zeros(1, 3, 2, 2), torch.ones(1, 2, 2) > 0, torch.zeros(1, 0, 2, 2)
    )
    assert words.shape == (1, 0, 8)
    assert where.shape == (1, 0, 2)
    assert sure.shape == (1, 0)
