"""CLIP weights under the names of OpenAI and open_clip to ours: strict both ways.

The image tower is a vision transformer or a ResNet; the tensors' names say which, and their shapes how large.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from glip.clip_configuration import RESNET_STAGES, RESNET_STRIDE, ResNetClipConfig, VitClipConfig
from glip.errors import CheckpointError
from glip.weights.reading import read_state_dict

IGNORED = re.compile(
    r"input_resolution|context_length|vocab_size|visual\.(layer\d\.\d+\.)?(bn\d|downsample\.1)\.num_batches_tracked"
)
"""Numbers that stand among the weights; how often a batch norm's statistics were updated."""
TEXT_NAMES = {
    "logit_scale": "log_scale",
    "token_embedding.weight": "tokens.weight",
    "positional_embedding": "text_positions",
    "ln_final.weight": "text_norm.weight",
    "ln_final.bias": "text_norm.bias",
}
VIT_NAMES = {
    "visual.class_embedding": "class_token",
    "visual.conv1.weight": "patches.weight",
    "visual.positional_embedding": "image_positions",
    "visual.ln_pre.weight": "image_norm_before.weight",
    "visual.ln_pre.bias": "image_norm_before.bias",
    "visual.ln_post.weight": "image_norm.weight",
    "visual.ln_post.bias": "image_norm.bias",
}
PROJECTIONS = {"visual.proj": "image_projection.weight", "text_projection": "text_projection.weight"}
"""Stored as (width, D); ours are a linear layer's, (D, width)."""
LAYER_PARTS = {
    "ln_1": "attention_norm",
    "attn.out_proj": "attention_out",
    "ln_2": "feedforward_norm",
    "mlp.c_fc": "expand",
    "mlp.c_proj": "contract",
}
ATTENTION = ("query", "key", "value")  # in the order of `attn.in_proj`
RESNET_MODULES = {
    "visual.conv1": "stem.0.conv",
    "visual.bn1": "stem.0.norm",
    "visual.conv2": "stem.1.conv",
    "visual.bn2": "stem.1.norm",
    "visual.conv3": "stem.2.conv",
    "visual.bn3": "stem.2.norm",
    "visual.attnpool.q_proj": "image_pool.query",
    "visual.attnpool.k_proj": "image_pool.key",
    "visual.attnpool.v_proj": "image_pool.value",
    "visual.attnpool.c_proj": "image_pool.out",
}
BLOCK_PARTS = {
    "conv1": "reduce.conv",
    "bn1": "reduce.norm",
    "conv2": "mix.conv",
    "bn2": "mix.norm",
    "conv3": "expand.conv",
    "bn3": "expand.norm",
    "downsample.0": "shortcut.conv",
    "downsample.1": "shortcut.norm",
}
POOL_POSITIONS = "visual.attnpool.positional_embedding"
SIZING_TEXT = {"tokens.weight": 2, "text_positions": 2, "text_projection.weight": 2}
SIZING_VIT = {"patches.weight": 4, "image_positions": 2, **SIZING_TEXT}
SIZING_RESNET = {
    **{f"stages.{stage}.0.reduce.conv.weight": 4 for stage in range(RESNET_STAGES)},
    "image_pool.positions": 2,
    **SIZING_TEXT,
}
"""Tensors whose shapes tell the config, and how many dimensions they have."""
_LAYER = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)")
_BLOCK = re.compile(rf"visual\.layer([1-{RESNET_STAGES}])\.(\d+)\.(.+)")


def read_openai_clip(
    path: str | Path, *, quick_gelu: bool, head_width: int = 64
) -> tuple[VitClipConfig | ResNetClipConfig, dict[str, Tensor]]:
    """Config, told from the tensors' names and shapes, and weights in float32.

    Args:
        path: a `.pt`, `.pth` or `.bin` file of plain tensors, or `.safetensors`.
        quick_gelu: what no file says: whether it was trained with QuickGELU (all of OpenAI's) or GELU.
        head_width: of an attention head; 64 in all published towers up to L, and in all ResNets.

    Raises:
        FileError: there is no such file.
        CheckpointError: it is no such checkpoint.
    """
    source, state = str(path), _read(path)
    is_resnet = any(name.startswith("visual.layer1.") for name in state)
    if not is_resnet and not any(name.startswith("visual.transformer.") for name in state):
        raise CheckpointError(f"{source}: no CLIP with a vision transformer or a ResNet under OpenAI's names")
    rename = _of_resnet if is_resnet else VIT_NAMES.get
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if not IGNORED.fullmatch(name):
            converted.update(_converted(source, name, tensor.float(), rename))
    _check_sizing(source, converted, SIZING_RESNET if is_resnet else SIZING_VIT)
    text = {**_text_numbers(converted, head_width), "quick_gelu": quick_gelu}
    if is_resnet:
        return ResNetClipConfig(**_resnet_numbers(converted, head_width), **text), converted
    return VitClipConfig(**_vit_numbers(converted, head_width), **text), converted


