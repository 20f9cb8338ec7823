"""What words with opposites add to an expression's scores; numbers are logits of hand-made probabilities."""

from typing import Any

import pytest
import torch
from torch import Tensor

from glip.detection.contrast import LEAST, as_one_token, contrast
from glip.structures.output import GlipOutput


def close(logits: list[float]) -> Any:
    return pytest.approx(logits, abs=1e-4)


def probabilities(*logits: list[float]) -> Tensor:
    return torch.tensor(logits).sigmoid()


def test_an_expression_without_opposites_keeps_its_score() -> None:
    assert contrast(probabilities([1.0, -2.0]), [], 4.0).tolist() == close([1.0, -2.0])


def test_no_position_at_all_is_no_error() -> None:
    assert contrast(torch.zeros(2, 0), [1], 4.0).shape == (0,)


def test_weight_zero_changes_nothing() -> None:
    assert contrast(probabilities([1.0, 0.5], [0.0, 2.0]), [1], 0.0).tolist() == close([1.0, 0.5])


def test_what_a_word_adds_counts_more_often() -> None:
    left, right = [1.0, 1.2], [0.5, 1.5]  # two dogs: the second is the surer dog, and hardly on the left
    assert contrast(probabilities(left, right), [1], 2.0).tolist() == close([1.0 + 2 * 0.5, 1.2 - 2 * 0.3])


def test_a_words_opposites_are_averaged_and_words_add_up() -> None:
    own, first, second, other = [1.0], [0.0], [0.5], [2.0]
    expected = 1.0 + (1.0 - 0.25) + (1.0 - 2.0)
    assert contrast(probabilities(own, first, second, other), [2, 1], 1.0).tolist() == close([expected])


def test_a_position_that_is_hardly_meant_can_lose_but_not_gain() -> None:
    own, opposite = [2.0, -1.5, -1.5], [2.0, -4.0, 0.0]
    assert contrast(probabilities(own, opposite), [1], 2.0).tolist() == close([2.0, -1.5, -1.5 - 2 * 1.5])


def test_certainties_stay_finite() -> None:
    weighed = contrast(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), [1], 1.0)
    assert weighed.isfinite().all()
    assert weighed[1].item() == pytest.approx(3 * -torch.tensor(LEAST).logit().item(), rel=1e-2)


def test_an_answer_with_one_token_keeps_the_boxes_of_the_expression() -> None:
    output = GlipOutput(
        alignment_logits=torch.zeros(3, 4, 5),
        box_deltas=torch.arange(48.0).reshape(3, 4, 4),
        centerness_logits=torch.arange(12.0).reshape(3, 4),
        level_shapes=((2, 2),),
        strides=(8,),
        image_sizes=torch.tensor([[16, 16]] * 3),
        input_ids=torch.zeros(3, 5, dtype=torch.int64),
        attention_mask=torch.ones(3, 5, dtype=torch.bool),
    )
    one = as_one_token(output, torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert one.alignment_logits.tolist() == [[[1.0], [2.0], [3.0], [4.0]]]
    assert one.box_deltas.equal(output.box_deltas[:1])
    assert one.centerness_logits.equal(output.centerness_logits[:1])
    assert (one.image_sizes.tolist(), one.attention_mask.tolist()) == ([[16, 16]], [[True]])
    assert one.levels == [slice(0, 4)]
