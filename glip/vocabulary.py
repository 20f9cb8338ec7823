"""A class list made ready once: packed into captions, and its words read by the text encoder."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from glip.models.glip import GlipModel
from glip.processing import GlipProcessor
from glip.structures.prompt import Prompt
from glip.text.prompts import Affix
from glip.text.tokens import TokenizedPrompts, pack_labels, tokenize_prompts

CAPTIONS_PER_PASS = 8  # of a long class list
SAMPLED = 16  # numbers of each weight that tell whether it has changed
Key = tuple[tuple[str, ...], int | None, tuple[tuple[str, ...], ...] | None, int]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Class names as a network reads them; pictures are looked at with it as often as one likes.

    Attributes:
        labels: the names; detections index them.
        prompts: captions that hold them, cut between names.
        words: their tokens, a row a caption.
        features: `(captions, L, D)`, what the model's text encoder says of them.
    """

    labels: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    words: TokenizedPrompts
    features: Tensor

    def __len__(self) -> int:
        """The number of names."""
        return len(self.labels)

    def rows(self, rows: range) -> "Vocabulary":
        """Some of the captions; `labels` stay, so that detections index the whole list."""
        prompts = tuple(self.prompts[row] for row in rows)
        return replace(self, prompts=prompts, words=self.words.rows(rows), features=self.features[list(rows)])

    def repeated(self, count: int) -> "Vocabulary":
        """The only caption once for each of `count` pictures."""
        words = TokenizedPrompts(
            self.words.input_ids.expand(count, -1),
            self.words.attention_mask.expand(count, -1),
            self.words.token_maps * count,
        )
        return replace(self, prompts=self.prompts * count, words=words, features=self.features.expand(count, -1, -1))


def captions_per_pass(device: torch.device) -> int:
    """How many captions of a long class list meet a picture at once; a second one would leave a CPU's caches."""
    return 1 if device.type == "cpu" else CAPTIONS_PER_PASS


@torch.inference_mode()
def compile_vocabulary(
    labels: Sequence[str],
    model: GlipModel,
    processor: GlipProcessor,
    *,
    chunk_size: int | None = None,
    affixes: Sequence[Affix] | None = None,
) -> Vocabulary:
    """Pack class names and read them.

    Args:
        labels: class names, of any number.
        model: the network that will look at pictures with them; its weights must stay as they are.
        processor: says how long captions may be.
        chunk_size: most names in a caption; None for as many as fit.
        affixes: (prefix, name, suffix) of each class, a manual prompt.

    Raises:
        PromptError: the list is empty, or a name is, or one is longer than a caption.
    """
    prompts = pack_labels(
        labels, processor.tokenizer, max_tokens=processor.max_tokens, chunk_size=chunk_size, affixes=affixes
    )
    words = tokenize_prompts(prompts, processor.tokenizer, max_tokens=processor.max_tokens)
    ids, mask = words.input_ids.to(model.device), words.attention_mask.to(model.device)
    parts = zip(ids.split(CAPTIONS_PER_PASS), mask.split(CAPTIONS_PER_PASS), strict=True)
    features = torch.cat([model.encode_words(*part) for part in parts])
    return Vocabulary(tuple(labels), tuple(prompts), words, features)


class VocabularyCache:
    """The last few class lists, so that asking again for the same names reads no words.

    Args:
        size: how many lists are kept.
    """

    def __init__(self, *, size: int = 8) -> None:
        self.size = size
        self.kept: OrderedDict[Key, Vocabulary] = OrderedDict()
        self.state: tuple[Any, ...] = ()

    def __call__(
        self,
        labels: Sequence[str],
        model: GlipModel,
        processor: GlipProcessor,
        *,
        chunk_size: int | None = None,
        affixes: Sequence[Affix] | None = None,
    ) -> Vocabulary:
        """As `compile_vocabulary`; all lists are read anew when the model or the processor has changed."""
        if not isinstance(labels, list | tuple) or not all(isinstance(label, str) for label in labels):
            # What can be no key is read anew, or refused in its own words
            return compile_vocabulary(labels, model, processor, chunk_size=chunk_size, affixes=affixes)
        state = (model, processor.tokenizer, *_state_of(model))
        if state != self.state:
            self.kept.clear()
            self.state = state
        manual = None if affixes is None else tuple(map(tuple, affixes))
        key = (tuple(labels), chunk_size, manual, processor.max_tokens)
        if key not in self.kept:
            self.kept[key] = compile_vocabulary(labels, model, processor, chunk_size=chunk_size, affixes=affixes)
        self.kept.move_to_end(key)
        while len(self.kept) > self.size:
            self.kept.popitem(last=False)
        return self.kept[key]


@torch.no_grad()
def _state_of(model: GlipModel) -> tuple[Any, ...]:
    """What the words' features depend on, beside the words: precision, place, and a sample of every weight."""
    weights = [*model.text_encoder.parameters()] + ([] if model.text_prompt is None else [model.text_prompt])
    sums = [weight.flatten()[:: max(weight.numel() // SAMPLED, 1)].sum(dtype=torch.float64) for weight in weights]
    kind = model.device.type
    has_autocast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return model.dtype, model.device, has_autocast, tuple(torch.stack(sums).tolist())
