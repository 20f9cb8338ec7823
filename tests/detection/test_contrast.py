"""What words with opposites add to an expression's scores; numbers are logits of hand-made probabilities."""

import torch
from torch import Tensor

from glip.detection.contrast import LEAST, contrast


def assert_logits(found: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-4)


def probabilities(*logits: list[float]) -> Tensor:
    return torch.tensor(logits).sigmoid()


def test_an_expression_without_opposites_keeps_its_score() -> None:
    assert_logits(contrast(probabilities([1.0, -2.0]), [], 4.0), [1.0, -2.0])


def test_no_position_at_all_is_no_error() -> None:
    assert contrast(torch.zeros(2, 0), [1], 4.0).shape == (0,)


def test_weight_zero_changes_nothing() -> None:
    assert_logits(contrast(probabilities([1.0, 0.5], [0.0, 2.0]), [1], 0.0), [1.0, 0.5])


def test_what_a_word_adds_counts_more_often() -> None:
    left, right = [1.0, 1.2], [0.5, 1.5]  # two dogs: the second is the surer dog, and hardly on the left
    assert_logits(contrast(probabilities(left, right), [1], 2.0), [1.0 + 2 * 0.5, 1.2 - 2 * 0.3])


def test_a_words_opposites_are_averaged_and_words_add_up() -> None:
    own, first, second, other = [1.0], [0.0], [0.5], [2.0]
    expected = 1.0 + (1.0 - 0.25) + (1.0 - 2.0)
    assert_logits(contrast(probabilities(own, first, second, other), [2, 1], 1.0), [expected])


def test_a_position_that_is_hardly_meant_can_lose_but_not_gain() -> None:
    own, opposite = [2.0, -1.5, -1.5], [2.0, -4.0, 0.0]
    assert_logits(contrast(probabilities(own, opposite), [1], 2.0), [2.0, -1.5, -1.5 - 2 * 1.5])


def test_certainties_stay_finite() -> None:
    weighed = contrast(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), [1], 1.0)
    assert weighed.isfinite().all()
    assert weighed[1] > -2 * torch.tensor(LEAST).logit()
