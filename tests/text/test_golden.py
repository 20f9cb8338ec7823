"""Captions, spans, token ids and token maps are those of the published caption builder, to the character."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from glip.structures.prompt import Prompt
from glip.text.prompts import prompt_from_caption, prompt_from_labels
from glip.text.tokens import encode, map_tokens, tokenize_prompts

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden.json").read_text(encoding="utf-8"))
CASES: dict[str, Any] = GOLDEN["cases"]["detection"]
CAPTIONS = [(name, index) for name, records in GOLDEN["detection"].items() for index in range(len(records))]


def build(case: dict[str, Any], chunk: int) -> tuple[Prompt, list[int]]:
    """Our prompt of one chunk of a case, and the labels in it."""
    size = case.get("chunk", len(case["names"]))
    part = slice(chunk * size, (chunk + 1) * size)
    given = case.get("caption_prompt")
    affixes = [(affix["prefix"], affix["name"], affix["suffix"]) for affix in given] if given else None
    return prompt_from_labels(case["names"][part], separator=case["separator"], affixes=affixes), case["labels"][part]


@pytest.mark.parametrize(("name", "chunk"), CAPTIONS, ids=str)
def test_a_class_list_becomes_the_published_caption(name: str, chunk: int, tokenizer: PreTrainedTokenizerBase) -> None:
    prompt, labels = build(CASES[name], chunk)
    expected = GOLDEN["detection"][name][chunk]
    encoding = encode(tokenizer, prompt.caption)
    token_map = map_tokens(encoding, [phrase.spans for phrase in prompt.phrases], length=len(encoding["input_ids"]))
    spans = expected["char_spans"]
    assert prompt.caption == expected["caption"]
    expected_spans = list(spans.values()) if isinstance(spans, dict) else spans
    assert [list(phrase.spans[0]) for phrase in prompt.phrases] == expected_spans
    assert encoding["input_ids"] == expected["token_ids"]
    found = {str(label): row.nonzero()[:, 0].tolist() for label, row in zip(labels, token_map, strict=True)}
    assert found == expected["label_to_tokens"]


def test_a_caption_over_the_limit_loses_the_phrases_beyond_it(tokenizer: PreTrainedTokenizerBase) -> None:
    case = GOLDEN["cases"]["grounding"]["long_caption"]
    prompt = prompt_from_caption(case["caption"], case["tokens_positive"])
    token_map = tokenize_prompts([prompt], tokenizer, truncate=True).token_maps[0]
    found = {str(label + 1): row.nonzero()[:, 0].tolist() for label, row in enumerate(token_map)}
    assert found == GOLDEN["long_caption"]["label_to_tokens"]


@pytest.mark.parametrize("split", ["val", "test"])
def test_flickr_phrases_get_the_published_tokens(split: str, tokenizer: PreTrainedTokenizerBase) -> None:
    for record in GOLDEN["flickr"][split]:
        encoding = encode(tokenizer, record["caption"], 256)
        token_map = map_tokens(encoding, record["phrases"], length=256)
        found = {str(label + 1): row.nonzero()[:, 0].tolist() for label, row in enumerate(token_map)}
        assert found == record["tokens"]["label_to_tokens"], record["caption"]


def test_the_vocabulary_is_the_published_one(tokenizer: PreTrainedTokenizerBase) -> None:
    words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    text = "".join(f"{word}\n" for word, _ in words)
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN["vocabulary"]["vocab_txt_sha256"]