def _read(path: str | Path) -> dict[str, Tensor]:
    if Path(path).suffix != ".safetensors" or not Path(path).is_file():
        return read_state_dict(path)
    try:
        state: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); is the file cut short?") from error
    return state


def _converted(source: str, name: str, tensor: Tensor, rename: Callable[[str], str | None]) -> dict[str, Tensor]:
    """One tensor as ours; three where queries, keys and values are stored as one."""
    own = TEXT_NAMES.get(name) or rename(name)
    if own is not None:
        return {own: tensor}
    if name in PROJECTIONS:
        return {PROJECTIONS[name]: _checked(source, name, tensor, dimensions=2).T.contiguous()}
    layer = _LAYER.fullmatch(name)
    if layer is not None:
        own = f"{'image' if layer[1] else 'text'}_layers.{layer[2]}"
        if layer[3] == "attn.in_proj":
            dimensions = 2 if layer[4] == "weight" else 1
            thirds = _checked(source, name, tensor, dimensions=dimensions, parts=3).chunk(3)
            return {f"{own}.{part}.{layer[4]}": third.clone() for part, third in zip(ATTENTION, thirds, strict=True)}
        if layer[3] in LAYER_PARTS:
            return {f"{own}.{LAYER_PARTS[layer[3]]}.{layer[4]}": tensor}
    raise CheckpointError(f"{source}: {name} is no tensor of such a CLIP; the file does not fit")


def _of_resnet(name: str) -> str | None:
    if name == POOL_POSITIONS:
        return "image_pool.positions"
    module, _, kind = name.rpartition(".")
    block = _BLOCK.fullmatch(module)
    if block is not None and block[3] in BLOCK_PARTS:
        return f"stages.{int(block[1]) - 1}.{block[2]}.{BLOCK_PARTS[block[3]]}.{kind}"
    return f"{RESNET_MODULES[module]}.{kind}" if module in RESNET_MODULES else None


def _check_sizing(source: str, state: dict[str, Tensor], dimensions: dict[str, int]) -> None:
    missing = sorted(dimensions.keys() - state.keys())
    if missing:
        raise CheckpointError(f"{source}: lacks {missing}; the file does not fit")
    for name, count in dimensions.items():
        _checked(source, name, state[name], dimensions=count)


def _checked(source: str, name: str, tensor: Tensor, *, dimensions: int, parts: int = 1) -> Tensor:
    """The tensor itself, if it has so many dimensions and can be cut into so many parts of at least one row."""
    if tensor.ndim != dimensions or 0 in tensor.shape or len(tensor) % parts:
        rows = f", with a multiple of {parts} rows" if parts > 1 else ""
        raise CheckpointError(
            f"{source}: {name} must be {dimensions}-dimensional and not empty{rows}, got {tuple(tensor.shape)}; "
            "the file does not fit"
        )
    return tensor


def _text_numbers(state: dict[str, Tensor], head_width: int) -> dict[str, Any]:
    vocab_size, width = state["tokens.weight"].shape
    return {
        "text_width": width,
        "text_layers": _count(state, "text_layers"),
        "text_heads": width // head_width,
        "vocab_size": vocab_size,
        "max_tokens": len(state["text_positions"]),
        "embed_dim": len(state["text_projection.weight"]),
    }


def _vit_numbers(state: dict[str, Tensor], head_width: int) -> dict[str, Any]:
    width, _, patch_size, _ = state["patches.weight"].shape
    return {
        "image_size": patch_size * _side(state["image_positions"]),
        "patch_size": patch_size,
        "image_width": width,
        "image_layers": _count(state, "image_layers"),
        "image_heads": width // head_width,
    }


def _resnet_numbers(state: dict[str, Tensor], head_width: int) -> dict[str, Any]:
    positions = state["image_pool.positions"]
    return {
        "image_size": RESNET_STRIDE * _side(positions),
        "image_width": len(state["stages.0.0.reduce.conv.weight"]),
        "image_layers": [_count(state, f"stages.{stage}") for stage in range(RESNET_STAGES)],
        "image_heads": positions.shape[1] // head_width,
    }


def _side(positions: Tensor) -> int:
    """Places along one side of the square; the class token, or the mean, stands before them."""
    return round(math.sqrt(len(positions) - 1))


def _count(state: dict[str, Tensor], part: str) -> int:
    return len({name.removeprefix(f"{part}.").split(".")[0] for name in state if name.startswith(f"{part}.")})
