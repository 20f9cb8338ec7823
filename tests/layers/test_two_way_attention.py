"""Attention in slices is attention held whole: forward, every gradient, masks; dropout is right on average."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from glip.errors import ShapeError
from glip.layers import two_way_attention as module
from glip.layers.two_way_attention import two_way_attention, whole_two_way_attention

HEADS, WORDS, CHANNELS = 2, 3, 4
VERY_SMALL = torch.finfo(torch.float32).min
Attention = Callable[..., tuple[Tensor, Tensor, Tensor]]


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of five positions, so that a few positions make several, the last one shorter."""
    monkeypatch.setattr(module, "SLICE_NUMBERS", 0)
    monkeypatch.setattr(module, "MIN_SLICE", 5)


def inputs(batch: int, count: int) -> Any:
    torch.manual_seed(0)
    width = HEADS * WORDS
    shapes = [(batch, count, CHANNELS), (batch, width, CHANNELS), (batch, width), (batch, width, CHANNELS)]
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


def gradients(attend: Attention, given: list[Tensor], **how: Any) -> list[Tensor]:
    """Gradients of every input, of a sum in which every number of every result has another weight."""
    positions, keys, bias, values = given
    results = attend(positions, keys, bias, values, num_heads=HEADS, **how)
    torch.manual_seed(1)
    loss = torch.stack([(result * torch.randn_like(result)).sum() for result in results]).sum()
    return list(torch.autograd.grad(loss, given))


def hidden_positions(batch: int, count: int) -> Tensor:
    """All but the first five of the last image are hidden: a whole slice, and more."""
    mask = torch.ones(batch, count, dtype=torch.bool)
    mask[-1, 5:] = False
    return mask


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("count", [1, 5, 12], ids=["one position", "a slice", "two slices and a bit"])
@pytest.mark.parametrize("hide", [False, True], ids=["all seen", "padding hidden"])
def test_slices_give_the_results_and_gradients_of_the_whole(batch: int, count: int, hide: bool) -> None:
    positions, keys, bias, values = given = inputs(batch, count)
    mask = hidden_positions(batch, count) if hide else None
    for found, expected in zip(
        two_way_attention(positions, keys, bias, values, mask, num_heads=HEADS),
        whole_two_way_attention(positions, keys, bias, values, mask, num_heads=HEADS),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)
    for found, expected in zip(
        gradients(two_way_attention, given, position_mask=mask),
        gradients(whole_two_way_attention, given, position_mask=mask),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_position_takes_the_value_of_the_only_key_that_it_may_see() -> None:
    positions, keys, bias, values = (tensor.detach() for tensor in inputs(1, 7))
    bias = torch.tensor([[0.0, VERY_SMALL, VERY_SMALL] * HEADS])
    seen, _, _ = two_way_attention(positions, keys, bias, values, num_heads=HEADS)
    torch.testing.assert_close(seen, (values[:, :1] + values[:, WORDS : WORDS + 1]).expand(1, 7, CHANNELS))


def test_keys_that_are_nothing_see_the_mean_of_the_positions_that_are_not_hidden() -> None:
    positions, keys, bias, values = (tensor.detach() for tensor in inputs(1, 12))
    mask = hidden_positions(1, 12)
    _, context, total = two_way_attention(positions, torch.zeros_like(keys), bias, values, mask, num_heads=HEADS)
    torch.testing.assert_close(context, positions[:, :5].mean(dim=1, keepdim=True).expand_as(context))
    torch.testing.assert_close(total, torch.ones_like(total))


def test_no_position_gives_nothing_to_positions() -> None:
    given = [tensor.detach() for tensor in inputs(1, 0)]
    seen, context, _ = two_way_attention(*given, num_heads=HEADS)
    assert seen.shape == (1, 0, CHANNELS)
    assert context.eq(0).all()


def test_one_image_is_not_taken_for_many() -> None:
    positions, _, _, _ = inputs(1, 7)
    _, keys, bias, values = inputs(2, 7)
    with pytest.raises(ShapeError, match="need one batch size, got 1 and 2"):
        two_way_attention(positions, keys, bias, values, num_heads=HEADS)


def test_large_scores_do_not_overflow() -> None:
    positions, keys, bias, values = (tensor.detach() for tensor in inputs(1, 12))
    results = two_way_attention(positions * 1e3, keys * 1e3, bias, values, num_heads=HEADS)
    assert all(result.isfinite().all() for result in results)


# --- dropout -----------------------------------------------------------------------------------------------------


def test_dropout_is_the_same_in_the_backward_pass() -> None:
    """The slope of the very function that the forward pass has drawn, by differences."""
    given = inputs(1, 12)
    torch.manual_seed(7)
    found = gradients(two_way_attention, given, dropout=0.4)
    step = 1e-2
    for number, tensor in enumerate(given):
        direction = torch.randn_like(tensor)
        values = []
        for sign in (1, -1):
            moved = [t.detach() + (sign * step * direction if t is tensor else 0) for t in given]
            torch.manual_seed(7)
            results = two_way_attention(*moved, num_heads=HEADS, dropout=0.4)
            torch.manual_seed(1)
            values.append(torch.stack([(r * torch.randn_like(r)).sum() for r in results]).sum())
        slope = (values[0] - values[1]) / (2 * step)
        torch.testing.assert_close((found[number] * direction).sum(), slope, rtol=2e-2, atol=2e-2)


def test_dropout_keeps_the_mean() -> None:
    given = [tensor.detach() for tensor in inputs(1, 12)]
    plain = two_way_attention(*given, num_heads=HEADS)
    drawn = [two_way_attention(*given, num_heads=HEADS, dropout=0.3) for _ in range(3000)]
    for index, expected in enumerate(plain):
        mean = torch.stack([results[index] for results in drawn]).mean(dim=0)
        torch.testing.assert_close(mean, expected, rtol=0.1, atol=0.06)


def test_dropout_zeroes_its_share_and_no_two_slices_alike() -> None:
    positions = torch.zeros(1, 50, CHANNELS)
    keys = torch.zeros(1, HEADS * WORDS, CHANNELS)
    _, _, total = two_way_attention(positions, keys, keys[..., 0], keys, num_heads=HEADS, dropout=0.5)
    kept = total * 50 * 0.5  # of fifty positions, those that were not dropped
    torch.testing.assert_close(kept, kept.round(), rtol=0, atol=1e-4)
    assert (kept % 10 != 0).any()  # ten slices with one mask would keep multiples of ten
    assert 15 < kept.mean() < 35


@pytest.mark.parametrize("attend", [two_way_attention, whole_two_way_attention], ids=["in slices", "held whole"])
def test_the_same_seed_drops_the_same(attend: Attention) -> None:
    given = [tensor.detach() for tensor in inputs(2, 12)]
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(attend(*given, num_heads=HEADS, dropout=0.3))
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


def test_autocast_gets_plain_steps() -> None:
    given = [tensor.detach() for tensor in inputs(1, 12)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen, _, _ = two_way_attention(*given, num_heads=HEADS)
    expected, _, _ = two_way_attention(*given, num_heads=HEADS)
    assert seen.dtype == torch.bfloat16
    torch.testing.assert_close(seen.float(), expected, rtol=0.05, atol=0.05)
