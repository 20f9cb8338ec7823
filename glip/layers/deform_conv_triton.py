"""The modulated deformable convolution on a GPU: two Triton kernels round the matrix products of cuBLAS.

Written from equation 1 of Zhu et al. 2019 (Deformable ConvNets v2). One kernel samples the map into columns, a matrix
product makes the result of them; in the backward pass the columns are made again, and the other kernel hands their
gradient on to the map, the offsets and the mask. The gradient of the map is summed in no fixed order.

Verified in Triton's interpreter only, on a CPU; never run, so not measured, on a GPU.

Only `glip.layers.deform_conv` imports this file, and only for features on a GPU.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

POSITION_BLOCK = (
    4  # output positions that one program samples, for one tap; 16 need every register in the backward pass
)
CHANNEL_BLOCK = 256  # channels that it reads at a time: all of a level of GLIP's pyramid


def triton_deform_conv2d(
    features: Tensor, offsets: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, stride: int
) -> Tensor:
    """The same convolution as `gather_deform_conv2d`; call it with autocast off, as `ModulatedDeformConv` does.

    Args:
        features: `(B, C, H, W)` float32 or bfloat16; channels-last in memory saves a copy.
        offsets: `(B, 18, h, w)` pixels, (dy, dx) of each tap; best in float32, which the sampling computes in.
        mask: `(B, 9, h, w)` weight of each tap.
        weight: `(O, C, 3, 3)`.
        bias: `(O,)`.
        stride: 1 or 2.

    Returns:
        `(B, O, h, w)` in the features' dtype, channels-last in memory; pixels outside the map count as 0.
    """
    batch, _, height, width = offsets.shape
    table = features.permute(0, 2, 3, 1).contiguous()
    kernel = weight.permute(2, 3, 1, 0).flatten(0, 2).to(features.dtype)  # (9*C, O)
    result = torch.as_tensor(
        _SampledProduct.apply(
            table, offsets.contiguous(), mask.contiguous(), kernel, bias.to(features.dtype), stride, weight.shape[-1]
        )
    )
    return result.view(batch, height, width, len(weight)).permute(0, 3, 1, 2)


class _SampledProduct(torch.autograd.Function):
    """Samples of the map, nine a position, times a matrix; the samples are not kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, table: Tensor, offsets: Tensor, mask: Tensor, kernel: Tensor, bias: Tensor, stride: int, side: int
    ) -> Tensor:
        """`table` `(B, H, W, C)`, `kernel` `(side * side * C, O)`, `bias` `(O,)`; gives `(B*h*w, O)`."""
        ctx.save_for_backward(table, offsets, mask, kernel)
        ctx.stride, ctx.side = stride, side
        return torch.addmm(bias, _sample(table, offsets, mask, stride, side), kernel)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of all tensors."""
        table, offsets, mask, kernel = ctx.saved_tensors
        grad_kernel = _sample(table, offsets, mask, ctx.stride, ctx.side).T @ grad
        of_samples = _sample_backward(grad @ kernel.T, table, offsets, mask, ctx.stride, ctx.side)
        return *of_samples, grad_kernel, grad.sum(dim=0), None, None


def _sample(table: Tensor, offsets: Tensor, mask: Tensor, stride: int, side: int) -> Tensor:
    """The weighted samples of each position behind each other, tap by tap: `(B*h*w, 9*C)`."""
    count, channels = mask.numel() // mask.shape[1], table.shape[-1]
    columns = table.new_empty(count, side * side * channels)
    with torch.cuda.device_of(table):
        _sample_kernel[_programs(count, side)](
            table, offsets, mask, columns, count, *mask.shape[2:], *table.shape[1:], stride, side, *_blocks(channels)
        )
    return columns


def _sample_backward(
    grad: Tensor, table: Tensor, offsets: Tensor, mask: Tensor, stride: int, side: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the map, the offsets and the mask from that of the columns, `(B*h*w, 9*C)`."""
    grad_table = torch.zeros_like(table, dtype=torch.float32)
    grad_offsets, grad_mask = torch.empty_like(offsets), torch.empty_like(mask)
    with torch.cuda.device_of(table):
        _sample_backward_kernel[_programs(len(grad), side)](
            grad, table, offsets, mask, grad_table, grad_offsets, grad_mask,
            len(grad), *mask.shape[2:], *table.shape[1:], stride, side, *_blocks(table.shape[-1]),
        )  # fmt: skip
    return grad_table.to(table.dtype), grad_offsets, grad_mask


