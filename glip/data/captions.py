"""The caption that an example is trained with (GLIP, section 3.1 and appendix B)."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from glip.data.examples import Example, GroundedObject
from glip.errors import ConfigError
from glip.structures.prompt import Phrase, Prompt
from glip.text.prompts import SEPARATOR, clean_class_name, prompt_from_labels

SIDES = {"left": "right", "right": "left"}
_SIDE = re.compile(r"(?<![^\W_])(left|right)(?=most\b|[\W_]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class CaptionRule:
    """How class lists are drawn.

    Attributes:
        max_names: most names in a caption; present ones come first.
        full_share: how often as many absent names as fit are added; else a random number of them.
        article_share: how often the names of a list get "a" or "an" in front, as phrases in sentences have.
    """

    max_names: int = 24
    full_share: float = 0.3
    article_share: float = 0.3

    def __post_init__(self) -> None:
        """Refuse impossible rules."""
        if self.max_names < 1:
            raise ConfigError(f"captions.max_names must be at least 1, got {self.max_names}")
        check_shares("captions", full_share=self.full_share, article_share=self.article_share)


def make_prompt(example: Example, rule: CaptionRule, draw: random.Random) -> tuple[Prompt, list[int]]:
    """A caption for the example, and which of its phrases each object belongs to.

    A detection example gets its present classes and some absent ones, in random order. A grounding example keeps its
    sentence; absent names may follow it, so that "not there" is learnt too. A question stands alone and names nothing.

    Returns:
        The prompt, and for each object of the example the index of its phrase, -1 where the caption does not name it.
    """
    if example.question is not None:
        return Prompt(example.question, ()), [-1] * len(example.objects)
    if example.caption is None:
        return _class_list(example, rule, draw)
    return _sentence(example, draw, rule)


def check_shares(where: str, **shares: float) -> None:
    """Refuse probabilities outside [0, 1].

    Raises:
        ConfigError: the first that is.
    """
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ConfigError(f"{where}.{name} must be in [0, 1], got {share}")


def swap_sides(example: Example) -> Example:
    """The example's words for its mirror image: "left" and "right" change places, and spans follow their words."""
    caption = None if example.caption is None else _SIDE.sub(_other_side, example.caption)
    objects = []
    for thing in example.objects:
        spans = tuple((_moved(example, start), _moved(example, end)) for start, end in thing.spans)
        objects.append(replace(thing, name=_SIDE.sub(_other_side, thing.name), spans=spans))
    return replace(
        example,
        caption=caption,
        objects=tuple(objects),
        absent=tuple(_SIDE.sub(_other_side, name) for name in example.absent),
        description=None if example.description is None else _SIDE.sub(_other_side, example.description),
        question=None if example.question is None else _SIDE.sub(_other_side, example.question),
        answers=tuple((_SIDE.sub(_other_side, answer), share) for answer, share in example.answers),
    )


def _other_side(match: re.Match[str]) -> str:
    word = match.group()
    other = SIDES[word.lower()]
    return other.capitalize() if word[0].isupper() else other


def _moved(example: Example, place: int) -> int:
    """Where a place in the caption stands after the swap; inside a swapped word, its end if the word shrinks."""
    shift = 0
    for match in _SIDE.finditer(example.caption or ""):
        growth = len(SIDES[match.group().lower()]) - len(match.group())
        if match.end() <= place:
            shift += growth
        elif match.start() < place:
            shift += min(growth, 0)
    return place + shift


def _class_list(example: Example, rule: CaptionRule, draw: random.Random) -> tuple[Prompt, list[int]]:
    present = sorted({thing.name for thing in example.objects})
    draw.shuffle(present)
    present = present[: rule.max_names]
    room = rule.max_names - len(present)
    wanted = room if draw.random() < rule.full_share else draw.randint(0 if present else 1, room)
    names = present + draw.sample(example.absent, min(wanted, len(example.absent)))
    draw.shuffle(names)
    names = names or ["object"]
    places = {name: index for index, name in enumerate(names)}
    written = [with_article(name) for name in names] if draw.random() < rule.article_share else names
    return prompt_from_labels(written), [places.get(thing.name, -1) for thing in example.objects]


def with_article(name: str) -> str:
    """The name with "a" or "an" in front."""
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _sentence(example: Example, draw: random.Random, rule: CaptionRule) -> tuple[Prompt, list[int]]:
    caption = example.caption or ""
    extra = draw.sample(example.absent, min(draw.randint(0, rule.max_names // 3), len(example.absent)))
    for name in extra:
        is_ended = caption.endswith(SEPARATOR.strip())
        caption += (" " if is_ended else SEPARATOR) + clean_class_name(name)
    keys = list(dict.fromkeys(thing.spans for thing in example.objects))
    phrases = tuple(Phrase(_name_of(example.objects, spans), spans, label) for label, spans in enumerate(keys))
    return Prompt(caption, phrases), [keys.index(thing.spans) for thing in example.objects]


def _name_of(objects: Sequence[GroundedObject], spans: tuple[tuple[int, int], ...]) -> str:
    return next(thing.name for thing in objects if thing.spans == spans)
