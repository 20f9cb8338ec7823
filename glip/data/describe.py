"""True sentences about the boxes of a picture: how many, how big, on which side, beside what.

For composed scenes (`glip.data.compose`) and for photos with boxes but no captions. Adjectives that the boxes cannot
prove are only given to a thing whose name already decides.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from glip.data.captions import with_article
from glip.data.examples import GroundedObject
from glip.structures.prompt import Span
from glip.text.prompts import SEPARATOR

Box = tuple[float, float, float, float]
CLEAR_STEP = 0.12  # of the picture's side: how far apart two things are for "left of" or "above" to be plainly true
CLEAR_RATIO = 1.7  # of areas' square roots, for "big" and "small"
MAX_COUNT = 6  # more boxes of one name are "many"
LIST_SHARE, SETTING_SHARE, ADJECTIVE_SHARE = 0.25, 0.3, 0.4
JOINTS = (" and ", ", ", " next to ", " with ", " near ", " beside ")
NEAR_MISS_SHARE = 0.4  # of lists with coloured things: the same name in a colour that is not there
COLOURS = ("red", "blue", "green", "yellow", "orange", "purple", "pink", "brown", "black", "white", "grey")
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Placed:
    """A named thing where it stands in a picture: `box` is xyxy pixels; `colour` is "" where it is not known."""

    name: str
    box: Box
    colour: str = ""

    @property
    def called(self) -> str:
        """The name with its colour."""
        return f"{self.colour} {self.name}".strip()

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) in pixels."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    @property
    def side(self) -> float:
        """Square root of the area, in pixels."""
        return float(((self.box[2] - self.box[0]) * (self.box[3] - self.box[1])) ** 0.5)


@dataclass(frozen=True)
class Sentence:
    """A caption and the objects that its phrases name."""

    caption: str
    objects: tuple[GroundedObject, ...]


@dataclass(frozen=True)
class Words:
    """What things may be called.

    Attributes:
        same: other names of a class.
        alone: names for a class's only thing in a picture.
        crowd: names for all of several things of a class.
        wider: a wider name and the classes under it; used where only one of them is in the picture.
        adjectives: for things; the boxes cannot prove them.
        person_adjectives: the same for people.
        settings: ends of sentences.
    """

    same: Mapping[str, Sequence[str]] = field(default_factory=dict)
    alone: Mapping[str, Sequence[str]] = field(default_factory=dict)
    crowd: Mapping[str, Sequence[str]] = field(default_factory=dict)
    wider: Mapping[str, Sequence[str]] = field(default_factory=dict)
    adjectives: Sequence[str] = ()
    person_adjectives: Sequence[str] = ()
    settings: Sequence[str] = ()


@dataclass(frozen=True)
class _Mention:
    """A phrase and the boxes it stands for; none for a thing that is not there."""

    phrase: str
    boxes: tuple[Box, ...]


def describe_things(things: Sequence[Placed], size: tuple[int, int], draw: random.Random) -> list[Sentence]:
    """A list with articles, and one referring expression where one is unambiguous.

    Args:
        things: what is in the picture.
        size: its `(width, height)` in pixels.
        draw: the source of chance.
    """
    sentences = []
    if things:
        sentences.append(_enumeration(things, draw))
    expression = _referring_expression(things, size, draw)
    if expression is not None:
        sentences.append(expression)
    return sentences


def tell(
    things: Sequence[Placed],
    size: tuple[int, int],
    draw: random.Random,
    *,
    words: Words,
    absent: Sequence[str] = (),
    most: int = 4,
) -> Sentence:
    """A sentence about some of a picture's things in other words than their class names.

    Args:
        things: everything of these classes that is in the picture, so that "the only one" can be told.
        size: its `(width, height)` in pixels.
        draw: the source of chance.
        words: what things may be called.
        absent: classes that are not in the picture; the sentence may name some, without a box.
        most: most phrases that are there.
    """
    names = list(dict.fromkeys(thing.name for thing in things))
    chosen = draw.sample(names, min(draw.randint(1, most), len(names)))
    mentions = [_mention(name, things, size, draw, words) for name in chosen]
    wanted = draw.choice((0, 0, 1, 2)) if mentions else 1
    for name in draw.sample(list(absent), min(wanted, len(absent))):
        mentions.append(_Mention(with_article(_adorned(_other_name(name, draw, words), name, draw, words)), ()))
    draw.shuffle(mentions)
    if draw.random() < LIST_SHARE:
        return _joined(mentions, [SEPARATOR] * (len(mentions) - 1), "")
    ending = f" {draw.choice(words.settings)}" if words.settings and draw.random() < SETTING_SHARE else ""
    return _joined(mentions, [draw.choice(JOINTS) for _ in mentions[1:]], ending + draw.choice(("", ".")))


def plural(name: str) -> str:
    """The plural of a name's last word, by rule."""
    if name.endswith(("s", "x", "ch", "sh")):
        return name + "es"
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return name[:-1] + "ies"
    return name + "s"


