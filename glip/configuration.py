"""The network's numbers, as JSON beside the weights.

Variants are functions that state what differs (`glip_tiny_a`, `glip_tiny`, `glip_large`, `glip_resnet50`,
`glip_nano`), not classes.
"""

import copy
import difflib
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any, Literal

from transformers import AutoConfig, BertConfig, PreTrainedConfig

from glip.errors import ConfigError

BackboneKind = Literal["swin", "resnet", "csp", "timm", "transformers"]

LEAST = {"channels": 1, "num_blocks": 1, "fusion_dim": 1, "fusion_heads": 1, "num_groups": 1, "max_tokens": 3}
# Which numbers each kind of backbone takes, with their defaults; `...` marks a number that has none.
BACKBONE_FIELDS: dict[str, dict[str, Any]] = {
    "swin": {
        "embed_dim": 96,
        "depths": [2, 2, 6, 2],
        "num_heads": [3, 6, 12, 24],
        "window_size": 7,
        "drop_path_rate": 0.2,
    },
    "resnet": {"layers": [3, 4, 6, 3]},
    "csp": {
        "stem_channels": 32,
        "stage_channels": [64, 128, 256, 512],
        "stage_depths": [1, 2, 2, 3],
        "neck_channels": 128,
    },
    "timm": {"name": ..., "out_indices": [2, 3, 4]},
    "transformers": {"config": ...},
}
# Which heads of GLIPv2 there are, and the numbers that each takes.
HEAD_FIELDS: dict[str, dict[str, Any]] = {
    # instance masks: `layers` convolutions or hourglasses on `resolution` x `resolution` places of a box, masks twice
    # as fine
    "masks": {"extractor": "conv", "layers": 4, "channels": 256, "resolution": 14},
    # which word was hidden
    "mlm": {},
    # a sentence of at most `max_tokens`; the decoder looks at a grid of at most `grid` x `grid` places of the level
    # with the given stride
    "captioning": {"layers": 3, "max_tokens": 40, "grid": 14, "stride": 16},
    # one of the `answers`; the caption is the question, whose words look at such a grid, too
    "vqa": {"answers": ..., "layers": 2, "width": 512, "grid": 14, "stride": 16},
    # regions and words of all images of a batch, in `width` dimensions
    "contrast": {"width": 64},
}
MASK_EXTRACTORS = ("conv", "hourglass")
HEAD_LEAST = {"resolution": 4, "max_tokens": 3}  # of whole numbers; the others may be 1


