"""The numbers of a network with two towers, as JSON beside the weights.

The towers are GLIP's, and so are the names of their numbers: `clip_of` takes them from a `GlipConfig`.
"""

from collections.abc import Callable
from dataclasses import field
from typing import Any, Literal, get_args

from transformers import AutoConfig, BertConfig, PreTrainedConfig

from glip.configuration import (
    TRANSFORMERS_EXTRAS,
    GlipConfig,
    complete_backbone,
    glip_large,
    glip_nano,
    glip_resnet50,
    glip_tiny,
    refuse_unknown,
)
from glip.errors import ConfigError

ImagePool = Literal["mean", "attention"]
TextPool = Literal["mean", "first"]

MAX_SCALE = 100.0  # CLIP, section 2.5: larger ones made training unstable
RESNET_STAGES = 4
RESNET_STRIDE = 32  # of the coarsest map, in pixels
RESNET_WIDENING = 32  # channels of the coarsest map for each behind the stem: three doublings and four times
LEAST = {"embed_dim": 1, "pool_heads": 1, "max_tokens": 3}


class ClipConfig(PreTrainedConfig):
    """Everything that decides the shape and arithmetic of a `ClipModel`.

    Attributes:
        backbone: as `GlipConfig.backbone`.
        text: as `GlipConfig.text`.
        embed_dim: D, the width that images and texts share.
        image_pool: how the coarsest map becomes one vector: the mean of its positions, or attention of that mean to
            all of them (CLIP, section 2.4).
        pool_heads: heads of that attention; must divide the coarsest map's channels.
        text_pool: how words become one vector: their mean, or the first token's (BERT's CLS).
        max_tokens: longest text, CLS and SEP included.
        initial_scale: what similarities are multiplied with before any training.
        initial_bias: what is then added; None for a network without a bias. SigLIP's loss needs one and starts from a
            scale of 10 and a bias of -10.

    Raises:
        ConfigError: a name is unknown, or a value is impossible.
    """

    model_type = "glip_clip"  # "clip" is transformers' own

    backbone: dict[str, Any] = field(default_factory=lambda: {"kind": "swin"})
    text: dict[str, Any] = field(default_factory=dict)
    embed_dim: int = 512
    image_pool: ImagePool = "mean"
    pool_heads: int = 8
    text_pool: TextPool = "mean"
    max_tokens: int = 77
    initial_scale: float = 1 / 0.07
    initial_bias: float | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Refuse unknown names, which transformers would keep silently, and fill in the backbone's defaults."""
        known = {*self.default_config_fields(), *TRANSFORMERS_EXTRAS}
        own = {name: value for name, value in kwargs.items() if not name.startswith("_")}  # theirs pass through
        refuse_unknown("ClipConfig", own, known)
        super().__post_init__(**kwargs)
        self.backbone = complete_backbone("ClipConfig", self.backbone)
        refuse_unknown("ClipConfig.text", self.text, set(BertConfig().to_dict()))
        self._check_values()

    def _check_values(self) -> None:
        for name, least in LEAST.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ConfigError(f"ClipConfig.{name} must be a whole number, at least {least}, got {value!r}")
        for name, choices in (("image_pool", get_args(ImagePool)), ("text_pool", get_args(TextPool))):
            if getattr(self, name) not in choices:
                raise ConfigError(f"ClipConfig.{name} must be one of {list(choices)}, got {getattr(self, name)!r}")
        if not isinstance(self.initial_scale, float | int) or not 0 < self.initial_scale <= MAX_SCALE:
            raise ConfigError(
                f"ClipConfig.initial_scale must be above 0 and at most {MAX_SCALE:g}, got {self.initial_scale!r}"
            )
        if self.initial_bias is not None and not isinstance(self.initial_bias, float | int):
            raise ConfigError(f"ClipConfig.initial_bias must be a number or None, got {self.initial_bias!r}")


def clip_of(glip: GlipConfig, **changes: Any) -> ClipConfig:
    """A network with the towers of a GLIP network, so that either can start from the other's.

    Args:
        glip: whose `backbone` and `text` are taken.
        changes: other numbers of the `ClipConfig`; they come last.
    """
    return ClipConfig(**{"backbone": glip.backbone, "text": glip.text, **changes})


def clip_tiny(**changes: Any) -> ClipConfig:
    """Swin-T and BERT, the towers of GLIP-T."""
    return clip_of(glip_tiny(), **changes)


def clip_large(**changes: Any) -> ClipConfig:
    """Swin-L and BERT, the towers of GLIP-L."""
    return clip_of(glip_large(), **{"embed_dim": 768, **changes})


def clip_resnet50(**changes: Any) -> ClipConfig:
    """ResNet-50 with attention pooling, and BERT."""
    return clip_of(glip_resnet50(), **{"image_pool": "attention", "pool_heads": 32, **changes})


def clip_nano(**changes: Any) -> ClipConfig:
    """The towers of the shipped glip-nano."""
    return clip_of(glip_nano(), **{"embed_dim": 256, **changes})


