"""Captions to tokens, and phrases to the tokens that name them. There is one tokenisation and one token map."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from transformers import BatchEncoding, PreTrainedTokenizerBase

from glip.errors import PromptError
from glip.structures.prompt import Prompt, Span
from glip.text.prompts import SEPARATOR, Affix, clean_class_name, prompt_from_labels

MAX_TOKENS = 256  # the published models' caption length, CLS and SEP included
_INWARD_STEPS = 3  # how many characters of a span's end are tried for a token: the end itself and two further in
_SPECIAL_TOKENS = 2  # CLS and SEP


@dataclass(frozen=True, eq=False)
class TokenizedPrompts:
    """A batch of captions as the network reads them, padded to the longest.

    Attributes:
        input_ids: `(B, L)` int64.
        attention_mask: `(B, L)` bool, True on real tokens.
        token_maps: of each prompt, `(P, L)` bool: True where a token names phrase p.
    """

    input_ids: Tensor
    attention_mask: Tensor
    token_maps: tuple[Tensor, ...]

    def rows(self, rows: Sequence[int]) -> "TokenizedPrompts":
        """Some of the captions, in this order, padded as they are."""
        maps = tuple(self.token_maps[row] for row in rows)
        return TokenizedPrompts(self.input_ids[list(rows)], self.attention_mask[list(rows)], maps)


def tokenize_prompts(
    prompts: Sequence[Prompt],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_tokens: int = MAX_TOKENS,
    truncate: bool = False,
) -> TokenizedPrompts:
    """Tokenise captions and map their phrases to tokens, in one go.

    Args:
        prompts: one for each image.
        tokenizer: a fast BERT tokenizer.
        max_tokens: longest caption, CLS and SEP included.
        truncate: whether a longer caption is cut, so that phrases beyond the cut get no token; for training data.

    Raises:
        PromptError: a caption is too long, or a phrase has no token.
    """
    encodings = [encode(tokenizer, prompt.caption, max_tokens if truncate else None) for prompt in prompts]
    for prompt, encoding in zip(prompts, encodings, strict=True):
        _check_length(prompt, encoding, max_tokens)
    length = max((len(encoding["input_ids"]) for encoding in encodings), default=0)
    input_ids = torch.zeros(len(prompts), length, dtype=torch.int64)  # 0 is BERT's PAD
    attention_mask = torch.zeros(len(prompts), length, dtype=torch.bool)
    token_maps = []
    for row, (prompt, encoding) in enumerate(zip(prompts, encodings, strict=True)):
        ids = encoding["input_ids"]
        input_ids[row, : len(ids)] = torch.tensor(ids)
        attention_mask[row, : len(ids)] = True
        token_map = map_tokens(encoding, [phrase.spans for phrase in prompt.phrases], length=length)
        _check_tokens(prompt, token_map, truncate=truncate)
        token_maps.append(token_map)
    return TokenizedPrompts(input_ids, attention_mask, tuple(token_maps))


def encode(tokenizer: PreTrainedTokenizerBase, text: str, max_tokens: int | None = None) -> BatchEncoding:
    """Tokens of a text with their offsets; cut at `max_tokens` if that is given, never padded."""
    encoding: BatchEncoding = tokenizer(
        text, truncation=max_tokens is not None, max_length=max_tokens, padding=False, verbose=False
    )
    return encoding


def map_tokens(encoding: BatchEncoding, phrases: Sequence[Sequence[Span]], *, length: int) -> Tensor:
    """Which tokens name which phrase.

    The first and last character of a span each give a token; where one has none (a space), up to two characters
    further inside are tried. All tokens between the two belong to the phrase; a span without either is skipped.

    Args:
        encoding: a tokenised caption.
        phrases: character spans of each phrase.
        length: L.

    Returns:
        `(P, L)` bool.
    """
    token_map = torch.zeros(len(phrases), length, dtype=torch.bool)
    for row, spans in enumerate(phrases):
        for start, end in spans:
            first = _first_token(encoding, range(start, start + _INWARD_STEPS))
            last = _first_token(encoding, range(end - 1, end - 1 - _INWARD_STEPS, -1))
            if first is not None and last is not None:
                token_map[row, first : last + 1] = True
    return token_map


def pack_labels(
    labels: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    separator: str = SEPARATOR,
    max_tokens: int = MAX_TOKENS,
    chunk_size: int | None = None,
    affixes: Sequence[Affix] | None = None,
) -> list[Prompt]:
    """A class list as few captions as will hold it, cut between classes.

    Args:
        labels: class names; results index this list, whatever the chunk.
        tokenizer: a fast BERT tokenizer.
        separator: between two names.
        max_tokens: longest caption, CLS and SEP included.
        chunk_size: most names in a caption; None for as many as fit. The published LVIS numbers use 40.
        affixes: (prefix, name, suffix) of each class, as `prompt_from_labels` takes them.

    Raises:
        PromptError: the list is empty, or one name alone is over the limit.
    """
    if chunk_size is not None and chunk_size < 1:
        raise PromptError(f"chunk_size must be at least 1, or None for as many names as fit, got {chunk_size}")
    prompt_from_labels(labels, separator=separator, affixes=affixes)  # an impossible list is refused as a whole
    labels = list(labels)  # sequences of other kinds cannot all be sliced
    budget = max_tokens - _SPECIAL_TOKENS
    separator_cost = _num_tokens(tokenizer, separator)
    starts, used = [0], 0
    for index, label in enumerate(labels):
        cost = _num_tokens(tokenizer, "".join(affixes[index]) if affixes is not None else clean_class_name(label))
        if cost > budget:
            raise PromptError(f"label {label!r} has {cost} tokens, at most {budget} fit in a caption; shorten it")
        size = index - starts[-1]
        if size == chunk_size or (size and used + separator_cost + cost > budget):
            starts.append(index)
        used = cost if index == starts[-1] else used + separator_cost + cost
    return [
        prompt_from_labels(
            labels[start:end],
            separator=separator,
            affixes=None if affixes is None else affixes[start:end],
            first_label=start,
        )
        for start, end in pairwise([*starts, len(labels)])
    ]


def _num_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    return len(encode(tokenizer, text)["input_ids"]) - _SPECIAL_TOKENS


def _first_token(encoding: BatchEncoding, characters: range) -> int | None:
    """The token of the first of these characters that has one."""
    for character in characters:
        token: int | None = encoding.char_to_token(character) if character >= 0 else None
        if token is not None:
            return token
    return None


def _check_length(prompt: Prompt, encoding: BatchEncoding, max_tokens: int) -> None:
    length = len(encoding["input_ids"])
    if length > max_tokens:
        raise PromptError(
            f"the caption {prompt.caption[:40]!r}... has {length} tokens, at most {max_tokens} fit; "
            "shorten it, or give a class list, which is split by itself"
        )


def _check_tokens(prompt: Prompt, token_map: Tensor, *, truncate: bool) -> None:
    if truncate:
        return
    for phrase, tokens in zip(prompt.phrases, token_map, strict=True):
        if not tokens.any():
            raise PromptError(f"the phrase {phrase.text!r} has no letter or sign that the tokenizer knows")
