"""Modulated deformable convolution (Zhu et al. 2019, Deformable ConvNets v2, equation 1).

`gather_deform_conv2d` is the library's path on a CPU: each sampled pixel is a weighted sum of four rows of the
channels-last image, which `embedding_bag` does in one pass, and one matrix product does the rest. A GPU takes
torchvision's operator, which is the tests' judge, or the kernels of `deform_conv_triton` if `USE_TRITON` is set.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

KERNEL_SIZE = 3
TAPS = KERNEL_SIZE * KERNEL_SIZE
PADDING = 1
USE_TRITON = False  # on GPUs; verified in Triton's interpreter only, so it is off until somebody has measured it on one
SLICE = 2048  # positions that are sampled at a time

DeformConv2d = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int], Tensor]  # as `gather_deform_conv2d`


class ModulatedDeformConv(nn.Module):
    """A 3x3 convolution whose nine taps are moved and weighted at each position.

    Args:
        in_channels: C of the input.
        out_channels: C of the output.
        stride: 1 or 2.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, KERNEL_SIZE, KERNEL_SIZE))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        bound = 1 / math.sqrt(in_channels * TAPS)
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, features: Tensor, offsets: Tensor, mask: Tensor) -> Tensor:
        """Convolve at moved positions; always in float32, as half precision loses the sampling positions.

        Args:
            features: `(B, C, H, W)`.
            offsets: `(B, 18, h, w)` pixels, (dy, dx) of each tap, taps row by row.
            mask: `(B, 9, h, w)` in `[0, 1]`, the weight of each tap.

        Returns:
            `(B, out_channels, h, w)` float32, with `h = ceil(H / stride)` and `w` likewise.
        """
        convolve = _path_for(features)
        device = features.device.type
        in_float32 = torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
        with in_float32:
            return convolve(
                features.float(), offsets.float(), mask.float(), self.weight.float(), self.bias.float(), self.stride
            )


def _path_for(features: Tensor) -> DeformConv2d:
    """Gathering on a CPU; Triton on a GPU, if that is asked for; torchvision's operator elsewhere and to compilers."""
    device = features.device.type
    if device == "cpu":
        return gather_deform_conv2d
    is_recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
    if device != "cuda" or not USE_TRITON or is_recorded or find_spec("triton") is None:
        return torchvision_deform_conv2d
    from glip.layers.deform_conv_triton import triton_deform_conv2d

    return triton_deform_conv2d


def torchvision_deform_conv2d(
    features: Tensor, offsets: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, stride: int
) -> Tensor:
    """The reference: torchvision's operator. Arguments as in `gather_deform_conv2d`."""
    result: Tensor = deform_conv2d(
        features, offsets, weight, bias, stride=(stride, stride), padding=(PADDING, PADDING), mask=mask
    )
    return result


def gather_deform_conv2d(
    features: Tensor, offsets: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, stride: int
) -> Tensor:
    """The same convolution as row gathering and one matrix product.

    Args:
        features: `(B, C, H, W)` float32.
        offsets: `(B, 18, h, w)` pixels, (dy, dx) of each tap.
        mask: `(B, 9, h, w)` weight of each tap.
        weight: `(O, C, 3, 3)`.
        bias: `(O,)`.
        stride: 1 or 2.

    Returns:
        `(B, O, h, w)`; pixels outside the map count as 0.
    """
    batch, channels = features.shape[:2]
    height, width = offsets.shape[-2:]
    rows, weights = _corners(offsets, mask, features.shape[-2:], stride)
    table = features.permute(0, 2, 3, 1).reshape(-1, channels)  # (B*H*W, C)
    kernel = weight.permute(2, 3, 1, 0).reshape(TAPS * channels, -1)  # (9*C, O)
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined]
        result = torch.addmm(bias, _sample(table, rows, weights), kernel)
    else:
        result = torch.as_tensor(_SampledProduct.apply(table, rows, weights, kernel, bias))
    return result.view(batch, height, width, len(weight)).permute(0, 3, 1, 2)