class GlipConfig(PreTrainedConfig):
    """Everything that decides the shape and arithmetic of a `GlipModel`.

    Attributes:
        backbone: `kind` (one of `BACKBONE_FIELDS`) and that kind's numbers.
        text: arguments of `transformers.BertConfig`; what is not named keeps BERT-base's value.
        channels: C of the pyramid and of the head.
        num_blocks: how many times fusion, text layer and DyConv follow each other (GLIP, section 3.2).
        fusion: whether image and words see each other before the alignment; without it the variant is GLIP-T (A).
        fusion_dim: width of the cross-attention, all heads together.
        fusion_heads: heads of the cross-attention.
        fusion_dropout: on attention weights, in training.
        top_down: whether the pyramid adds coarse levels to finer ones; off for a backbone that has done so.
        drop_block: share of the finest two levels' positions that training drops.
        num_groups: groups of the GroupNorm behind every deformable convolution.
        strides: pixels between neighbours of each pyramid level, finest first; the first three are the backbone's.
        max_tokens: longest caption, CLS and SEP included.
        mask_padding: whether fusion and pooling ignore the padding of an image batch. Off for official weights,
            whose scores depend on the padding.
        residual: whether fusion and DyConv add to what they are given, by learned shares that start near nothing,
            rather than replace it; for a network that starts from a trained detector.
        box_bins: places on each side's scale where the head puts its probabilities, 0 strides to box_bins - 1
            (Generalized Focal Loss, section 3.2); 0 for the published four numbers a box.
        cues: whether place, level and colours are added to the pyramid (`glip.models.cues`).
        prompt_length: words whose features get a learned addition (prompt tuning; the published number is 1000); 0
            for none.
        heads: GLIPv2's heads that the network has beside detection, each with its numbers (`HEAD_FIELDS`); they change
            nothing about detection.

    Raises:
        ConfigError: a name is unknown, or a value is impossible.
    """

    model_type = "glip"

    backbone: dict[str, Any] = field(default_factory=lambda: {"kind": "swin"})
    text: dict[str, Any] = field(default_factory=dict)
    channels: int = 256
    num_blocks: int = 6
    fusion: bool = True
    fusion_dim: int = 2048
    fusion_heads: int = 8
    fusion_dropout: float = 0.1
    top_down: bool = True
    drop_block: float = 0.3
    num_groups: int = 16
    strides: tuple[int, ...] | list[int] = (8, 16, 32, 64, 128)
    max_tokens: int = 256
    mask_padding: bool = False
    residual: bool = False
    box_bins: int = 0
    cues: bool = False
    prompt_length: int = 0
    heads: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self, **kwargs: Any) -> None:
        """Refuse unknown names, which transformers would keep silently, and fill in the backbone's defaults."""
        known = {*self.default_config_fields(), *TRANSFORMERS_EXTRAS}
        own = {name: value for name, value in kwargs.items() if not name.startswith("_")}  # theirs pass through
        refuse_unknown("GlipConfig", own, known)
        super().__post_init__(**kwargs)
        self.backbone = complete_backbone("GlipConfig", self.backbone)
        refuse_unknown("GlipConfig.text", self.text, set(BertConfig().to_dict()))
        self.strides = list(self.strides)
        self._check_values()
        self.heads = complete_heads("GlipConfig", self.heads, self.strides)

    def _check_values(self) -> None:
        for name, least in LEAST.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ConfigError(f"GlipConfig.{name} must be a whole number, at least {least}, got {value!r}")
        for name in ("fusion_dropout", "drop_block"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"GlipConfig.{name} must be in [0, 1), got {getattr(self, name)}")
        if not isinstance(self.box_bins, int) or self.box_bins < 0 or self.box_bins == 1:
            raise ConfigError(f"GlipConfig.box_bins must be 0, or a whole number from 2, got {self.box_bins!r}")
        if not isinstance(self.prompt_length, int) or (self.prompt_length and self.prompt_length < self.max_tokens):
            raise ConfigError(
                f"GlipConfig.prompt_length must be 0, or at least max_tokens ({self.max_tokens}), "
                f"got {self.prompt_length!r}"
            )
        if self.channels % self.num_groups:
            raise ConfigError(
                f"GlipConfig.channels must be a multiple of num_groups, got {self.channels} and {self.num_groups}"
            )
        if self.fusion_dim % self.fusion_heads:
            raise ConfigError(
                f"GlipConfig.fusion_dim must be a multiple of fusion_heads, "
                f"got {self.fusion_dim} and {self.fusion_heads}"
            )
        steps = zip(self.strides, self.strides[1:], strict=False)
        if len(self.strides) < 3 or any(after != 2 * before for before, after in steps):
            raise ConfigError(
                f"GlipConfig.strides must be three or more, each twice the one before, got {self.strides}"
            )


# Written into config.json by transformers, or passed through by it, but no dataclass field of ours.
TRANSFORMERS_EXTRAS = {"model_type", "transformers_version", "name_or_path", "attn_implementation", "torch_dtype"}


def refuse_unknown(where: str, given: dict[str, Any], known: set[str]) -> None:
    """Refuse a name that is not known.

    Raises:
        ConfigError: there is one; the message names the nearest known name.
    """
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known fields are {sorted(known)}"
            raise ConfigError(f"{where}: unknown field {name!r}; {hint}")


def complete_backbone(owner: str, backbone: dict[str, Any]) -> dict[str, Any]:
    """A `backbone` with its kind's defaults filled in.

    Args:
        owner: the config that it belongs to, for errors.
        backbone: `kind` and some of that kind's numbers.

    Raises:
        ConfigError: the kind or a number's name is unknown, or a number is missing that has no default.
    """
    if not isinstance(backbone, dict):
        raise ConfigError(f"{owner}.backbone must be a dict with a 'kind', got {backbone!r}")
    kind = backbone.get("kind")
    if kind not in BACKBONE_FIELDS:
        raise ConfigError(f"{owner}.backbone.kind must be one of {sorted(BACKBONE_FIELDS)}, got {kind!r}")
    fields = BACKBONE_FIELDS[kind]
    refuse_unknown(f"{owner}.backbone ({kind})", backbone, {*fields, "kind"})
    complete = copy.deepcopy({"kind": kind, **fields, **backbone})
    missing = [name for name, value in complete.items() if value is ...]
    if missing:
        raise ConfigError(f"{owner}.backbone ({kind}): {missing[0]!r} must be given")
    return complete


