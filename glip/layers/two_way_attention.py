"""Two softmaxes of one score matrix, which is never held whole.

Keys look at positions and positions look at keys, by the same scores. With 20,000 positions and 8 x 200 keys the matrix
has 130 MB, and plain autograd keeps half a dozen of its kind. Here it is made in slices that fit into a processor's
cache, and made again in the backward pass, with the softmax over positions accumulated from slice to slice (Milakov and
Gimelshein 2018; Dao et al. 2022, FlashAttention). `whole_two_way_attention` holds the matrix: it is the path on other
devices, and the tests' judge.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from glip.errors import ShapeError

SLICE_NUMBERS = 2**19  # scores in a slice: two megabytes
MIN_SLICE = 128  # positions; fewer make poor matrix products
MASK_STEPS = 2**16  # a dropout mask is drawn with 16 bits a number


@dataclass(frozen=True)
class _Rules:
    """What is the same for every slice."""

    num_heads: int
    dropout: float
    seed: int


def two_way_attention(
    positions: Tensor,
    keys: Tensor,
    key_bias: Tensor,
    values: Tensor,
    position_mask: Tensor | None = None,
    *,
    num_heads: int,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Attention of positions over keys, and of keys over positions, by scores `positions @ keys^T`.

    Args:
        positions: `(B, N, C)` float32.
        keys: `(B, h * L, C)`, the L keys of each head.
        key_bias: `(B, h * L)`, added to the scores where positions look at keys; very small for keys to be passed over.
        values: `(B, h * L, C)`, what positions take from keys.
        position_mask: `(B, N)` bool, True on positions that keys may look at; None for all.
        num_heads: h. A position's attention adds up to 1 over the keys of each head.
        dropout: probability that a weight of either attention is zeroed; the others grow accordingly.

    Returns:
        what positions take, the heads added up, `(B, N, C)`; the positions that each key sees, averaged by its
        attention, `(B, h * L, C)`; and the sum of that attention `(B, h * L)`, which is 1 without dropout.

    Raises:
        ShapeError: positions and keys are of different numbers of images.
    """
    if len(positions) != len(keys):
        raise ShapeError(f"positions and keys need one batch size, got {len(positions)} and {len(keys)}")
    if not works_in_slices(positions):
        return whole_two_way_attention(
            positions, keys, key_bias, values, position_mask, num_heads=num_heads, dropout=dropout
        )
    seed = int(torch.randint(2**62, ()).item()) if dropout else 0
    rules = _Rules(num_heads, dropout, seed)
    seen, context, total = _TwoWayAttention.apply(positions, keys, key_bias, values, position_mask, rules)
    return seen, context, total


