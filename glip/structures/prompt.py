"""What is looked for: a caption and the phrases in it.

Detection and grounding are one task (GLIP, section 3.1): a class list is a caption too.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from glip.errors import PromptError

Span = tuple[int, int]
"""Half-open `[start, end)`, in characters of the caption."""


@dataclass(frozen=True)
class Phrase:
    """One thing to look for.

    Attributes:
        text: the caller's own words, unchanged; what results are labelled with.
        spans: where the phrase stands in the caption, half-open character spans; several if it is in pieces.
        label: its place in the caller's list, from 0.
    """

    text: str
    spans: tuple[Span, ...]
    label: int


@dataclass(frozen=True)
class Prompt:
    """A caption and the phrases in it that boxes are wanted for.

    Attributes:
        caption: the text that the network reads.
        phrases: in the order of the columns that the network's scores are gathered into.

    Raises:
        PromptError: a span lies outside the caption, or is empty.
    """

    caption: str
    phrases: tuple[Phrase, ...]

    def __post_init__(self) -> None:
        """Check every span against the caption."""
        for phrase in self.phrases:
            for start, end in phrase.spans:
                if not 0 <= start < end <= len(self.caption):
                    raise PromptError(
                        f"phrase {phrase.text!r}: span ({start}, {end}) must satisfy 0 <= start < end <= "
                        f"{len(self.caption)}, the caption's length; give half-open character spans"
                    )

    @property
    def labels(self) -> tuple[int, ...]:
        """The caller's index of each phrase; length P."""
        return tuple(phrase.label for phrase in self.phrases)


def phrase_texts(prompts: Iterable[Prompt]) -> tuple[str, ...]:
    """The caller's own list, put together again from the prompts that it was split into.

    Args:
        prompts: prompts whose labels together are 0, 1, ... without a gap.
    """
    texts = {phrase.label: phrase.text for prompt in prompts for phrase in prompt.phrases}
    return tuple(texts[label] for label in sorted(texts))