def _mention(name: str, things: Sequence[Placed], size: tuple[int, int], draw: random.Random, words: Words) -> _Mention:
    """A phrase for one class: its only thing, one of several told apart by size or side, or all of them."""
    members = [thing for thing in things if thing.name == name]
    if len(members) == 1:
        article = draw.choice(("a", "a", "the", "one"))
        noun = _only_name(name, things, draw, words)
        phrase = _adorned(noun, name, draw, words)
        return _Mention(with_article(phrase) if article == "a" else f"{article} {phrase}", (members[0].box,))
    if draw.random() < 0.5:
        noun = _other_name(name, draw, words)
        told = [
            (f"the {text}", thing)
            for thing in members
            for text in _apart(thing, noun, [twin for twin in members if twin is not thing], size)
        ]
        if told:
            phrase, thing = draw.choice(told)
            return _Mention(phrase, (thing.box,))
    return _Mention(_crowd_phrase(name, len(members), draw, words), tuple(thing.box for thing in members))


def _only_name(name: str, things: Sequence[Placed], draw: random.Random, words: Words) -> str:
    present = {thing.name for thing in things}
    wider = [wide for wide, classes in words.wider.items() if name in classes and len(present & {*classes}) == 1]
    roll = draw.random()
    if wider and roll < 0.15:
        return draw.choice(wider)
    if name in words.alone and roll < 0.7:
        return draw.choice(words.alone[name])
    return _other_name(name, draw, words)


def _other_name(name: str, draw: random.Random, words: Words) -> str:
    others = words.same.get(name, ())
    return draw.choice(others) if others and draw.random() < 0.5 else name


def _crowd_phrase(name: str, count: int, draw: random.Random, words: Words) -> str:
    if name in words.crowd:
        crowd = draw.choice(words.crowd[name])
        if crowd.startswith("a "):
            return crowd
    else:
        crowd = plural(_other_name(name, draw, words))
    number = NUMBERS[count] if count <= MAX_COUNT else "many"
    return f"{draw.choice((number, number, 'some', 'several', 'the'))} {crowd}"


def _adorned(noun: str, name: str, draw: random.Random, words: Words) -> str:
    adjectives = words.person_adjectives if name == "person" else words.adjectives
    return f"{draw.choice(adjectives)} {noun}" if adjectives and draw.random() < ADJECTIVE_SHARE else noun


def _joined(mentions: Sequence[_Mention], joints: Sequence[str], ending: str) -> Sentence:
    caption, objects = "", []
    for index, mention in enumerate(mentions):
        caption += joints[index - 1] if index else ""
        span: Span = (len(caption), len(caption) + len(mention.phrase))
        caption += mention.phrase
        objects += [GroundedObject(box, mention.phrase, (span,)) for box in mention.boxes]
    return Sentence(caption + ending, tuple(objects))


