"""GLIP's own checkpoints and mmdetection's copies of them, as a `GlipConfig` and our state dict.

Published images are BGR; ours are RGB, so the first convolution's input channels are turned round here, once.
What mmdetection renames was written down from knowledge of its converter and not checked against one of its files.
"""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from glip.configuration import GlipConfig
from glip.errors import CheckpointError
from glip.weights.reading import read_state_dict

# May be in a file, and are not ours: constants, a frozen head that is never used, other tasks' heads.
DROPPED = re.compile(
    r"rpn\.head\.cls_logits\."
    r"|rpn\.anchor_generator\.cell_anchors\."
    r"|.*\.relative_position_index$"
    r"|.*\.embeddings\.position_ids$"
    r"|.*\.pooler\."
    r"|rpn\.head\.mlm_head\."
    r"|rpn\.resizer\."
    r"|rpn\.tunable_linear\.weight$"
)

# What our tensors are called, by the official names; `#` stands for the block.
_NAMES: tuple[tuple[str, str], ...] = (
    (r"backbone\.body\.norm1\.", "backbone.norms.0."),
    (r"backbone\.body\.norm2\.", "backbone.norms.1."),
    (r"backbone\.body\.norm3\.", "backbone.norms.2."),
    (r"backbone\.body\.", "backbone."),
    (r"backbone\.fpn\.fpn_inner2\.", "fpn.lateral.0."),
    (r"backbone\.fpn\.fpn_inner3\.", "fpn.lateral.1."),
    (r"backbone\.fpn\.fpn_inner4\.", "fpn.lateral.2."),
    (r"backbone\.fpn\.fpn_layer2\.", "fpn.output.0."),
    (r"backbone\.fpn\.fpn_layer3\.", "fpn.output.1."),
    (r"backbone\.fpn\.fpn_layer4\.", "fpn.output.2."),
    (r"backbone\.fpn\.top_blocks\.p6\.", "fpn.extra.0."),
    (r"backbone\.fpn\.top_blocks\.p7\.", "fpn.extra.1."),
    (r"language_backbone\.body\.model\.", "text_encoder.bert."),
    (r"rpn\.head\.bbox_pred\.", "head.box."),
    (r"rpn\.head\.centerness\.", "head.centerness."),
    (r"rpn\.head\.dot_product_projection_text\.", "head.word_projection."),
    (r"rpn\.head\.log_scale$", "head.log_scale"),
    (r"rpn\.head\.bias_lang$", "head.word_bias"),
    (r"rpn\.head\.bias0$", "head.bias"),
    (r"rpn\.head\.scales\.(\d+)\.scale$", r"head.scales.\1"),
)
_TOWER = re.compile(r"rpn\.head\.dyhead_tower\.(\d+)\.(.+)")
_FUSION_NAMES = {
    "b_attn.layer_norm_v": "fusion.image_norm",
    "b_attn.layer_norm_l": "fusion.word_norm",
    "b_attn.attn.v_proj": "fusion.image_query",
    "b_attn.attn.l_proj": "fusion.word_key",
    "b_attn.attn.values_v_proj": "fusion.image_value",
    "b_attn.attn.values_l_proj": "fusion.word_value",
    "b_attn.attn.out_v_proj": "fusion.image_out",
    "b_attn.attn.out_l_proj": "fusion.word_out",
    "b_attn.gamma_v": "fusion.image_scale",
    "b_attn.gamma_l": "fusion.word_scale",
}
_TEXT_LAYER_NAMES = {
    "attention.self.query": "text_layer.query",
    "attention.self.key": "text_layer.key",
    "attention.self.value": "text_layer.value",
    "attention.output.dense": "text_layer.attention_out",
    "attention.output.LayerNorm": "text_layer.attention_norm",
    "intermediate.dense": "text_layer.expand",
    "output.dense": "text_layer.contract",
    "output.LayerNorm": "text_layer.feedforward_norm",
}
_DYCONV_NAMES = {
    "DyConv.0.conv": "dyconv.from_coarser.conv",
    "DyConv.0.bn": "dyconv.from_coarser.norm",
    "DyConv.1.conv": "dyconv.from_same.conv",
    "DyConv.1.bn": "dyconv.from_same.norm",
    "DyConv.2.conv": "dyconv.from_finer.conv",
    "DyConv.2.bn": "dyconv.from_finer.norm",
    "AttnConv.1": "dyconv.scale_attention",
    "relu.fc.0": "dyconv.activation.squeeze",
    "relu.fc.2": "dyconv.activation.excite",
    "offset": "dyconv.offset",
}
_TOWER_NAMES = {**_FUSION_NAMES, **_TEXT_LAYER_NAMES, **_DYCONV_NAMES}
_MODULES_PER_FUSED_BLOCK = 3