def _programs(positions: int, side: int) -> tuple[int]:
    """One program for each block of positions and each tap; the taps of a block run side by side and share a cache."""
    return (triton.cdiv(positions, POSITION_BLOCK) * side * side,)


def _blocks(channels: int) -> tuple[int, int]:
    return POSITION_BLOCK, min(triton.next_power_of_2(channels), CHANNEL_BLOCK)


@triton.jit
def _sample_kernel(  # noqa: PLR0913, PLR0917  # a kernel takes numbers one by one
    table: tl.tensor,
    offsets: tl.tensor,
    mask: tl.tensor,
    columns: tl.tensor,
    positions: int,
    height: int,
    width: int,
    in_height: int,
    in_width: int,
    channels: tl.constexpr,
    stride: int,
    side: tl.constexpr,
    position_block: tl.constexpr,
    channel_block: tl.constexpr,
) -> None:
    """Fill the columns of one tap for a block of positions; sums are in float32."""
    tap = tl.program_id(0) % (side * side)
    position = tl.program_id(0) // (side * side) * position_block + tl.arange(0, position_block)
    live = position < positions
    at_mask, at_offset = _addresses(position, tap, height, width, side)
    y, x = _sampling_point(offsets, at_offset, position, live, tap, height, width, in_height, in_width, stride, side)
    first_row = position // (height * width) * in_height
    tap_weight = tl.load(mask + at_mask, mask=live, other=0.0).to(tl.float32)
    column = (position.to(tl.int64) * (side * side) + tap) * channels
    for start in range(0, channels, channel_block):
        channel = start + tl.arange(0, channel_block)[None, :]
        real = channel < channels
        sample = tl.zeros((position_block, channel_block), dtype=tl.float32)
        for down in tl.static_range(2):
            for right in tl.static_range(2):
                pixel, inside, share_y, share_x = _corner(y, x, down, right, first_row, in_height, in_width)
                place = pixel[:, None] * channels + channel
                seen = inside[:, None] & real
                value = tl.load(table + place, mask=seen, other=0.0).to(tl.float32)
                sample += value * (share_y * share_x * tap_weight)[:, None]
        tl.store(columns + column[:, None] + channel, sample.to(columns.dtype.element_ty), mask=live[:, None] & real)


