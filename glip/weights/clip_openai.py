"""CLIP weights under the names of OpenAI and open_clip to ours: strict both ways. Vision transformers only."""

import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from glip.clip_configuration import VitClipConfig
from glip.errors import CheckpointError
from glip.weights.reading import read_state_dict

SIZES = {"input_resolution", "context_length", "vocab_size"}  # numbers that stand among the weights
NAMES = {
    "logit_scale": "log_scale",
    "visual.class_embedding": "class_token",
    "visual.conv1.weight": "patches.weight",
    "visual.positional_embedding": "image_positions",
    "token_embedding.weight": "tokens.weight",
    "positional_embedding": "text_positions",
}
PROJECTIONS = {"visual.proj": "image_projection.weight", "text_projection": "text_projection.weight"}
"""Stored as (width, D); ours are a linear layer's, (D, width)."""
NORMS = {"visual.ln_pre": "image_norm_before", "visual.ln_post": "image_norm", "ln_final": "text_norm"}
LAYER_PARTS = {
    "ln_1": "attention_norm",
    "attn.out_proj": "attention_out",
    "ln_2": "feedforward_norm",
    "mlp.c_fc": "expand",
    "mlp.c_proj": "contract",
}
_LAYER = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)")


def read_openai_clip(
    path: str | Path, *, quick_gelu: bool, head_width: int = 64
) -> tuple[VitClipConfig, dict[str, Tensor]]:
    """Config, told from the tensors' shapes, and weights in float32.

    Args:
        path: a `.pt`, `.pth` or `.bin` file of plain tensors, or `.safetensors`.
        quick_gelu: what no file says: whether it was trained with QuickGELU (all of OpenAI's) or GELU.
        head_width: of an attention head; 64 in all published towers up to L.

    Raises:
        FileError: there is no such file.
        CheckpointError: it is no such checkpoint, or has a ResNet for its image tower.
    """
    if Path(path).suffix == ".safetensors" and Path(path).is_file():
        try:
            state = load_file(path)
        except SafetensorError as error:
            raise CheckpointError(f"{path}: cannot be read ({error}); is the file cut short?") from error
    else:
        state = read_state_dict(path)
    if "visual.conv1.weight" not in state or "visual.class_embedding" not in state:
        raise CheckpointError(f"{path}: no CLIP with a vision transformer; ResNet towers cannot be read")
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name not in SIZES:
            converted.update(_converted(str(path), name, tensor.float()))
    return _config_of(str(path), converted, quick_gelu=quick_gelu, head_width=head_width), converted


def _converted(source: str, name: str, tensor: Tensor) -> dict[str, Tensor]:
    module, _, kind = name.rpartition(".")
    if name in NAMES:
        return {NAMES[name]: tensor}
    if name in PROJECTIONS:
        return {PROJECTIONS[name]: tensor.T.contiguous()}
    if module in NORMS:
        return {f"{NORMS[module]}.{kind}": tensor}
    layer = _LAYER.fullmatch(name)
    if layer is not None:
        own = f"{'image' if layer[1] else 'text'}_layers.{layer[2]}"
        if layer[3] == "attn.in_proj":
            parts = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
            return {f"{own}.{part}.{layer[4]}": chunk.clone() for part, chunk in parts}
        if layer[3] in LAYER_PARTS:
            return {f"{own}.{LAYER_PARTS[layer[3]]}.{layer[4]}": tensor}
    raise CheckpointError(f"{source}: {name} is no tensor of a CLIP with a vision transformer; the file does not fit")


def _config_of(source: str, state: dict[str, Tensor], *, quick_gelu: bool, head_width: int) -> VitClipConfig:
    """Every number but the heads' width and the activation stands in a shape."""
    missing = {"image_positions", "tokens.weight", "text_positions", "image_projection.weight"} - state.keys()
    if missing:
        raise CheckpointError(f"{source}: lacks {sorted(missing)}; the file does not fit")
    width, _, patch_size, _ = state["patches.weight"].shape
    vocab_size, text_width = state["tokens.weight"].shape
    return VitClipConfig(
        image_size=patch_size * round((len(state["image_positions"]) - 1) ** 0.5),
        patch_size=patch_size,
        image_width=width,
        image_layers=_count(state, "image_layers"),
        image_heads=width // head_width,
        text_width=text_width,
        text_layers=_count(state, "text_layers"),
        text_heads=text_width // head_width,
        vocab_size=vocab_size,
        max_tokens=len(state["text_positions"]),
        embed_dim=len(state["image_projection.weight"]),
        quick_gelu=quick_gelu,
    )


def _count(state: dict[str, Tensor], tower: str) -> int:
    return len({name.split(".")[1] for name in state if name.startswith(f"{tower}.")})