def read_official_checkpoint(
    path: str | Path, config: GlipConfig | None = None
) -> tuple[GlipConfig, dict[str, Tensor]]:
    """Read a file of the official code or of mmdetection.

    Args:
        path: a `.pth` file.
        config: the network's numbers; None to read them off the tensors' shapes.

    Returns:
        The numbers, and the tensors under our names.

    Raises:
        CheckpointError: the file holds a tensor that GLIP does not have, or lacks the ones that tell its variant.
        FileError: there is no such file.
    """
    state = read_state_dict(path)
    if any(name.startswith("bbox_head.") for name in state):
        state = from_mmdetection(state)
    kept = {name: tensor for name, tensor in state.items() if not DROPPED.match(name)}
    if config is None:
        config = infer_config(kept, source=str(path))
    return config, to_our_names(kept, source=str(path))


def to_our_names(state: dict[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """Official names and layouts to ours.

    Raises:
        CheckpointError: a name is not one of GLIP's.
    """
    fused = any(".b_attn." in name for name in state)
    ours = {}
    for name, tensor in state.items():
        renamed = our_name(name, fused=fused)
        if renamed is None:
            raise CheckpointError(f"{source}: {name!r} is no tensor of GLIP; give an official or mmdetection GLIP file")
        ours[renamed] = _our_layout(renamed, tensor)
    return ours


def our_name(name: str, *, fused: bool) -> str | None:
    """What an official tensor is called here; None if GLIP has no such tensor.

    Args:
        name: the official key, without `module.`.
        fused: whether the file is of a variant with deep fusion, which numbers its blocks by threes.
    """
    tower = _TOWER.fullmatch(name)
    if tower:
        module, rest = int(tower[1]), tower[2]
        block = module // _MODULES_PER_FUSED_BLOCK if fused else module
        stem, _, leaf = rest.rpartition(".")
        if rest in _TOWER_NAMES:
            return f"blocks.{block}.{_TOWER_NAMES[rest]}"
        return f"blocks.{block}.{_TOWER_NAMES[stem]}.{leaf}" if stem in _TOWER_NAMES else None
    for pattern, replacement in _NAMES:
        renamed, count = re.subn(f"^{pattern}", replacement, name)
        if count:
            return renamed
    return None


def _our_layout(name: str, tensor: Tensor) -> Tensor:
    """RGB instead of BGR, and linear layers where the official code has 1x1 convolutions of pooled features."""
    if name == "backbone.patch_embed.proj.weight":
        return tensor.flip(1)
    if name.endswith((".scale_attention.weight", "head.box.weight", "head.centerness.weight")):
        return tensor.flatten(1)
    return tensor


def infer_config(state: dict[str, Tensor], *, source: str) -> GlipConfig:
    """Read the network's numbers off the shapes of an official state dict.

    Attention heads of the text encoder leave no trace in any shape: 64 channels each are assumed, as in every BERT.

    Raises:
        CheckpointError: a tensor that tells the variant is not there.
    """
    try:
        return _infer_config(state)
    except KeyError as error:
        raise CheckpointError(
            f"{source}: no tensor {error.args[0]!r}, so this is no GLIP checkpoint with a Swin backbone"
        ) from error


def _infer_config(state: dict[str, Tensor]) -> GlipConfig:
    patch = state["backbone.body.patch_embed.proj.weight"]
    depths = [_count(state, rf"backbone\.body\.layers\.{stage}\.blocks\.(\d+)\.norm1\.weight") for stage in range(4)]
    tables = [state[f"backbone.body.layers.{stage}.blocks.0.attn.relative_position_bias_table"] for stage in range(4)]
    words = state["language_backbone.body.model.embeddings.word_embeddings.weight"]
    first_text = "language_backbone.body.model.encoder.layer.0.intermediate.dense.weight"
    fused = "rpn.head.dyhead_tower.0.b_attn.gamma_v" in state
    modules = _count(state, r"rpn\.head\.dyhead_tower\.(\d+)\.")
    fusion: dict[str, Any] = {}
    if fused:
        fusion["fusion_dim"] = len(state["rpn.head.dyhead_tower.0.b_attn.attn.v_proj.weight"])
    return GlipConfig(
        backbone={
            "kind": "swin",
            "embed_dim": len(patch),
            "depths": depths,
            "num_heads": [table.shape[1] for table in tables],
            "window_size": (round(len(tables[0]) ** 0.5) + 1) // 2,
            "drop_path_rate": 0.4 if sum(depths) > 12 else 0.2,  # GLIP-L's and GLIP-T's training value
        },
        text={
            "vocab_size": len(words),
            "hidden_size": words.shape[1],
            "num_hidden_layers": _count(state, r"language_backbone\.body\.model\.encoder\.layer\.(\d+)\."),
            "num_attention_heads": max(words.shape[1] // 64, 1),
            "intermediate_size": len(state[first_text]),
        },
        channels=len(state["rpn.head.dot_product_projection_text.bias"]),
        num_blocks=modules // _MODULES_PER_FUSED_BLOCK if fused else modules,
        fusion=fused,
        **fusion,
    )


def _count(state: dict[str, Tensor], pattern: str) -> int:
    """How many different numbers the pattern's group takes."""
    matches = (re.match(pattern, name) for name in state)
    return len({match[1] for match in matches if match})


# --- mmdetection -------------------------------------------------------------------------------------------------

_MMDET_NAMES: tuple[tuple[str, str], ...] = (
    (r"backbone\.stages\.", "backbone.body.layers."),
    (r"backbone\.patch_embed\.projection\.", "backbone.body.patch_embed.proj."),
    (r"backbone\.", "backbone.body."),
    (r"neck\.lateral_convs\.0\.conv\.", "backbone.fpn.fpn_inner2."),
    (r"neck\.lateral_convs\.1\.conv\.", "backbone.fpn.fpn_inner3."),
    (r"neck\.lateral_convs\.2\.conv\.", "backbone.fpn.fpn_inner4."),
    (r"neck\.fpn_convs\.0\.conv\.", "backbone.fpn.fpn_layer2."),
    (r"neck\.fpn_convs\.1\.conv\.", "backbone.fpn.fpn_layer3."),
    (r"neck\.fpn_convs\.2\.conv\.", "backbone.fpn.fpn_layer4."),
    (r"neck\.fpn_convs\.3\.conv\.", "backbone.fpn.top_blocks.p6."),
    (r"neck\.fpn_convs\.4\.conv\.", "backbone.fpn.top_blocks.p7."),
    (r"language_model\.language_backbone\.", "language_backbone."),
    (r"bbox_head\.", "rpn."),
)
_MMDET_INNER = (("attn.w_msa.", "attn."), ("ffn.layers.0.0.", "mlp.fc1."), ("ffn.layers.1.", "mlp.fc2."))
_MERGE_ORDER = [0, 2, 1, 3]  # mmdetection unfolds neighbours row by row, the official code column by column


def from_mmdetection(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn mmdetection's names and layouts into the official ones; the official table refuses what is unknown."""
    official = {}
    for name, tensor in state.items():
        renamed = _mmdet_name(name)
        is_merging = re.search(r"\.downsample\.(reduction\.weight|norm\.(weight|bias))$", renamed)
        official[renamed] = _fold_merging(tensor) if is_merging else tensor
    return official


def _mmdet_name(name: str) -> str:
    for theirs, ours in _MMDET_INNER:
        name = name.replace(theirs, ours)
    for pattern, replacement in _MMDET_NAMES:
        renamed, count = re.subn(f"^{pattern}", replacement, name)
        if count:
            return renamed
    return name


def _fold_merging(tensor: Tensor) -> Tensor:
    """Patch merging's inputs from channel-major to neighbour-major order: `(..., C * 4)` to `(..., 4 * C)`."""
    by_channel = tensor.unflatten(-1, (-1, 4))
    folded: Tensor = by_channel[..., _MERGE_ORDER].transpose(-1, -2).flatten(-2)
    return folded
