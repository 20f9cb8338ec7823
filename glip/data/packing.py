"""Captions of other pictures round a picture's own: words that name nothing in it (GLIP, appendix B)."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from glip.data.captions import check_shares
from glip.data.examples import Example
from glip.errors import ConfigError
from glip.structures.prompt import Phrase, Prompt
from glip.text.tokens import MAX_TOKENS

SPECIAL_TOKENS = 2  # CLS and SEP
END, GAP = ".", " "


@dataclass(frozen=True)
class PackingRule:
    """How many captions of other pictures stand round a sentence; class lists have their own absent names.

    Attributes:
        captions: most foreign captions; 0 for none. Published: 20.
        none_share: how often a sentence stays alone.
        full_share: else, how often there are as many as `captions`; else a random number below that.
    """

    captions: int = 0
    none_share: float = 0.4
    full_share: float = 0.5

    def __post_init__(self) -> None:
        """Refuse impossible rules."""
        if self.captions < 0:
            raise ConfigError(f"packing.captions must be at least 0, got {self.captions}")
        check_shares("packing", none_share=self.none_share, full_share=self.full_share)

    def wanted(self, draw: random.Random) -> int:
        """How many foreign captions this time."""
        if not self.captions or draw.random() < self.none_share:
            return 0
        return self.captions if draw.random() < self.full_share else draw.randrange(self.captions)


def foreign_captions(example: Example, examples: Sequence[Example], count: int, draw: random.Random) -> list[str]:
    """Captions of other pictures.

    Args:
        example: whose picture they must not be of.
        examples: with captions; where they are drawn from.
        count: how many are drawn; those of the same picture are left out.
        draw: the source of chance.
    """
    drawn = (examples[index] for index in draw.sample(range(len(examples)), min(count, len(examples))))
    return [other.caption for other in drawn if other.caption and other.image != example.image]


def pack(prompt: Prompt, foreign: Sequence[str], count_tokens: Callable[[str], int], draw: random.Random) -> Prompt:
    """The prompt's caption among foreign ones, in random order; its spans follow it.

    Args:
        prompt: a sentence and its phrases.
        foreign: captions; taken in turn for as long as all fit into 256 tokens.
        count_tokens: tokens of a text, CLS and SEP left out.
        draw: of the order.
    """
    own = _ended(prompt.caption)
    room = MAX_TOKENS - SPECIAL_TOKENS - count_tokens(own)
    taken: list[str] = []
    for caption in map(_ended, foreign):
        room -= count_tokens(caption)
        if room < 0:
            break
        taken.append(caption)
    if not taken:
        return prompt
    place = draw.randint(0, len(taken))
    shift = sum(len(caption) + len(GAP) for caption in taken[:place])
    phrases = tuple(
        Phrase(phrase.text, tuple((start + shift, end + shift) for start, end in phrase.spans), phrase.label)
        for phrase in prompt.phrases
    )
    return Prompt(GAP.join([*taken[:place], own, *taken[place:]]), phrases)


def _ended(caption: str) -> str:
    """The caption with a full stop; what stands before it keeps its place."""
    bare = caption.rstrip()
    return bare if bare.endswith(END) else bare + END