def whole_two_way_attention(
    positions: Tensor,
    keys: Tensor,
    key_bias: Tensor,
    values: Tensor,
    position_mask: Tensor | None = None,
    *,
    num_heads: int,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """`two_way_attention` with the score matrix held whole."""
    scores = (keys @ positions.transpose(1, 2)).unflatten(1, (num_heads, -1))  # (B, h, L, N)
    over_keys = (scores + key_bias.unflatten(1, (num_heads, -1)).unsqueeze(3)).softmax(dim=2)
    if position_mask is not None:
        scores = scores.masked_fill(~position_mask[:, None, None], torch.finfo(scores.dtype).min)
    over_positions = F.dropout(scores.softmax(dim=3), dropout, training=True).flatten(1, 2)
    seen = F.dropout(over_keys, dropout, training=True).flatten(1, 2).transpose(1, 2) @ values
    return seen, over_positions @ positions, over_positions.sum(dim=2)


def works_in_slices(positions: Tensor) -> bool:
    """Whether scores are never held whole: for float32 on a CPU. Autocast and compilers want plain steps."""
    kind = positions.device.type
    has_autocast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    is_plain = kind == "cpu" and positions.dtype == torch.float32 and not has_autocast
    return is_plain and not torch.compiler.is_compiling() and not torch.jit.is_tracing()  # type: ignore[attr-defined]


class _TwoWayAttention(torch.autograd.Function):
    """The formulas; one image after the other, slice by slice."""

    @staticmethod
    def forward(
        ctx: Any,
        positions: Tensor,
        keys: Tensor,
        key_bias: Tensor,
        values: Tensor,
        position_mask: Tensor | None,
        rules: _Rules,
    ) -> tuple[Tensor, Tensor, Tensor]:
        seen = torch.empty_like(positions)
        context = torch.zeros_like(keys)
        total = torch.zeros_like(key_bias)
        highest = torch.full_like(key_bias, torch.finfo(keys.dtype).min)
        normaliser = torch.zeros_like(key_bias)
        for image in range(len(positions)):
            for part, drop in _slices(positions, keys, image, rules):
                here = positions[image, part]
                scores = here @ keys[image].T  # (n, h * L)
                over_positions = _hide(scores, position_mask, image, part)
                higher = torch.maximum(highest[image], over_positions.amax(dim=0))
                shrink = (highest[image] - higher).exp_()
                highest[image] = higher
                weights = (over_positions - higher).exp_()
                normaliser[image].mul_(shrink).add_(weights.sum(dim=0))
                if drop is not None:
                    weights.mul_(drop[0])
                    total[image].mul_(shrink).add_(weights.sum(dim=0))
                context[image].mul_(shrink[:, None]).addmm_(weights.T, here)
                over_keys = _over_keys(scores, key_bias[image], rules.num_heads)
                if drop is not None:
                    over_keys.mul_(drop[1])
                torch.mm(over_keys, values[image], out=seen[image, part])
        normaliser.clamp_(min=torch.finfo(keys.dtype).tiny)  # without any position
        context.div_(normaliser[..., None])
        total = total.div_(normaliser) if rules.dropout else torch.ones_like(normaliser)
        ctx.save_for_backward(positions, keys, key_bias, values, position_mask, highest, normaliser, context, total)
        ctx.rules = rules
        return seen, context, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_seen: Tensor, grad_context: Tensor, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        positions, keys, key_bias, values, position_mask, highest, normaliser, context, total = ctx.saved_tensors
        rules: _Rules = ctx.rules
        grad_positions = torch.empty_like(positions)
        grad_keys, grad_bias, grad_values = (torch.zeros_like(one) for one in (keys, key_bias, values))
        # The mean of the gradient under each key's attention, which its softmax takes off
        grad_mean = (grad_context * context).sum(dim=2) + grad_total * total
        for image in range(len(positions)):
            grad_seen_here, grad_context_here = grad_seen[image], grad_context[image]
            for part, drop in _slices(positions, keys, image, rules):
                here, grad_out = positions[image, part], grad_seen_here[part]
                scores = here @ keys[image].T
                weights = (_hide(scores, position_mask, image, part) - highest[image]).exp_().div_(normaliser[image])
                grad = torch.addmm(grad_total[image], here, grad_context_here.T)
                if drop is None:
                    torch.mm(weights, grad_context_here, out=grad_positions[image, part])
                else:
                    grad.mul_(drop[0])
                    torch.mm(weights * drop[0], grad_context_here, out=grad_positions[image, part])
                grad_scores = grad.sub_(grad_mean[image]).mul_(weights)

                over_keys = _over_keys(scores, key_bias[image], rules.num_heads)
                grad = grad_out @ values[image].T
                if drop is None:
                    grad_values[image].addmm_(over_keys.T, grad_out)
                else:
                    grad.mul_(drop[1])
                    grad_values[image].addmm_((over_keys * drop[1]).T, grad_out)
                grad.mul_(over_keys)
                heads = grad.unflatten(1, (rules.num_heads, -1)).sum(dim=2, keepdim=True)
                grad.unflatten(1, (rules.num_heads, -1)).sub_(over_keys.unflatten(1, (rules.num_heads, -1)) * heads)
                grad_bias[image].add_(grad.sum(dim=0))
                grad_scores.add_(grad)
                grad_positions[image, part].addmm_(grad_scores, keys[image])
                grad_keys[image].addmm_(grad_scores.T, here)
        return grad_positions, grad_keys, grad_bias, grad_values, None, None


def _slices(
    positions: Tensor, keys: Tensor, image: int, rules: _Rules
) -> Iterator[tuple[slice, tuple[Tensor, Tensor] | None]]:
    """Slices of an image's positions, with the two dropout masks of each; the same every time."""
    count, width = positions.shape[1], keys.shape[1]
    length = max(SLICE_NUMBERS // width, MIN_SLICE)
    for number, start in enumerate(range(0, count, length)):
        part = slice(start, min(start + length, count))
        if not rules.dropout:
            yield part, None
            continue
        generator = torch.Generator(positions.device).manual_seed(rules.seed + image * count + number)
        shape = (2, part.stop - part.start, width)
        yield part, tuple(_mask(shape, rules.dropout, generator, positions))


def _mask(shape: tuple[int, ...], dropout: float, generator: torch.Generator, like: Tensor) -> Tensor:
    """Zeros with probability `dropout`, else `1 / (1 - dropout)`; four 16-bit numbers are taken of each random one."""
    size = 1
    for side in shape:
        size *= side
    bits = torch.empty(-(-size // 4), dtype=torch.int64, device=like.device)
    drawn = bits.random_(-(2**63), None, generator=generator).view(torch.int16)[:size].view(shape)
    return (drawn >= round(dropout * MASK_STEPS) - MASK_STEPS // 2).to(like.dtype).div_(1 - dropout)


def _hide(scores: Tensor, position_mask: Tensor | None, image: int, part: slice) -> Tensor:
    """The scores, very small where a position may not be looked at."""
    if position_mask is None:
        return scores
    return scores.masked_fill(~position_mask[image, part, None], torch.finfo(scores.dtype).min)


def _over_keys(scores: Tensor, key_bias: Tensor, num_heads: int) -> Tensor:
    """Each position's attention over the keys of each head; the scores are used up."""
    heads = scores.add_(key_bias).unflatten(1, (num_heads, -1))
    return torch.softmax(heads, dim=2).flatten(1)
