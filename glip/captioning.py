"""Pictures to sentences, by the captioning head (GLIPv2, section 3.1)."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from glip.images import ImageInput, read_in_batches
from glip.models.heads.decoding import DecodingRule
from glip.searching import Search, head_of


@torch.inference_mode()
def write_captions(search: Search, pictures: Sequence[ImageInput], *, beams: int) -> list[str]:
    """A sentence about each picture.

    Args:
        search: with a network that has the head.
        pictures: what `read_image` reads.
        beams: sentences kept in mind at a time; 1 takes the likeliest word each time.

    Raises:
        ConfigError: the network has no captioning head, or there is no beam.
        ImageError: a picture cannot be read.
    """
    head_of(search.model, "captioning")
    tokenizer = search.processor.tokenizer
    rule = _rule(tokenizer, beams)
    captions = [""] * len(pictures)
    for places, read in read_in_batches(pictures, search.batch_size):
        features = search.processor.image_processor(list(read))
        pixel_values = features["pixel_values"].to(search.model.device, search.model.dtype)
        sentences = search.model.describe(pixel_values, features["image_sizes"], rule=rule)
        for place, tokens in zip(places, sentences, strict=True):
            captions[place] = tokenizer.decode(tokens, skip_special_tokens=True).strip()
    return captions


def _rule(tokenizer: PreTrainedTokenizerBase, beams: int) -> DecodingRule:
    """A sentence stands between CLS and SEP, and has no other token that is no word."""
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert isinstance(start, int)
    assert isinstance(end, int)
    banned = tuple(token for token in tokenizer.all_special_ids if token != end)
    return DecodingRule(start=start, end=end, banned=banned, beams=beams)
