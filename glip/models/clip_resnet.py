"""CLIP with a modified ResNet (Radford et al. 2021, section 2.4), for published weights (`glip.weights.clip_openai`).

Against He et al. 2016: the stem has three convolutions and an average pooling; a block that halves its map does so by
average pooling, on both of its ways; attention makes one vector of the last map.
"""

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

from glip.clip_configuration import RESNET_STRIDE, RESNET_WIDENING, ResNetClipConfig
from glip.layers.pooling import PositionedAttentionPool
from glip.models.clip_published import PublishedClipModel

EXPANSION = 4  # a block's output channels for each of its 3x3 convolution's


class ResNetClipModel(PublishedClipModel):
    """A modified ResNet and a causal text transformer; what a `ClipModel` says, it says, too.

    The ResNet's batch norms keep the statistics and factors of the file, in training, too.

    Args:
        config: the network's numbers.
    """

    config_class = ResNetClipConfig
    config: ResNetClipConfig

    def __init__(self, config: ResNetClipConfig) -> None:
        super().__init__(config)
        width = config.image_width
        self.stem = nn.ModuleList(
            [
                ConvNorm(3, width // 2, kernel_size=3, stride=2),
                ConvNorm(width // 2, width // 2, kernel_size=3),
                ConvNorm(width // 2, width, kernel_size=3),
            ]
        )
        self.stages = nn.ModuleList()
        channels = width
        for number, blocks in enumerate(config.image_layers):
            self.stages.append(_stage(channels, width * 2**number, blocks=blocks, stride=1 if number == 0 else 2))
            channels = EXPANSION * width * 2**number
        self.image_pool = PositionedAttentionPool(
            RESNET_WIDENING * width,
            num_heads=config.image_heads,
            num_positions=(config.image_size // RESNET_STRIDE) ** 2,
            out_dim=config.embed_dim,
        )
        self.post_init()

    def image_vectors(self, pixel_values: Tensor) -> Tensor:
        """The image tower: `(B, 3, S, S)` normalised RGB to `(B, D)` of any length."""
        features = pixel_values
        for layer in self.stem:
            features = F.relu(layer(features))
        features = F.avg_pool2d(features, 2)
        for stage in self.stages:
            features = stage(features)
        vectors: Tensor = self.image_pool(features)
        return vectors


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, added to their input; the map shrinks by average pooling behind the 3x3.

    Args:
        in_channels: C of the input.
        width: channels of the 3x3 convolution; the output has four times as many.
        stride: by how much the map shrinks.
    """

    def __init__(self, in_channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        out_channels = EXPANSION * width
        self.stride = stride
        self.reduce = ConvNorm(in_channels, width)
        self.mix = ConvNorm(width, width, kernel_size=3)
        self.expand = ConvNorm(width, out_channels)
        keeps_shape = stride == 1 and in_channels == out_channels
        self.shortcut = None if keeps_shape else ConvNorm(in_channels, out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, in_channels, H, W)` to `(B, 4 width, H / stride, W / stride)`."""
        mixed = F.relu(self.mix(F.relu(self.reduce(features))))
        changed = self.expand(F.avg_pool2d(mixed, self.stride))
        kept = features if self.shortcut is None else self.shortcut(F.avg_pool2d(features, self.stride))
        return F.relu(changed + kept)


class ConvNorm(nn.Module):
    """A convolution without bias and a batch norm that no longer learns."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int = 1, stride: int = 1) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=False)
        self.norm = FrozenBatchNorm2d(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, in_channels, H, W)` to `(B, out_channels, H / stride, W / stride)`."""
        normed: Tensor = self.norm(self.conv(features))
        return normed


def _stage(in_channels: int, width: int, *, blocks: int, stride: int) -> nn.Sequential:
    """Blocks at one resolution; the first one gets there."""
    first = Bottleneck(in_channels, width, stride=stride)
    return nn.Sequential(first, *(Bottleneck(EXPANSION * width, width, stride=1) for _ in range(blocks - 1)))