CLIP_VARIANTS: dict[str, Callable[..., ClipConfig]] = {
    "clip-t": clip_tiny,
    "clip-l": clip_large,
    "clip-r50": clip_resnet50,
    "clip-nano": clip_nano,
}
"""Networks by name, for training from nothing; each has the towers of the GLIP network of that name."""

AutoConfig.register(ClipConfig.model_type, ClipConfig)


class PublishedClipConfig(PreTrainedConfig):
    """What published CLIPs have in common: a causal text transformer, and the space that both towers meet in.

    Attributes:
        text_width: width of the text transformer.
        text_layers: its layers.
        text_heads: its attention heads.
        vocab_size: tokens that it knows.
        max_tokens: positions of a text.
        embed_dim: D, the width that images and texts share.
        image_size: side of the pictures, in pixels.
        quick_gelu: whether feed-forward nets have QuickGELU (all of OpenAI's weights) or GELU.
        end_token: the token whose first place is a text's feature; None for the place of the largest id, as OpenAI's
            own code has it.

    Raises:
        ConfigError: a name is unknown, or a value is impossible.
    """

    text_width: int = 512
    text_layers: int = 12
    text_heads: int = 8
    vocab_size: int = 49408
    max_tokens: int = 77
    embed_dim: int = 512
    image_size: int = 224
    quick_gelu: bool = True
    end_token: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Refuse unknown names and impossible sizes."""
        known = {*self.default_config_fields(), *TRANSFORMERS_EXTRAS}
        refuse_unknown(type(self).__name__, {n: v for n, v in kwargs.items() if not n.startswith("_")}, known)
        super().__post_init__(**kwargs)
        self._check_multiple("text_width", "text_heads")

    def _check_multiple(self, whole: str, part: str, *, factor: int = 1) -> None:
        """Refuse a whole, taken `factor` times, that is no multiple of its part."""
        size, divisor = getattr(self, whole), getattr(self, part)
        if divisor < 1 or size < 1 or size * factor % divisor:
            times = "" if factor == 1 else f", taken {factor} times,"
            raise ConfigError(
                f"{type(self).__name__}.{whole}{times} must be a multiple of {part}, got {size} and {divisor}"
            )


class VitClipConfig(PublishedClipConfig):
    """A published CLIP with a vision transformer; for its texts see `PublishedClipConfig`.

    Attributes:
        image_size: side of the pictures, in pixels; a multiple of `patch_size`.
        patch_size: side of a patch.
        image_width: width of the vision transformer.
        image_layers: its layers.
        image_heads: its attention heads.

    Raises:
        ConfigError: a name is unknown, or a value is impossible.
    """

    model_type = "glip_clip_vit"

    patch_size: int = 32
    image_width: int = 768
    image_layers: int = 12
    image_heads: int = 12

    def __post_init__(self, **kwargs: Any) -> None:
        """Refuse unknown names and impossible sizes."""
        super().__post_init__(**kwargs)
        self._check_multiple("image_size", "patch_size")
        self._check_multiple("image_width", "image_heads")


class ResNetClipConfig(PublishedClipConfig):
    """A published CLIP with a ResNet; for its texts see `PublishedClipConfig`. The defaults are RN50's.

    Attributes:
        image_size: side of the pictures, in pixels; a multiple of 32.
        image_width: channels behind the stem; the coarsest map has 32 times as many.
        image_layers: blocks of each of the four stages.
        image_heads: heads of the attention that makes one vector of the coarsest map.

    Raises:
        ConfigError: a name is unknown, or a value is impossible.
    """

    model_type = "glip_clip_resnet"

    embed_dim: int = 1024
    image_width: int = 64
    image_layers: list[int] = field(default_factory=lambda: [3, 4, 6, 3])
    image_heads: int = 32

    def __post_init__(self, **kwargs: Any) -> None:
        """Refuse unknown names and impossible sizes."""
        super().__post_init__(**kwargs)
        self.image_layers = list(self.image_layers)
        if len(self.image_layers) != RESNET_STAGES or not all(isinstance(n, int) and n > 0 for n in self.image_layers):
            raise ConfigError(
                f"ResNetClipConfig.image_layers must be {RESNET_STAGES} whole numbers of at least 1, "
                f"got {self.image_layers}"
            )
        if self.image_size < 1 or self.image_size % RESNET_STRIDE:
            raise ConfigError(
                f"ResNetClipConfig.image_size must be a multiple of {RESNET_STRIDE}, got {self.image_size}"
            )
        if self.image_width % 2:
            raise ConfigError(f"ResNetClipConfig.image_width must be even, got {self.image_width}")
        self._check_multiple("image_width", "image_heads", factor=RESNET_WIDENING)


AutoConfig.register(VitClipConfig.model_type, VitClipConfig)
AutoConfig.register(ResNetClipConfig.model_type, ResNetClipConfig)