class _SampledProduct(torch.autograd.Function):
    """Weighted sums of rows, nine a position, times a matrix.

    The sums are nine times as large as the map, and quickly made: slice by slice, and again in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, weights: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        """`table` `(R, C)`, `rows` and `weights` `(9 * N, 4)`, `kernel` `(9 * C, O)`, `bias` `(O,)`; gives `(N, O)`."""
        result = table.new_empty(len(rows) // TAPS, len(bias))
        for part, of_part in _slices(len(result)):
            torch.addmm(bias, _sample(table, rows[of_part], weights[of_part]), kernel, out=result[part])
        ctx.save_for_backward(table, rows, weights, kernel)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of all but `rows`."""
        table, rows, weights, kernel = ctx.saved_tensors
        grad_table, grad_weights, grad_kernel = (torch.zeros_like(one) for one in (table, weights, kernel))
        for part, of_part in _slices(len(grad)):
            first, last = (int(row) for row in rows[of_part].aminmax())  # a slice reads a few lines of the map only
            with torch.enable_grad():
                leaves = table[first : last + 1].detach().requires_grad_(), weights[of_part].detach().requires_grad_()
                sampled = _sample(leaves[0], rows[of_part] - first, leaves[1])
            grad_kernel.addmm_(sampled.detach().T, grad[part])
            of_lines, grad_weights[of_part] = torch.autograd.grad(sampled, leaves, grad[part] @ kernel.T)
            grad_table[first : last + 1] += of_lines
        return grad_table, None, grad_weights, grad_kernel, grad.sum(dim=0)


def _slices(count: int) -> Iterator[tuple[slice, slice]]:
    """Slices of the positions, and of their taps."""
    for start in range(0, count, SLICE):
        stop = min(start + SLICE, count)
        yield slice(start, stop), slice(start * TAPS, stop * TAPS)


def _sample(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """The nine sums of each position behind each other: `(n, 9 * C)`."""
    return F.embedding_bag(rows, table, per_sample_weights=weights, mode="sum").view(-1, TAPS * table.shape[1])


def _corners(offsets: Tensor, mask: Tensor, size: torch.Size | tuple[int, int], stride: int) -> tuple[Tensor, Tensor]:
    """The four pixels round each sampling position, as row numbers, and their bilinear weights times the mask.

    Returns:
        rows `(B*h*w*9, 4)` int64 into the channels-last image, weights `(B*h*w*9, 4)`; pixels outside weigh 0.
    """
    in_height, in_width = size
    batch, _, height, width = offsets.shape
    moved = offsets.view(batch, TAPS, 2, height, width).permute(0, 3, 4, 1, 2)  # (B, h, w, 9, 2)
    y = moved[..., 0] + _tap_positions(height, stride, offsets)[:, None, :].repeat_interleave(KERNEL_SIZE, -1)
    x = moved[..., 1] + _tap_positions(width, stride, offsets)[None, :, :].repeat(1, 1, KERNEL_SIZE)
    top, left = y.floor(), x.floor()
    near_y, near_x = y - top, x - left
    first_image_row = torch.arange(batch, device=offsets.device).view(-1, 1, 1, 1) * (in_height * in_width)
    rows, weights = [], []
    for row, weight_y in ((top, 1 - near_y), (top + 1, near_y)):
        for column, weight_x in ((left, 1 - near_x), (left + 1, near_x)):
            inside = (row >= 0) & (row < in_height) & (column >= 0) & (column < in_width)
            index = row.clamp(0, in_height - 1) * in_width + column.clamp(0, in_width - 1)
            rows.append(index.long() + first_image_row)
            weights.append(weight_y * weight_x * inside)
    tap_weights = mask.permute(0, 2, 3, 1)  # (B, h, w, 9)
    return (
        torch.stack(rows, dim=-1).view(-1, 4),
        (torch.stack(weights, dim=-1) * tap_weights.unsqueeze(-1)).view(-1, 4),
    )


def _tap_positions(length: int, stride: int, like: Tensor) -> Tensor:
    """Where the three taps of each output position stand on the input, along one axis: `(length, 3)`."""
    outputs = torch.arange(length, device=like.device, dtype=like.dtype) * stride - PADDING
    return outputs[:, None] + torch.arange(KERNEL_SIZE, device=like.device, dtype=like.dtype)
