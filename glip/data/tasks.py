"""The truth of a batch for the heads of GLIPv2: hidden words, descriptions, answers, and which names are one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from glip.structures.tasks import TaskTruth
from glip.text.masking import NEVER, SCORED, UNSCORED, hide_words
from glip.text.names import name_key, noun_key
from glip.text.tokens import TokenizedPrompts, encode, map_tokens

if TYPE_CHECKING:
    from glip.data.dataset import Sample


@dataclass(frozen=True)
class TaskRule:
    """Which truth is wanted.

    Attributes:
        masks: whether things' masks are drawn.
        words: whether words are hidden to be guessed.
        description_tokens: longest description, start and end included; 0 for no descriptions.
        answers: the answers that are known.
        names: whether names are compared over the batch.
    """

    masks: bool = False
    words: bool = False
    description_tokens: int = 0
    answers: tuple[str, ...] = ()
    names: bool = False

    @classmethod
    def of_heads(cls, heads: Mapping[str, Mapping[str, Any]]) -> Self:
        """What the heads of a `GlipConfig` learn from."""
        return cls(
            masks="masks" in heads,
            words="mlm" in heads,
            description_tokens=heads["captioning"]["max_tokens"] if "captioning" in heads else 0,
            answers=tuple(heads["vqa"]["answers"]) if "vqa" in heads else (),
            names="contrast" in heads,
        )


class TaskMaker:
    """Makes a batch's `TaskTruth`.

    Args:
        tokenizer: a fast BERT tokenizer.
        rule: which truth is wanted.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, rule: TaskRule) -> None:
        self.tokenizer = tokenizer
        self.rule = rule
        self.place_of_answer = {answer: place for place, answer in enumerate(rule.answers)}

    def __call__(self, samples: "Sequence[Sample]", words: TokenizedPrompts) -> tuple[Tensor, TaskTruth]:
        """The tokens that the network reads, some of them hidden, and the truth.

        Args:
            samples: of the batch.
            words: their captions.
        """
        truth: dict[str, Tensor] = {}
        input_ids = words.input_ids
        if self.rule.words:
            input_ids, truth["word_labels"] = self._hide(samples, words)
        if self.rule.description_tokens:
            truth["described"], truth["descriptions"] = self._descriptions(samples)
        if self.rule.answers:
            truth["answers"], truth["is_asked"] = self._answers(samples)
        if self.rule.names:
            truth["token_keys"], truth["token_nouns"] = _names(samples, words)
        return input_ids, TaskTruth(**truth)

    def _hide(self, samples: "Sequence[Sample]", words: TokenizedPrompts) -> tuple[Tensor, Tensor]:
        greenlight = torch.full_like(words.input_ids, NEVER)
        for row, sample in enumerate(samples):
            greenlight[row] = self._greenlight(sample, words, row)
        mask_id = self.tokenizer.convert_tokens_to_ids("[MASK]")
        assert isinstance(mask_id, int)
        seed = torch.Generator().manual_seed(samples[0].seed if samples else 0)
        return hide_words(words.input_ids, greenlight, mask_id=mask_id, vocabulary=len(self.tokenizer), generator=seed)

    def _greenlight(self, sample: "Sample", words: TokenizedPrompts, row: int) -> Tensor:
        """`(L,)`: a sentence's own words are asked for, of a class list the names that are there; a question stays."""
        length = words.input_ids.shape[1]
        lights = torch.full((length,), NEVER)
        if not sample.is_grounded:
            return lights
        told = sample.told.caption if sample.told is not None else None
        if told is None:
            lights[words.token_maps[row][sample.phrase_of_box].any(dim=0)] = SCORED
            return lights
        inside = words.attention_mask[row].clone()
        inside[0] = inside[int(inside.sum()) - 1] = False  # CLS and SEP
        lights[inside] = UNSCORED  # words of other pictures' captions
        start = sample.prompt.caption.find(told.rstrip())
        if start >= 0:
            span = (start, start + len(told.rstrip()))
            encoding = encode(self.tokenizer, sample.prompt.caption, length)
            lights[map_tokens(encoding, [[span]], length=length)[0]] = SCORED
        return lights

    def _descriptions(self, samples: "Sequence[Sample]") -> tuple[Tensor, Tensor]:
        rows = [row for row, sample in enumerate(samples) if sample.told is not None and sample.told.description]
        tokens = [
            torch.tensor(encode(self.tokenizer, _description(samples[row]), self.rule.description_tokens)["input_ids"])
            for row in rows
        ]
        padded = pad_sequence(tokens, batch_first=True) if tokens else torch.zeros(0, 2, dtype=torch.int64)
        return torch.tensor(rows, dtype=torch.int64), padded

    def _answers(self, samples: "Sequence[Sample]") -> tuple[Tensor, Tensor]:
        truth = torch.zeros(len(samples), len(self.rule.answers))
        for row, sample in enumerate(samples):
            for answer, share in sample.told.answers if sample.told is not None else ():
                if answer in self.place_of_answer:
                    truth[row, self.place_of_answer[answer]] = share
        return truth, truth.any(dim=1)


def _description(sample: "Sample") -> str:
    return (sample.told.description if sample.told is not None else None) or ""


def _names(samples: "Sequence[Sample]", words: TokenizedPrompts) -> tuple[Tensor, Tensor]:
    """What each token's phrase is called, as numbers, and what its noun is."""
    keys, nouns = torch.zeros_like(words.input_ids), torch.zeros_like(words.input_ids)
    for row, (sample, token_map) in enumerate(zip(samples, words.token_maps, strict=True)):
        for phrase, tokens in zip(sample.prompt.phrases, token_map, strict=True):
            keys[row, tokens] = name_key(phrase.text)
            nouns[row, tokens] = noun_key(phrase.text)
    return keys, nouns