@triton.jit
def _sample_backward_kernel(  # noqa: PLR0913, PLR0917  # a kernel takes numbers one by one
    grad: tl.tensor,
    table: tl.tensor,
    offsets: tl.tensor,
    mask: tl.tensor,
    grad_table: tl.tensor,
    grad_offsets: tl.tensor,
    grad_mask: tl.tensor,
    positions: int,
    height: int,
    width: int,
    in_height: int,
    in_width: int,
    channels: tl.constexpr,
    stride: int,
    side: tl.constexpr,
    position_block: tl.constexpr,
    channel_block: tl.constexpr,
) -> None:
    """Add to the map's gradient, and write those of the offsets and the mask, for one tap of a block of positions."""
    tap = tl.program_id(0) % (side * side)
    position = tl.program_id(0) // (side * side) * position_block + tl.arange(0, position_block)
    live = position < positions
    at_mask, at_offset = _addresses(position, tap, height, width, side)
    y, x = _sampling_point(offsets, at_offset, position, live, tap, height, width, in_height, in_width, stride, side)
    first_row = position // (height * width) * in_height
    tap_weight = tl.load(mask + at_mask, mask=live, other=0.0).to(tl.float32)
    column = (position.to(tl.int64) * (side * side) + tap) * channels
    of_weight = tl.zeros((position_block,), dtype=tl.float32)
    of_y = tl.zeros((position_block,), dtype=tl.float32)
    of_x = tl.zeros((position_block,), dtype=tl.float32)
    for start in range(0, channels, channel_block):
        channel = start + tl.arange(0, channel_block)[None, :]
        real = channel < channels
        of_sample = tl.load(grad + column[:, None] + channel, mask=live[:, None] & real, other=0.0).to(tl.float32)
        for down in tl.static_range(2):
            for right in tl.static_range(2):
                pixel, inside, share_y, share_x = _corner(y, x, down, right, first_row, in_height, in_width)
                place = pixel[:, None] * channels + channel
                seen = inside[:, None] & real
                value = tl.load(table + place, mask=seen, other=0.0).to(tl.float32)
                agreement = tl.sum(of_sample * value, axis=1)
                of_weight += share_y * share_x * agreement
                of_y += (2 * down - 1) * share_x * agreement  # the lower corners gain what the upper ones lose
                of_x += (2 * right - 1) * share_y * agreement
                of_value = of_sample * (share_y * share_x * tap_weight)[:, None]
                tl.atomic_add(grad_table + place, of_value, mask=seen, sem="relaxed")
    tl.store(grad_mask + at_mask, of_weight.to(grad_mask.dtype.element_ty), mask=live)
    element = grad_offsets.dtype.element_ty
    tl.store(grad_offsets + at_offset, (of_y * tap_weight).to(element), mask=live)
    tl.store(grad_offsets + at_offset + height * width, (of_x * tap_weight).to(element), mask=live)


@triton.jit
def _addresses(
    position: tl.tensor, tap: tl.tensor, height: tl.tensor, width: tl.tensor, side: tl.constexpr
) -> tuple[tl.tensor, tl.tensor]:
    """Where a tap's weight is in the mask `(B, 9, h, w)`, and its dy in the offsets `(B, 18, h, w)`; dx is h*w on."""
    area = height * width
    image, within = position // area, position % area
    at_tap = image * (side * side) + tap
    return at_tap * area + within, at_tap * 2 * area + within


@triton.jit
def _sampling_point(  # noqa: PLR0913, PLR0917  # a kernel takes numbers one by one
    offsets: tl.tensor,
    at_offset: tl.tensor,
    position: tl.tensor,
    live: tl.tensor,
    tap: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    in_height: tl.tensor,
    in_width: tl.tensor,
    stride: tl.tensor,
    side: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Where the tap of each position reads, (y, x) in pixels; those past the last position read outside the map."""
    out_y, out_x = position // width % height, position % width
    dy = tl.load(offsets + at_offset, mask=live, other=0.0).to(tl.float32)
    dx = tl.load(offsets + at_offset + height * width, mask=live, other=0.0).to(tl.float32)
    y = dy + (out_y * stride - side // 2 + tap // side)
    x = dx + (out_x * stride - side // 2 + tap % side)
    # A point two pixels outside sees as little as one a mile off, whose row would not fit into an int32.
    y = tl.clamp(y, -2.0, in_height + 1.0, propagate_nan=tl.PropagateNan.ALL)
    x = tl.clamp(x, -2.0, in_width + 1.0, propagate_nan=tl.PropagateNan.ALL)
    return tl.where(live, y, -2.0), x


@triton.jit
def _corner(
    y: tl.tensor,
    x: tl.tensor,
    down: tl.constexpr,
    right: tl.constexpr,
    first_row: tl.tensor,
    in_height: tl.tensor,
    in_width: tl.tensor,
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """One of the four pixels round each point: its number among all images', whether it exists, its shares in y and x.

    `down` and `right` are 0 or 1. The bilinear weight is the product of the two shares.
    """
    row, column = tl.floor(y) + down, tl.floor(x) + right
    inside = (row >= 0) & (row < in_height) & (column >= 0) & (column < in_width)
    pixel = (first_row + row.to(tl.int32)).to(tl.int64) * in_width + column.to(tl.int32)
    return pixel, inside, 1 - tl.abs(y - row), 1 - tl.abs(x - column)