def _enumeration(things: Sequence[Placed], draw: random.Random) -> Sentence:
    """A list like "a dog, two apples and a red cup", in random order; what stands for several boxes is counted.

    Sometimes a thing is named in a colour that it does not have, without a box.
    """
    names = list(dict.fromkeys(thing.called for thing in things))
    draw.shuffle(names)
    mentions = []
    for name in names:
        boxes = tuple(thing.box for thing in things if thing.called == name)
        phrase = with_article(name) if len(boxes) == 1 else f"{counted(len(boxes))} {plural(name)}"
        mentions.append(_Mention(phrase, boxes))
    coloured = [thing for thing in things if thing.colour]
    if coloured and draw.random() < NEAR_MISS_SHARE:
        wrong = replace(draw.choice(coloured), colour=draw.choice(COLOURS))
        if wrong.called not in names:
            mentions.insert(draw.randint(0, len(mentions)), _Mention(with_article(wrong.called), ()))
    return _joined(mentions, [", "] * (len(mentions) - 2) + [" and "], "")


def counted(number: int) -> str:
    """The number as a word where it has one here."""
    return NUMBERS[number] if number < len(NUMBERS) else str(number)


def _referring_expression(things: Sequence[Placed], size: tuple[int, int], draw: random.Random) -> Sentence | None:
    """A phrase that is true of one thing only."""
    candidates = [(words, thing) for thing in things for words in _expressions(thing, things, size) if len(things) > 1]
    if not candidates:
        return None
    words, thing = draw.choice(candidates)
    return Sentence(words, (GroundedObject(thing.box, words, ((0, len(words)),)),))


def _expressions(thing: Placed, things: Sequence[Placed], size: tuple[int, int]) -> list[str]:
    """What tells a thing from its namesakes, or places it beside another thing."""
    twins = [other for other in things if other.name == thing.name and other is not thing]
    others = [other for other in things if other.name != thing.name]
    if twins:
        return [f"the {words}" for words in _apart(thing, thing.name, twins, size)] + [
            f"the {thing.name} {relation} the {other.called}"
            for other in others
            if sum(o.name == other.name for o in others) == 1
            for relation in relations(thing, other, size)
            if not any(relation in relations(twin, other, size) for twin in twins)
        ]
    return [
        f"the {thing.called} {relation} the {other.called}"
        for other in others
        if sum(o.name == other.name for o in others) == 1
        for relation in relations(thing, other, size)
    ]


def _apart(thing: Placed, noun: str, twins: Sequence[Placed], size: tuple[int, int]) -> list[str]:
    """Words that are true of a thing and of none of its twins: "small cup", "cup on the left", "red cup"."""
    words = [f"{word} {noun}" for word in _size_words(thing, twins)]
    words += [f"{noun} {where}" for where in _side_words(thing, twins, size)]
    if thing.colour and all(twin.colour != thing.colour for twin in twins):
        words += [f"{thing.colour} {noun}"] * 2  # as often as sizes and sides
    return words


def _size_words(thing: Placed, twins: Sequence[Placed]) -> list[str]:
    if all(thing.side > CLEAR_RATIO * twin.side for twin in twins):
        return ["big", "large", "larger"]
    if all(CLEAR_RATIO * thing.side < twin.side for twin in twins):
        return ["small", "little", "smaller"]
    return []


def _side_words(thing: Placed, twins: Sequence[Placed], size: tuple[int, int]) -> list[str]:
    shared = set.intersection(*(set(relations(thing, twin, size)) for twin in twins))
    names = {
        "to the left of": "on the left",
        "to the right of": "on the right",
        "above": "at the top",
        "below": "at the bottom",
    }
    return [where for relation, where in names.items() if relation in shared]


def relations(thing: Placed, other: Placed, size: tuple[int, int]) -> list[str]:
    """Which spatial words are plainly true of a thing and another, in a picture of `(width, height)` pixels."""
    dx, dy = thing.centre[0] - other.centre[0], thing.centre[1] - other.centre[1]
    found = []
    if abs(dx) > max(CLEAR_STEP * size[0], abs(dy)):
        found.append("to the left of" if dx < 0 else "to the right of")
    if abs(dy) > max(CLEAR_STEP * size[1], abs(dx)):
        found.append("above" if dy < 0 else "below")
    return found
