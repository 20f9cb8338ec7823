"""Instance masks on fused features (GLIPv2, section 3.1; Mask R-CNN, section 3; Stacked Hourglass, section 3.1)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import MultiScaleRoIAlign

POOLED_LEVELS = 3  # the finest ones, as Mask R-CNN has it: coarser ones cannot draw an outline
SAMPLES = 2  # points a side that each pooled place is read at (Mask R-CNN, section 3)
HOURGLASS_DEPTH = 2  # 14 places a side become 7 and 3


class MaskHead(nn.Module):
    """For each box two masks: of whatever stands in it, and of what its words name.

    Args:
        channels: C of image positions.
        text_dim: D of words.
        extractor: "conv" for convolutions one behind the other, "hourglass" for hourglasses.
        layers: how many of them.
        width: channels inside.
        resolution: places along a box's side; masks have twice as many.
    """

    def __init__(
        self, channels: int, text_dim: int, *, extractor: str, layers: int, width: int, resolution: int
    ) -> None:
        super().__init__()
        self.pool = MultiScaleRoIAlign([str(i) for i in range(POOLED_LEVELS)], resolution, SAMPLES)
        self.extractor = (
            _hourglasses(channels, width, layers) if extractor == "hourglass" else _convs(channels, width, layers)
        )
        self.upsample = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.any_thing = nn.Conv2d(width, 1, 1)
        self.word_projection = nn.Linear(text_dim, width)
        self.word_bias = nn.Parameter(torch.zeros(text_dim))
        self.bias = nn.Parameter(torch.zeros(1))
        self.log_scale = nn.Parameter(torch.zeros(1))

    def forward(
        self,
        levels: Sequence[Tensor],
        boxes: Sequence[Tensor],
        words: Tensor,
        token_maps: Sequence[Tensor],
        *,
        stride: int,
    ) -> tuple[Tensor, Tensor]:
        """Draw masks, for all images at once.

        Args:
            levels: fused pyramid, `(B, C, H, W)` each, finest first.
            boxes: of each image `(N, 4)` xyxy pixels.
            words: fused words, `(B, L, D)`.
            token_maps: of each image `(N, L)` bool, the tokens that name each box.
            stride: pixels between neighbours of the finest level.

        Returns:
            class-agnostic and word-conditioned logits, `(N, S, S)` each, of the boxes of all images behind each other.
        """
        size = (levels[0].shape[2] * stride, levels[0].shape[3] * stride)
        maps = {str(i): level.float() for i, level in enumerate(levels[:POOLED_LEVELS])}
        pooled = self.pool(maps, [box.float() for box in boxes], [size] * len(boxes))
        features = F.relu(self.upsample(self.extractor(pooled.to(levels[0].dtype))))  # (N, width, S, S)
        named = torch.einsum("nchw,nc->nhw", features, self._directions(words, token_maps))
        return self.any_thing(features).squeeze(1), named + self._biases(words, token_maps)[:, None, None]

    def _directions(self, words: Tensor, token_maps: Sequence[Tensor]) -> Tensor:
        """What each box's words ask of a place, the mean over them: `(N, width)`."""
        projected = self.word_projection(F.normalize(words, dim=-1) / 2) / self.log_scale.exp()
        return _mean_of_words(projected, token_maps)

    def _biases(self, words: Tensor, token_maps: Sequence[Tensor]) -> Tensor:
        """`(N,)`."""
        biases = F.normalize(words, dim=-1) @ self.word_bias + self.bias
        return _mean_of_words(biases.unsqueeze(-1), token_maps).squeeze(-1)


def _mean_of_words(words: Tensor, token_maps: Sequence[Tensor]) -> Tensor:
    """`(B, L, E)` to `(N, E)`, the mean over each box's tokens; 0 for a box without any."""
    means = [
        token_map.to(row.dtype) @ row / token_map.sum(dim=1, keepdim=True).clamp(min=1)
        for row, token_map in zip(words, token_maps, strict=True)
    ]
    return torch.cat(means)


def _convs(channels: int, width: int, layers: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for index in range(layers):
        parts += [nn.Conv2d(width if index else channels, width, 3, padding=1), nn.ReLU()]
        nn.init.kaiming_normal_(parts[-2].weight, mode="fan_out", nonlinearity="relu")  # type: ignore[arg-type]
    return nn.Sequential(*parts)


def _hourglasses(channels: int, width: int, layers: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 1), *(Hourglass(width, HOURGLASS_DEPTH) for _ in range(layers)))


class Hourglass(nn.Module):
    """A map that has also been looked at from far: halved again and again, and brought back.

    Args:
        channels: C, in and out.
        depth: how often it is halved.
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.near, self.before, self.after = (Residual(channels) for _ in range(3))
        self.far: nn.Module = Hourglass(channels, depth - 1) if depth > 1 else Residual(channels)

    def forward(self, features: Tensor) -> Tensor:
        """`(N, C, H, W)` in and out."""
        far = self.after(self.far(self.before(F.max_pool2d(features, 2))))
        near: Tensor = self.near(features)
        return near + F.interpolate(far, size=features.shape[-2:])


class Residual(nn.Module):
    """A narrow stack of convolutions added to its input.

    Args:
        channels: C, in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(channels // 2, 1)
        self.narrow = nn.Conv2d(channels, narrow, 1)
        self.middle = nn.Conv2d(narrow, narrow, 3, padding=1)
        self.widen = nn.Conv2d(narrow, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """`(N, C, H, W)` in and out."""
        added = self.widen(F.relu(self.middle(F.relu(self.narrow(features)))))
        return F.relu(features + added)
