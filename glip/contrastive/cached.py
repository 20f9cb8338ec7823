"""A large contrastive batch in parts that fit the memory (Gao et al. 2021, "GradCache").

All parts are encoded without gradients, the loss of the whole batch says what each feature's gradient is, and each part
is encoded once more to carry it back. The gradients are those of the whole batch at once.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

import torch
from torch import Tensor

from glip.errors import ShapeError
from glip.structures.output import ClipOutput

Part = TypeVar("Part")
_SEEDS = 2**62


def cached_backward(
    encode: Callable[[Part], ClipOutput],
    parts: Sequence[Part],
    loss: Callable[[ClipOutput], Tensor],
    *,
    during: Callable[[bool], AbstractContextManager[None]],
) -> Tensor:
    """Add the gradients of a batch's loss to the parameters.

    Dropout draws the same in both passes of a part; torch's generator is somewhere else afterwards. Batch norms that
    are in training mode see parts, not the batch.

    Args:
        encode: the network, on one part.
        parts: of the batch, of any sizes.
        loss: of all features.
        during: what each part's backward pass runs within; it is told whether the part is the last one. There
            DistributedDataParallel exchanges gradients.

    Returns:
        The loss, a scalar without gradient.

    Raises:
        ShapeError: there is no part.
    """
    if not parts:
        raise ShapeError("a batch needs at least one part, got none")
    seeds = torch.randint(_SEEDS, (len(parts),)).tolist()
    with torch.no_grad():
        outputs = [_seeded(encode, part, seed) for part, seed in zip(parts, seeds, strict=True)]
    whole = ClipOutput(
        image_features=torch.cat([output.image_features for output in outputs]).requires_grad_(),
        text_features=torch.cat([output.text_features for output in outputs]).requires_grad_(),
        logit_scale=outputs[0].logit_scale.clone().requires_grad_(),
        logit_bias=None if outputs[0].logit_bias is None else outputs[0].logit_bias.clone().requires_grad_(),
    )
    total = loss(whole)
    total.backward()
    start = 0
    for index, (part, seed) in enumerate(zip(parts, seeds, strict=True)):
        is_last = index == len(parts) - 1
        rows = slice(start, start + len(outputs[index].image_features))
        start = rows.stop
        with during(is_last):
            _carry_back(_seeded(encode, part, seed), whole, rows, is_last=is_last)
    return total.detach()


def _seeded(encode: Callable[[Part], ClipOutput], part: Part, seed: int) -> ClipOutput:
    torch.manual_seed(seed)
    return encode(part)


def _carry_back(output: ClipOutput, whole: ClipOutput, rows: slice, *, is_last: bool) -> None:
    """Back through one part; the scale and the bias, which all parts share, once."""
    share = 1.0 if is_last else 0.0  # not left out: a process expects a gradient of every parameter
    pairs = [(output.image_features, _gradient(whole.image_features)[rows])]
    pairs.append((output.text_features, _gradient(whole.text_features)[rows]))
    pairs.append((output.logit_scale, share * _gradient(whole.logit_scale)))
    if output.logit_bias is not None and whole.logit_bias is not None:
        pairs.append((output.logit_bias, share * _gradient(whole.logit_bias)))
    tensors, gradients = zip(*pairs, strict=True)
    torch.autograd.backward(tensors, gradients)


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