def complete_heads(
    owner: str, heads: dict[str, dict[str, Any]], strides: Sequence[int] | None = None
) -> dict[str, dict[str, Any]]:
    """`heads` with each head's defaults filled in.

    Args:
        owner: what they belong to, for errors.
        heads: some of `HEAD_FIELDS`, each with some of its numbers.
        strides: of the pyramid that they stand on; None if that is not known yet.

    Raises:
        ConfigError: a head or a number's name is unknown, a number is impossible, or one is missing that has no
            default.
    """
    if not isinstance(heads, dict) or not all(isinstance(numbers, dict) for numbers in heads.values()):
        raise ConfigError(f"{owner}.heads must be a dict of dicts, such as {{'masks': {{}}}}, got {heads!r}")
    refuse_unknown(f"{owner}.heads", heads, set(HEAD_FIELDS))
    complete = {}
    for name, numbers in heads.items():
        refuse_unknown(f"{owner}.heads.{name}", numbers, set(HEAD_FIELDS[name]))
        complete[name] = copy.deepcopy({**HEAD_FIELDS[name], **numbers})
        for key, value in complete[name].items():
            _check_head_number(f"{owner}.heads.{name}.{key}", key, value)
        if strides is not None and complete[name].get("stride", strides[0]) not in strides:
            stride = complete[name]["stride"]
            raise ConfigError(f"{owner}.heads.{name}.stride must be one of the pyramid's {list(strides)}, got {stride}")
    return complete


def _check_head_number(where: str, name: str, value: Any) -> None:
    if name == "answers":
        if not isinstance(value, list) or not value or not all(isinstance(answer, str) for answer in value):
            shown = "nothing" if value is ... else repr(value)
            raise ConfigError(f"{where} must be a list of one or more words, got {shown}")
        if len(set(value)) < len(value):
            raise ConfigError(f"{where} must name each answer once")
    elif name == "extractor":
        if value not in MASK_EXTRACTORS:
            raise ConfigError(f"{where} must be one of {list(MASK_EXTRACTORS)}, got {value!r}")
    elif not isinstance(value, int) or isinstance(value, bool) or value < HEAD_LEAST.get(name, 1):
        raise ConfigError(f"{where} must be a whole number, at least {HEAD_LEAST.get(name, 1)}, got {value!r}")


SWIN_LARGE = {"embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48], "window_size": 12}


def glip_tiny_a() -> GlipConfig:
    """GLIP-T (A): Swin-T, no deep fusion."""
    return GlipConfig(fusion=False)


def glip_tiny() -> GlipConfig:
    """GLIP-T (B), (C) and T: Swin-T with deep fusion; they differ in training data only."""
    return GlipConfig()


def glip_large() -> GlipConfig:
    """GLIP-L: Swin-L, eight blocks."""
    return GlipConfig(backbone={"kind": "swin", **SWIN_LARGE, "drop_path_rate": 0.4}, num_blocks=8)


def glip_resnet50() -> GlipConfig:
    """GLIP-T's head on a ResNet-50; no published weights."""
    return GlipConfig(backbone={"kind": "resnet"})


def glip_nano() -> GlipConfig:
    """The shipped default: NanoDet-g's trunk, MiniLM's six layers, two narrow blocks."""
    return GlipConfig(
        backbone={"kind": "csp"},
        text={
            "hidden_size": 384,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "intermediate_size": 1536,
        },
        channels=160,  # the trunk's 128, and the cues
        num_blocks=2,
        fusion_dim=96,
        fusion_heads=4,
        fusion_dropout=0.0,
        top_down=False,
        drop_block=0.0,
        strides=(8, 16, 32),
        residual=True,
        box_bins=11,
        cues=True,
    )


SWIN_BASE = {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 7}
GLIPV2_HEADS: dict[str, dict[str, Any]] = {"masks": {}, "mlm": {}, "captioning": {}, "contrast": {}}


def glipv2_tiny() -> GlipConfig:
    """GLIPv2-T: GLIP-T with the heads that need no list of answers; no published weights, nor those below."""
    return GlipConfig(heads=GLIPV2_HEADS)


def glipv2_base() -> GlipConfig:
    """GLIPv2-B: Swin-B."""
    return GlipConfig(backbone={"kind": "swin", **SWIN_BASE, "drop_path_rate": 0.3}, heads=GLIPV2_HEADS)


def glipv2_huge() -> GlipConfig:
    """GLIPv2-H, with Swin-L for the paper's CoSwin-H, which was never published."""
    return GlipConfig(
        backbone={"kind": "swin", **SWIN_LARGE, "drop_path_rate": 0.4},
        num_blocks=8,
        heads={**GLIPV2_HEADS, "masks": {"extractor": "hourglass"}},
    )


VARIANTS: dict[str, Callable[[], GlipConfig]] = {
    "glip-t-a": glip_tiny_a,
    "glip-t": glip_tiny,
    "glip-l": glip_large,
    "glip-r50": glip_resnet50,
    "glip-nano": glip_nano,
    "glipv2-t": glipv2_tiny,
    "glipv2-b": glipv2_base,
    "glipv2-h": glipv2_huge,
}
"""Networks by name, for training from nothing."""

AutoConfig.register(GlipConfig.model_type, GlipConfig)  # a saved tokenizer looks its model up, too
