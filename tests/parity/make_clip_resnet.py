"""Make data/clip_resnet.json, what open_clip 3.3.0 says of the tiny ResNet CLIP in tests/reference/published_resnet.py.

`pip install open_clip_torch==3.3.0`, in an environment of its own, then `python -m tests.parity.make_clip_resnet`.
"""

import json
from pathlib import Path

import open_clip  # type: ignore[import-not-found]
import torch

from tests.reference import published_resnet as tiny

TARGET = Path(__file__).parent / "data" / "clip_resnet.json"
IMAGE = open_clip.CLIPVisionCfg(
    layers=tiny.TINY_BLOCKS, width=8, image_size=tiny.TINY_SIDE, head_width=tiny.TINY_HEAD_WIDTH
)
TEXT = open_clip.CLIPTextCfg(
    context_length=tiny.TINY_TOKENS, vocab_size=tiny.TINY_VOCABULARY, width=32, heads=2, layers=2
)


def said(*, quick_gelu: bool) -> dict[str, list[list[float]]]:
    """Features and similarities by open_clip; its own strict loading proves that the names and shapes are right."""
    model = open_clip.CLIP(tiny.EMBED_DIM, IMAGE, TEXT, quick_gelu=quick_gelu).eval()
    model.load_state_dict(tiny.weights(tiny.tiny_shapes()))
    with torch.no_grad():
        images, texts, scale = model(tiny.pictures(), tiny.texts())
    logits = scale * images @ texts.T
    return {"image_features": images.tolist(), "text_features": texts.tolist(), "logits": logits.tolist()}


if __name__ == "__main__":
    record = {name: said(quick_gelu=name == "quick_gelu") for name in ("quick_gelu", "gelu")}
    TARGET.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
