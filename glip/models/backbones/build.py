"""From a config's `backbone` to a network that gives strides 8, 16 and 32."""

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn

from glip.errors import ConfigError
from glip.models.backbones.csp import CspPan
from glip.models.backbones.swin import SwinTransformer

STRIDES = (8, 16, 32)


class Backbone(Protocol):
    """What the pyramid asks of an image encoder.

    Attributes:
        channels: C of the maps at strides 8, 16 and 32.
    """

    channels: tuple[int, ...]

    def __call__(self, pixel_values: Tensor) -> list[Tensor]:
        """`(B, 3, H, W)` normalised RGB to three maps, finest first."""
        ...


def build_backbone(backbone: dict[str, Any]) -> nn.Module:
    """Build the encoder that a config's `backbone` describes; it fulfils `Backbone`.

    Raises:
        ConfigError: the encoder needs a package that is not installed, or gives other strides than 8, 16, 32.
    """
    builders: dict[str, Callable[..., nn.Module]] = {
        "swin": SwinTransformer,
        "csp": CspPan,
        "resnet": build_resnet,
        "timm": build_timm,
        "transformers": build_transformers,
    }
    numbers = {name: value for name, value in backbone.items() if name != "kind"}
    return builders[backbone["kind"]](**numbers)


class FeatureAdapter(nn.Module):
    """Any encoder that returns a list or dict of maps, with its channels said aloud.

    Args:
        body: a module whose `forward` gives the maps at strides 8, 16 and 32 (a list, or a dict in that order).
        channels: C of each.
    """

    def __init__(self, body: nn.Module, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.body = body
        self.channels = channels

    def forward(self, pixel_values: Tensor) -> list[Tensor]:
        """`(B, 3, H, W)` normalised RGB to three maps, finest first."""
        maps = self.body(pixel_values)
        maps = getattr(maps, "feature_maps", maps)  # transformers' BackboneOutput
        return list(maps.values()) if isinstance(maps, dict) else list(maps)


def build_resnet(*, layers: list[int]) -> FeatureAdapter:
    """A bottleneck ResNet of torchvision's with frozen batch norms (He et al. 2016)."""
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.resnet import Bottleneck, ResNet
    from torchvision.ops import FrozenBatchNorm2d

    network = ResNet(Bottleneck, layers, norm_layer=FrozenBatchNorm2d)
    body = IntermediateLayerGetter(network, {"layer2": "c3", "layer3": "c4", "layer4": "c5"})
    return FeatureAdapter(body, (512, 1024, 2048))


def build_timm(*, name: str, out_indices: list[int]) -> FeatureAdapter:
    """Any timm model that can list its features; needs the `timm` extra."""
    try:
        import timm
    except ImportError as error:
        raise ConfigError("backbone kind 'timm' needs timm: pip install 'glip-for-everyone[timm]'") from error
    body: Any = timm.create_model(name, features_only=True, pretrained=False, out_indices=tuple(out_indices))
    _check_strides(f"timm model {name!r}", body.feature_info.reduction())
    return FeatureAdapter(body, tuple(body.feature_info.channels()))


def build_transformers(*, config: dict[str, Any]) -> FeatureAdapter:
    """Any backbone that transformers' `AutoBackbone` builds from a config with a `model_type`."""
    from transformers import AutoBackbone, AutoConfig

    if "model_type" not in config:
        raise ConfigError("backbone kind 'transformers': config needs a model_type, for example 'convnextv2'")
    settings = {name: value for name, value in config.items() if name != "model_type"}
    body = AutoBackbone.from_config(AutoConfig.for_model(config["model_type"], **settings))
    if len(body.channels) != len(STRIDES):
        raise ConfigError(
            f"backbone kind 'transformers' must give {len(STRIDES)} maps, got {len(body.channels)}: "
            f"set out_features to the stages at strides {list(STRIDES)}"
        )
    return FeatureAdapter(body, tuple(body.channels))


def _check_strides(what: str, strides: list[int]) -> None:
    if tuple(strides) != STRIDES:
        raise ConfigError(f"{what} must give strides {list(STRIDES)}, got {strides}: choose other out_indices")
