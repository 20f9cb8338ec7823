"""A predictor with heads that takes a fraction of a second; it has learnt nothing, but it finds and says something."""

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from glip.detection.postprocess import PostProcessor
from glip.predictor import Predictor
from glip.processing import GlipImageProcessor, GlipProcessor
from tests.reference.tiny_models import TINY_TEXT, tiny_model

BERT_VOCABULARY = 30522
ANSWERS = ["yes", "no", "red cup"]
HEADS: dict[str, dict[str, Any]] = {
    "masks": {"channels": 16, "layers": 1},
    "captioning": {"layers": 1, "max_tokens": 6},
    "vqa": {"answers": ANSWERS, "layers": 1, "width": 16},
}


def tiny_predictor(
    tokenizer: PreTrainedTokenizerBase,
    *,
    heads: dict[str, dict[str, Any]] | None = None,
    max_tokens: int = 256,
    batch_size: int = 1,
    rules: PostProcessor | None = None,
) -> Predictor:
    """A network with the same random weights each time, whose scores lie around a half."""
    text = {**TINY_TEXT, "vocab_size": BERT_VOCABULARY}
    model = tiny_model("csp", text=text, heads=HEADS if heads is None else heads, mask_padding=True)
    with torch.no_grad():
        model.head.bias.zero_()
        if "masks" in model.heads:
            model.get_submodule("heads.masks.any_thing").get_parameter("weight").normal_(std=5)
    processor = GlipProcessor(
        GlipImageProcessor(short_side=64, max_side=96), tokenizer, max_tokens=max_tokens, threshold=0.3
    )
    return Predictor(model, processor, rules=rules or PostProcessor(max_detections=6), batch_size=batch_size)
