"""Swin Transformer (Liu et al. 2021), as a detection backbone.

Written here rather than taken from torchvision because torchvision drops the window shift along an axis that one
window covers, and the published GLIP weights were trained with it; elsewhere the two agree (tests compare them).
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

PATCH_SIZE = 4
MLP_RATIO = 4
REGION_PENALTY = -100.0  # the published value: added to scores between regions that the cyclic shift glued together
NORMED_STAGES = (1, 2, 3)  # stage 0 is not an output


class SwinTransformer(nn.Module):
    """Four stages of shifted-window attention.

    Args:
        embed_dim: channels of the first stage; each later stage has twice as many.
        depths: blocks of each stage.
        num_heads: attention heads of each stage.
        window_size: side of the attention window, in positions.
        drop_path_rate: largest probability of skipping a block in training; grows linearly with depth.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        depths: Sequence[int],
        num_heads: Sequence[int],
        window_size: int,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        dims = [embed_dim * 2**stage for stage in range(len(depths))]
        self.channels = tuple(dims[stage] for stage in NORMED_STAGES)
        self.patch_embed = PatchEmbedding(embed_dim)
        rates = torch.linspace(0, drop_path_rate, sum(depths), device="cpu").split(list(depths))
        self.layers = nn.ModuleList(
            SwinStage(
                dims[stage],
                num_heads=num_heads[stage],
                window_size=window_size,
                drop_paths=rates[stage].tolist(),
                downsample=stage < len(depths) - 1,
            )
            for stage in range(len(depths))
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dims[stage]) for stage in NORMED_STAGES)

    def forward(self, pixel_values: Tensor) -> list[Tensor]:
        """Encode images.

        Args:
            pixel_values: `(B, 3, H, W)` normalised RGB.

        Returns:
            Three maps `(B, channels[i], ceil(H / s), ceil(W / s))` at strides s = 8, 16, 32, each normalised.
        """
        stages = self.forward_stages(pixel_values)
        return [
            norm(stages[index]).permute(0, 3, 1, 2).contiguous()
            for index, norm in zip(NORMED_STAGES, self.norms, strict=True)
        ]

    def forward_stages(self, pixel_values: Tensor) -> list[Tensor]:
        """The raw map of every stage before its downsampling, `(B, h, w, C)`, without the output norms."""
        features = self.patch_embed(pixel_values)
        outputs = []
        for layer in self.layers:
            output, features = layer(features)
            outputs.append(output)
        return outputs


class PatchEmbedding(nn.Module):
    """Cuts the image into 4x4 patches, padding it on the right and bottom, and projects each."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, PATCH_SIZE, stride=PATCH_SIZE)
        self.norm = nn.LayerNorm(dim)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """`(B, 3, H, W)` to `(B, ceil(H / 4), ceil(W / 4), dim)`."""
        height, width = pixel_values.shape[-2:]
        padded = F.pad(pixel_values, (0, -width % PATCH_SIZE, 0, -height % PATCH_SIZE))
        embedded: Tensor = self.norm(self.proj(padded).permute(0, 2, 3, 1))
        return embedded


class SwinStage(nn.Module):
    """Blocks at one resolution, every second one with shifted windows, then the step to half the resolution."""

    def __init__(
        self, dim: int, *, num_heads: int, window_size: int, drop_paths: Sequence[float], downsample: bool
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(
                dim,
                num_heads=num_heads,
                window_size=window_size,
                shift=window_size // 2 if index % 2 else 0,
                drop_path=drop_path,
            )
            for index, drop_path in enumerate(drop_paths)
        )
        self.downsample = PatchMerging(dim) if downsample else None
        self.gradient_checkpointing = False  # as transformers has it: set by `gradient_checkpointing_enable`

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, h, w, C)` to the stage's output and the next stage's input."""
        for block in self.blocks:
            assert isinstance(block, SwinBlock)
            if self.gradient_checkpointing and torch.is_grad_enabled():  # in halves: the peak is one half's
                features = checkpoint(block.attend, features, use_reentrant=False)
                features = checkpoint(block.transform, features, use_reentrant=False)
            else:
                features = block(features)
        return features, self.downsample(features) if self.downsample else features


class SwinBlock(nn.Module):
    """Window attention and a two-layer MLP, each behind a LayerNorm and added to its input."""

    def __init__(self, dim: int, *, num_heads: int, window_size: int, shift: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, num_heads=num_heads, window_size=window_size, shift=shift)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)
        self.drop_path = StochasticDepth(drop_path, mode="row")

    def forward(self, features: Tensor) -> Tensor:
        """`(B, h, w, C)` in and out."""
        return self.transform(self.attend(features))

    def attend(self, features: Tensor) -> Tensor:
        """The block's first half: `(B, h, w, C)` in and out."""
        result: Tensor = features + self.drop_path(self.attn(self.norm1(features)))
        return result

    def transform(self, features: Tensor) -> Tensor:
        """The block's second half: `(B, h, w, C)` in and out."""
        result: Tensor = features + self.drop_path(self.mlp(self.norm2(features)))
        return result


