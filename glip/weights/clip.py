"""Published CLIP weights, as transformers saves them, to ours: one table, strict both ways."""

import json
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from glip.clip_configuration import VitClipConfig
from glip.errors import CheckpointError, FileError

LEGACY_END_TOKEN = 2  # what old configs say; such models take the largest id, 49407
FEEDFORWARD_FACTOR = 4
ACTIVATIONS = {"quick_gelu": True, "gelu": False}
IGNORED = re.compile(r"(text|vision)_model\.embeddings\.position_ids")  # of old files: 0, 1, 2, ...
NAMES = {
    "logit_scale": "log_scale",
    "visual_projection.weight": "image_projection.weight",
    "text_projection.weight": "text_projection.weight",
    "vision_model.embeddings.class_embedding": "class_token",
    "vision_model.embeddings.patch_embedding.weight": "patches.weight",
    "vision_model.embeddings.position_embedding.weight": "image_positions",
    "text_model.embeddings.token_embedding.weight": "tokens.weight",
    "text_model.embeddings.position_embedding.weight": "text_positions",
}
NORMS = {
    "vision_model.pre_layrnorm": "image_norm_before",
    "vision_model.post_layernorm": "image_norm",
    "text_model.final_layer_norm": "text_norm",
}
LAYER_PARTS = {
    "layer_norm1": "attention_norm",
    "self_attn.q_proj": "query",
    "self_attn.k_proj": "key",
    "self_attn.v_proj": "value",
    "self_attn.out_proj": "attention_out",
    "layer_norm2": "feedforward_norm",
    "mlp.fc1": "expand",
    "mlp.fc2": "contract",
}
TOWERS = {"vision_model": "image_layers", "text_model": "text_layers"}
_LAYER = re.compile(r"(vision_model|text_model)\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")


def read_published_clip(path: str | Path) -> tuple[VitClipConfig, dict[str, Tensor]]:
    """Config and weights of a `CLIPModel` that transformers saved.

    Args:
        path: the folder with `config.json` and `model.safetensors`.

    Raises:
        FileError: a file is missing.
        CheckpointError: it is another kind of model, or has a number or a tensor that this network has not.
    """
    folder = Path(path)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise FileError(f"{folder / name}: no such file; give a folder that transformers' CLIPModel was saved to")
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        state = load_file(folder / "model.safetensors")
    except (ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: cannot be read ({error}); is a file cut short?") from error
    if not isinstance(content, dict) or content.get("model_type") != "clip":
        raise CheckpointError(f"{folder}: config.json is not of a 'clip' model; give a folder of a CLIPModel")
    return convert_config(str(folder), content), convert_state(str(folder), state)


def convert_config(source: str, content: dict[str, Any]) -> VitClipConfig:
    """A `CLIPConfig`'s content as ours.

    Args:
        source: where it comes from, for errors.
        content: with `vision_config` and `text_config`; what they leave out is a base model's with patches of 32.

    Raises:
        CheckpointError: a number is one that this network cannot have.
    """
    vision: dict[str, Any] = content.get("vision_config") or {}
    text: dict[str, Any] = content.get("text_config") or {}
    activations = {part.get("hidden_act", "quick_gelu") for part in (vision, text)}
    if len(activations) > 1 or not activations <= ACTIVATIONS.keys():
        raise CheckpointError(f"{source}: hidden_act must be one of {sorted(ACTIVATIONS)}, got {sorted(activations)}")
    config = VitClipConfig(
        image_size=vision.get("image_size", 224),
        patch_size=vision.get("patch_size", 32),
        image_width=vision.get("hidden_size", 768),
        image_layers=vision.get("num_hidden_layers", 12),
        image_heads=vision.get("num_attention_heads", 12),
        text_width=text.get("hidden_size", 512),
        text_layers=text.get("num_hidden_layers", 12),
        text_heads=text.get("num_attention_heads", 8),
        vocab_size=text.get("vocab_size", 49408),
        max_tokens=text.get("max_position_embeddings", 77),
        embed_dim=content.get("projection_dim", 512),
        quick_gelu=ACTIVATIONS[activations.pop()],
        end_token=None if text.get("eos_token_id") == LEGACY_END_TOKEN else text.get("eos_token_id", 49407),
    )
    for part, width, base in ((vision, config.image_width, 3072), (text, config.text_width, 2048)):
        wide = part.get("intermediate_size", base)
        if wide != FEEDFORWARD_FACTOR * width:
            raise CheckpointError(f"{source}: intermediate_size must be {FEEDFORWARD_FACTOR * width}, got {wide}")
    return config


def convert_state(source: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Transformers' names as ours.

    Raises:
        CheckpointError: a name is not in the table.
    """
    return {_renamed(source, name): tensor for name, tensor in state.items() if not IGNORED.fullmatch(name)}


def _renamed(source: str, name: str) -> str:
    module, _, kind = name.rpartition(".")
    layer = _LAYER.fullmatch(name)
    if name in NAMES:
        return NAMES[name]
    if module in NORMS:
        return f"{NORMS[module]}.{kind}"
    if layer is not None and layer[3] in LAYER_PARTS:
        return f"{TOWERS[layer[1]]}.{layer[2]}.{LAYER_PARTS[layer[3]]}.{layer[4]}"
    raise CheckpointError(f"{source}: {name} is no tensor of a CLIPModel; the file does not fit")
