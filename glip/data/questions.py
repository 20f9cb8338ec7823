"""Questions and captions of a picture whose things are known: what colour, how many, what is beside what, is there one.

Only what the boxes, names and colours decide is asked: a name that another thing's name shares a word with is not used,
and "left of" is asked where one thing is plainly there and no other could be meant. All chance comes from `draw`.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from glip.data.captions import with_article
from glip.data.describe import COLOURS, Box, Placed, plural, relations

PEOPLE = 10  # who answer a question in VQA's files
COLOUR_SHARE = 0.5  # of "is there a ..." that name a colour, where colours are known
SIDEWAYS = 2.0  # a thing that is so many times further across than along is not in that direction at all
WAYS = {"to the left of": "left of", "to the right of": "right of", "above": "above", "below": "below"}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
STEPS = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}  # axis and sign


@dataclass(frozen=True)
class Question:
    """A question about a picture and its one right answer.

    Attributes:
        text: lower case, without a question mark.
        answer: as `glip.text.answers.normalise_answer` writes it: numbers are digits.
        kind: "colour", "count", "relation" or "presence".
        box: xyxy pixels of the one thing that the answer speaks of; None where it is none or several.
        words: what in the text names things.
        about: xyxy pixels of everything in the picture that these words name.
    """

    text: str
    answer: str
    kind: str
    box: Box | None = None
    words: str = ""
    about: tuple[Box, ...] = ()

    @property
    def span(self) -> tuple[int, int]:
        """Where the words stand in the text."""
        start = self.text.rindex(self.words)
        return start, start + len(self.words)

    @property
    def given(self) -> tuple[str, ...]:
        """The answer as ten people give it, who agree."""
        return (self.answer,) * PEOPLE


@dataclass(frozen=True)
class SceneCaption:
    """One sentence about a picture, and all the sentences that say the same; the first is the plainest."""

    caption: str
    references: tuple[str, ...]


def ask_questions(
    things: Sequence[Placed],
    size: tuple[int, int],
    draw: random.Random,
    *,
    absent: Sequence[str] = (),
    colours: Sequence[str] = COLOURS,
) -> list[Question]:
    """At most one question of each kind, in the order of `Question.kind`; a kind that would be ambiguous is left out.

    Args:
        things: everything that is in the picture.
        size: its `(width, height)` in pixels.
        draw: the source of chance.
        absent: names that are not in the picture; those that share a word with one that is are not used.
        colours: what may be asked for that is not there.
    """
    present = [name for name in dict.fromkeys(thing.name for thing in things) if _is_clear(name, things)]
    missing = [name for name in absent if not any(_share_a_word(name, thing.name) for thing in things)]
    found = (
        _colour_question(things, present, draw),
        _count_question(things, present, missing, draw),
        _relation_question(things, size, present, draw),
        _presence_question(things, present, missing, draw, colours),
    )
    return [question for question in found if question is not None]


def caption_things(things: Sequence[Placed], size: tuple[int, int], draw: random.Random) -> SceneCaption:
    """A sentence about the two largest things, or the only one: "a red cup left of a dog".

    Args:
        things: everything that is in the picture.
        size: its `(width, height)` in pixels.
        draw: which of the references is the caption.
    """
    largest = sorted(things, key=lambda thing: -thing.side)[:2]
    references = _wordings(largest, size)
    return SceneCaption(draw.choice(references), references)


def _wordings(largest: Sequence[Placed], size: tuple[int, int]) -> tuple[str, ...]:
    """What may be said of no thing, of one, or of two."""
    if not largest:
        return "an empty picture", "there is nothing in the picture"
    first, *others = (with_article(thing.called) for thing in largest)
    if not others:
        return first, f"there is {first}", f"a picture of {first}"
    if largest[0].called == largest[1].called:
        name = plural(largest[0].called)
        return f"two {name}", f"there are two {name}", f"a pair of {name}"
    (second,) = others
    plain = relations(largest[0], largest[1], size)
    if not plain:
        return f"{first} and {second}", f"there is {first} and {second}", f"{second} and {first}"
    way = WAYS[plain[0]]
    return (
        f"{first} {way} {second}",
        f"there is {first} {way} {second}",
        f"{second} {OPPOSITE[way]} {first}",
        f"{first} and {second}",
    )


def _colour_question(things: Sequence[Placed], present: Sequence[str], draw: random.Random) -> Question | None:
    asked = [thing for thing in things if thing.colour and thing.name in present and _count(thing.name, things) == 1]
    if not asked:
        return None
    thing = draw.choice(asked)
    return Question(
        f"what colour is the {thing.name}", thing.colour, "colour", thing.box, words=thing.name, about=(thing.box,)
    )


def _count_question(
    things: Sequence[Placed], present: Sequence[str], missing: Sequence[str], draw: random.Random
) -> Question | None:
    """Each number that the picture has an example of is asked for as often."""
    names: dict[int, list[str]] = {0: list(missing)} if missing else {}
    for name in present:
        names.setdefault(_count(name, things), []).append(name)
    if not names:
        return None
    count = draw.choice(sorted(names))
    name = draw.choice(names[count])
    boxes = tuple(thing.box for thing in things if thing.name == name)
    return Question(f"how many {plural(name)} are there", str(count), "count", words=plural(name), about=boxes)


def _relation_question(
    things: Sequence[Placed], size: tuple[int, int], present: Sequence[str], draw: random.Random
) -> Question | None:
    asked = []
    for anchor in things:
        words = _only_name(anchor, things, present)
        others = [thing for thing in things if thing is not anchor]
        for relation, way in WAYS.items():
            there = [thing for thing in others if relation in relations(thing, anchor, size)]
            is_clear = all(_is_elsewhere(thing, anchor, way) for thing in others if thing not in there)
            if words and len(there) == 1 and is_clear and there[0].name in present:
                text, found = f"what is {way} the {words}", there[0]
                asked.append(Question(text, found.name, "relation", found.box, words=words, about=(anchor.box,)))
    return draw.choice(asked) if asked else None


def _presence_question(
    things: Sequence[Placed],
    present: Sequence[str],
    missing: Sequence[str],
    draw: random.Random,
    colours: Sequence[str],
) -> Question | None:
    """Yes as often as no; with a colour as often when it is there as when only its name is."""
    with_colour = draw.random() < COLOUR_SHARE
    coloured = [name for name in present if all(thing.colour for thing in things if thing.name == name)]
    choices: dict[str, list[str]] = {"yes": list(present), "no": list(missing)}
    if with_colour and coloured:
        called = {thing.called for thing in things}
        near = [f"{colour} {name}" for name in coloured for colour in colours if f"{colour} {name}" not in called]
        choices = {"yes": sorted(thing.called for thing in things if thing.name in coloured), "no": near}
    possible = [answer for answer, words in choices.items() if words]
    if not possible:
        return None
    answer = draw.choice(possible)
    words = draw.choice(choices[answer])
    meant = tuple(thing.box for thing in things if words in (thing.name, thing.called))
    box = meant[0] if answer == "yes" and len(meant) == 1 else None
    return Question(f"is there {with_article(words)}", answer, "presence", box, words=words, about=meant)


def _only_name(thing: Placed, things: Sequence[Placed], present: Sequence[str]) -> str:
    """What only this thing is called: its name, or its name with its colour; "" if neither."""
    if thing.name not in present:
        return ""
    twins = [other for other in things if other.name == thing.name and other is not thing]
    if not twins:
        return thing.name
    is_told = all(twin.colour not in ("", thing.colour) for twin in twins)
    return thing.called if thing.colour and is_told else ""


def _is_elsewhere(thing: Placed, anchor: Placed, way: str) -> bool:
    """Whether nobody would say that the thing is in that direction of the anchor."""
    axis, sign = STEPS[way]
    along = sign * (thing.centre[axis] - anchor.centre[axis])
    return along <= 0 or abs(thing.centre[1 - axis] - anchor.centre[1 - axis]) >= SIDEWAYS * along


def _is_clear(name: str, things: Sequence[Placed]) -> bool:
    return not any(thing.name != name and _share_a_word(name, thing.name) for thing in things)


def _share_a_word(name: str, other: str) -> bool:
    return not set(name.split()).isdisjoint(other.split())


def _count(name: str, things: Sequence[Placed]) -> int:
    return sum(thing.name == name for thing in things)
