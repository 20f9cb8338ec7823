"""Both losses are what the papers' sums say, whole or in chunks, with the gradients of the double loop."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from glip.contrastive.losses import InfoNceLoss, SigmoidLoss
from glip.errors import ConfigError, ShapeError
from glip.structures.output import ClipOutput
from tests.contrastive.pairs import (
    GROUPS,
    LOSSES,
    TwoTowers,
    gradients,
    pair_inputs,
    sigmoid_by_loops,
    softmax_by_loops,
)


def pairs(
    images: list[list[float]], texts: list[list[float]], scale: float = 1.0, bias: float | None = None
) -> ClipOutput:
    return ClipOutput(
        torch.tensor(images), torch.tensor(texts), torch.tensor(scale), None if bias is None else torch.tensor(bias)
    )


CROSSED = ([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]])
STRAIGHT = ([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        pytest.param(pairs([[1.0, 0.0]], [[0.0, 1.0]]), 0.0, id="one pair has nothing to be told from"),
        pytest.param(pairs(*STRAIGHT), math.log(1 + math.exp(-1)), id="two pairs that fit"),
        pytest.param(pairs(*STRAIGHT, scale=2.0), math.log(1 + math.exp(-2)), id="the same with scale 2"),
        pytest.param(pairs(*CROSSED), math.log(1 + math.exp(1)), id="two pairs the wrong way round"),
        pytest.param(pairs([[1.0, 0.0]] * 4, [[1.0, 0.0]] * 4), math.log(4), id="four pairs that are all alike"),
    ],
)
def test_the_softmax_loss_of(output: ClipOutput, expected: float) -> None:
    torch.testing.assert_close(InfoNceLoss()(output), torch.tensor(expected))


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        pytest.param(pairs([[1.0, 0.0]], [[0.0, 1.0]], bias=0.0), math.log(2), id="one pair of similarity 0"),
        pytest.param(
            pairs(*STRAIGHT, bias=0.0),
            math.log(1 + math.exp(-1)) + math.log(2),
            id="two pairs that fit",
        ),
        pytest.param(pairs(*STRAIGHT, bias=-1.0), math.log(2) + math.log(1 + math.exp(-1)), id="the same with bias -1"),
    ],
)
def test_the_sigmoid_loss_of(output: ClipOutput, expected: float) -> None:
    torch.testing.assert_close(SigmoidLoss()(output), torch.tensor(expected))


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["no groups", "groups"])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradients_are_those_of_the_double_loop(name: str, groups: Tensor | None) -> None:
    loops: Callable[[ClipOutput, Tensor | None], Tensor] = (
        softmax_by_loops if name.startswith("softmax") else sigmoid_by_loops
    )
    by_loops, ours = TwoTowers(), TwoTowers()
    expected = loops(by_loops(pair_inputs()), groups)
    expected.backward()
    found = LOSSES[name](ours(pair_inputs()), groups)
    found.backward()
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients(ours), gradients(by_loops), rtol=1e-8, atol=1e-10)
    assert all(gradient.abs().sum() > 0 for parameter, gradient in gradients(ours).items() if parameter != "bias")


def test_pairs_of_one_group_do_not_push_each_other_away() -> None:
    alike = pairs([[1.0, 0.0]] * 2, [[1.0, 0.0]] * 2)
    assert InfoNceLoss()(alike, torch.tensor([7, 7])).item() == 0.0
    assert InfoNceLoss()(alike, torch.tensor([7, 8])).item() == pytest.approx(math.log(2))


def test_chunks_hold_only_their_own_rows_of_similarities() -> None:
    sizes: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    output = TwoTowers()(pair_inputs(64))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        InfoNceLoss(chunk_size=4)(output)
    assert max(sizes) < 64 * 64
    sizes.clear()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        InfoNceLoss()(output)
    assert max(sizes) == 64 * 64


@pytest.mark.parametrize("loss", [InfoNceLoss(), SigmoidLoss()], ids=["softmax", "sigmoid"])
@pytest.mark.parametrize(
    ("images", "texts"),
    [
        pytest.param((0, 4), (0, 4), id="no pair"),
        pytest.param((3, 4), (2, 4), id="more images than texts"),
        pytest.param((3, 4), (3, 5), id="two widths"),
        pytest.param((3,), (3,), id="features without width"),
    ],
)
def test_features_are_refused_for(
    loss: InfoNceLoss | SigmoidLoss, images: tuple[int, ...], texts: tuple[int, ...]
) -> None:
    output = ClipOutput(torch.zeros(images), torch.zeros(texts), torch.tensor(1.0), torch.tensor(0.0))
    with pytest.raises(ShapeError, match=r"one shape \(B, D\), B at least 1, got"):
        loss(output)


def test_groups_of_another_number_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"groups must be \(2,\)"):
        InfoNceLoss()(pairs(*STRAIGHT), torch.tensor([1]))


def test_the_sigmoid_loss_asks_for_a_bias() -> None:
    with pytest.raises(ConfigError, match="initial_bias=-10"):
        SigmoidLoss()(pairs(*STRAIGHT))


@pytest.mark.parametrize("kind", [InfoNceLoss, SigmoidLoss])
def test_a_chunk_of_nothing_is_refused(kind: type[InfoNceLoss | SigmoidLoss]) -> None:
    with pytest.raises(ConfigError, match="chunk_size must be at least 1"):
        kind(chunk_size=0)
