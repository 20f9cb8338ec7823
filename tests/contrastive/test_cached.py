"""A batch in parts gives the loss and every gradient of the batch at once."""

import contextlib

import pytest
import torch
from torch import Tensor, nn

from glip.contrastive.cached import cached_backward
from glip.contrastive.losses import InfoNceLoss
from glip.errors import ShapeError
from glip.structures.output import ClipOutput
from tests.contrastive.pairs import GROUPS, LOSSES, TwoTowers, gradients, pair_inputs


def nothing_special(_: bool) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param([6], id="one part"),
        pytest.param([3, 3], id="halves"),
        pytest.param([1, 4, 1], id="parts of other sizes"),
        pytest.param([1] * 6, id="a pair each"),
    ],
)
@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradients_are_those_of_the_whole_batch_in(name: str, sizes: list[int]) -> None:
    whole, cached = TwoTowers(), TwoTowers()
    expected = LOSSES[name](whole(pair_inputs()), GROUPS)
    expected.backward()
    found = cached_backward(
        cached,
        pair_inputs().split(sizes),
        lambda output: LOSSES[name](output, GROUPS),
        during=nothing_special,
    )
    torch.testing.assert_close(found, expected.detach())
    torch.testing.assert_close(gradients(cached), gradients(whole), rtol=1e-8, atol=1e-10)


def test_dropout_is_the_same_in_both_passes() -> None:
    seen: list[Tensor] = []
    model, dropout = TwoTowers(), nn.Dropout(0.5)

    def encode(inputs: Tensor) -> ClipOutput:
        output: ClipOutput = model(dropout(inputs))
        seen.append(output.image_features.detach())
        return output

    cached_backward(encode, pair_inputs().split(3), InfoNceLoss(), during=nothing_special)
    first, second, again_first, again_second = seen
    assert torch.equal(first, again_first)
    assert torch.equal(second, again_second)


def test_only_the_last_part_is_told_that_it_is_the_last() -> None:
    told: list[bool] = []

    def during(is_last: bool) -> contextlib.AbstractContextManager[None]:
        told.append(is_last)
        return contextlib.nullcontext()

    cached_backward(TwoTowers(), pair_inputs().split(2), InfoNceLoss(), during=during)
    assert told == [False, False, True]


def test_no_part_is_refused() -> None:
    with pytest.raises(ShapeError, match="at least one part"):
        cached_backward(TwoTowers(), [], InfoNceLoss(), during=nothing_special)


def test_a_network_without_a_bias_needs_none() -> None:
    model = TwoTowers()

    def encode(inputs: Tensor) -> ClipOutput:
        output: ClipOutput = model(inputs)
        return ClipOutput(output.image_features, output.text_features, output.logit_scale)

    loss = cached_backward(encode, pair_inputs().split(3), InfoNceLoss(), during=nothing_special)
    assert loss.isfinite()
    assert not loss.requires_grad