class Mlp(nn.Module):
    """Two linear layers round a GELU."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, MLP_RATIO * dim)
        self.fc2 = nn.Linear(MLP_RATIO * dim, dim)

    def forward(self, features: Tensor) -> Tensor:
        """`(..., C)` in and out."""
        result: Tensor = self.fc2(F.gelu(self.fc1(features)))
        return result


class WindowAttention(nn.Module):
    """Self-attention inside windows, with a learned bias for each relative position.

    The map is padded with zeros to whole windows; padded positions take part, as in the published weights.
    """

    def __init__(self, dim: int, *, num_heads: int, window_size: int, shift: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.shift = shift
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window_size - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, h, w, C)` in and out."""
        _, height, width, _ = features.shape
        window = self.window_size
        padded = F.pad(features, (0, 0, 0, -width % window, 0, -height % window))
        rolled = torch.roll(padded, (-self.shift, -self.shift), dims=(1, 2)) if self.shift else padded
        attended = self._attend(_to_windows(rolled, window), self._bias(padded.shape[1], padded.shape[2]))
        merged = _from_windows(attended, window, padded.shape)
        unrolled = torch.roll(merged, (self.shift, self.shift), dims=(1, 2)) if self.shift else merged
        return unrolled[:, :height, :width]

    def _attend(self, windows: Tensor, bias: Tensor) -> Tensor:
        """Attention inside each window: `(B, windows, positions, C)` in and out; bias `(1 or windows, heads, n, n)`."""
        batch, count, positions, dim = windows.shape
        qkv = self.qkv(windows).view(batch, count, positions, 3, self.num_heads, dim // self.num_heads)
        query, key, value = qkv.permute(3, 0, 1, 4, 2, 5)  # each (B, windows, heads, n, dim / heads)
        heads = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        result: Tensor = self.proj(heads.transpose(2, 3).flatten(3))
        return result

    def _bias(self, height: int, width: int) -> Tensor:
        """What is added to the scores: the relative position bias and, between glued regions, the penalty."""
        table = self.relative_position_bias_table
        index = relative_position_index(self.window_size).to(table.device)
        bias = table[index].permute(2, 0, 1).unsqueeze(0)  # (1, heads, n, n)
        if not self.shift:
            return bias
        penalty = shift_penalty(height, width, self.window_size, self.shift).to(table)
        return bias + penalty.unsqueeze(1)


class PatchMerging(nn.Module):
    """Halves the resolution: four neighbours are concatenated, normalised and projected to twice the channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, h, w, C)` to `(B, ceil(h / 2), ceil(w / 2), 2 C)`."""
        _, height, width, _ = features.shape
        padded = F.pad(features, (0, 0, 0, width % 2, 0, height % 2))
        neighbours = [padded[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        result: Tensor = self.reduction(self.norm(torch.cat(neighbours, dim=-1)))
        return result


def _to_windows(features: Tensor, window: int) -> Tensor:
    """`(B, h, w, C)` to `(B, windows, window * window, C)`."""
    batch, height, width, dim = features.shape
    grid = features.view(batch, height // window, window, width // window, window, dim)
    return grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _from_windows(windows: Tensor, window: int, shape: torch.Size) -> Tensor:
    """The inverse of `_to_windows`, for a map of this `(B, h, w, C)` shape."""
    batch, height, width, dim = shape
    grid = windows.view(batch, height // window, width // window, window, window, dim)
    return grid.transpose(2, 3).reshape(batch, height, width, dim)


@lru_cache(maxsize=8)
@torch.inference_mode(mode=False)  # a cached inference tensor would stop a later backward pass
def relative_position_index(window: int) -> Tensor:
    """Row of the bias table for each pair of positions in a window: `(n, n)` int64, n = window squared."""
    rows, columns = torch.meshgrid(*2 * [torch.arange(window, device="cpu")], indexing="ij")
    down = rows.flatten()[:, None] - rows.flatten()[None] + window - 1
    right = columns.flatten()[:, None] - columns.flatten()[None] + window - 1
    return down * (2 * window - 1) + right


@lru_cache(maxsize=32)
@torch.inference_mode(mode=False)
def shift_penalty(height: int, width: int, window: int, shift: int) -> Tensor:
    """0 between positions of one region, `REGION_PENALTY` between others: `(windows, n, n)`."""
    row_region, column_region = (
        (position >= length - window).long() + (position >= length - shift).long()
        for length, position in ((n, torch.arange(n, device="cpu")) for n in (height, width))
    )
    regions = (row_region[:, None] * 3 + column_region).view(1, height, width, 1)
    by_window = _to_windows(regions, window)[0, :, :, 0]  # (windows, n)
    return (by_window[:, :, None] != by_window[:, None]) * REGION_PENALTY
