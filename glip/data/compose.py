"""Scenes put together from named cut-outs on real backgrounds, with exact boxes and true sentences.

All chance comes from one seed: the same seed gives the same scene.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageEnhance, ImageFilter

from glip.data.captions import with_article
from glip.data.examples import GroundedObject
from glip.structures.prompt import Span

Box = tuple[float, float, float, float]
MIN_VISIBLE = 0.7  # share of a cut-out's box that later ones may leave
CLEAR_STEP = 0.12  # of the scene's side: how far apart two things are for "left of" or "above" to be plainly true
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
CLEAR_RATIO = 1.7  # of areas' square roots, for "big" and "small"


@dataclass(frozen=True)
class CutOut:
    """A picture of one thing with transparency round it.

    Attributes:
        file: RGBA picture.
        name: what it shows.
        box: xyxy pixels of the opaque part.
    """

    file: Path
    name: str
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Placed:
    """A cut-out where it stands in the scene."""

    name: str
    box: Box

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


@dataclass(frozen=True, eq=False)
class Scene:
    """A composed picture and what is in it."""

    image: Image.Image
    things: tuple[Placed, ...]


def compose_scene(cutouts: Sequence[CutOut], backgrounds: Sequence[Path], seed: int, *, side: int = 416) -> Scene:
    """Draw a scene.

    Args:
        cutouts: what may be placed.
        backgrounds: pictures that may stand behind.
        seed: of all chance.
        side: longest side of the scene, in pixels.
    """
    draw = random.Random(seed)
    with Image.open(draw.choice(list(backgrounds))) as opened:
        canvas = _background(opened.convert("RGB"), side, draw)
    placed: list[Placed] = []
    chosen = [draw.choice(list(cutouts)) for _ in range(draw.randint(1, 5))]
    if draw.random() < 0.35:  # the same name twice: the words beside the name must tell them apart
        chosen.append(chosen[0])
    for cutout in chosen:
        box = _free_place(cutout, canvas.size, placed, draw)
        if box is not None:
            _paste(canvas, cutout, box, draw)
            placed.append(Placed(cutout.name, box))
    return Scene(canvas, tuple(placed))


def describe_scene(scene: Scene, draw: random.Random) -> list[Sentence]:
    """True sentences about a scene: a list with articles, and one referring expression where one is unambiguous."""
    sentences = []
    if scene.things:
        sentences.append(_enumeration(scene.things, draw))
    expression = _referring_expression(scene, draw)
    if expression is not None:
        sentences.append(expression)
    return sentences


def _background(image: Image.Image, side: int, draw: random.Random) -> Image.Image:
    """A random window of a picture, scaled to the scene's size."""
    share = draw.uniform(0.6, 1.0)
    width, height = (max(round(length * share), 1) for length in image.size)
    x, y = draw.randint(0, image.width - width), draw.randint(0, image.height - height)
    window = image.crop((x, y, x + width, y + height))
    scale = side / max(width, height)
    return window.resize((max(round(width * scale), 64), max(round(height * scale), 64)), Image.Resampling.BILINEAR)


def _free_place(cutout: CutOut, size: tuple[int, int], placed: Sequence[Placed], draw: random.Random) -> Box | None:
    """A place inside the scene that hides no earlier thing too much; None if ten tries find none."""
    width, height = cutout.box[2] - cutout.box[0], cutout.box[3] - cutout.box[1]
    for _ in range(10):
        longest = min(size) * draw.uniform(0.12, 0.65)
        scale = min(longest / max(width, height), 3.0)  # a tiny cut-out blown up further is a blur
        w, h = max(width * scale, 8), max(height * scale, 8)
        x, y = draw.uniform(0, max(size[0] - w, 0)), draw.uniform(0, max(size[1] - h, 0))
        box = (round(x), round(y), round(x + w), round(y + h))
        later = [*(thing.box for thing in placed), box]
        if all(
            sum(_hidden_share(thing.box, by) for by in later[n + 1 :]) <= 1 - MIN_VISIBLE
            for n, thing in enumerate(placed)
        ):
            return tuple(float(edge) for edge in box)  # type: ignore[return-value]  # four of them
    return None


def _hidden_share(box: Box, by: Sequence[float]) -> float:
    width = min(box[2], by[2]) - max(box[0], by[0])
    height = min(box[3], by[3]) - max(box[1], by[1])
    area = (box[2] - box[0]) * (box[3] - box[1])
    return max(width, 0) * max(height, 0) / max(area, 1e-6)


def _paste(canvas: Image.Image, cutout: CutOut, box: Box, draw: random.Random) -> None:
    """Put the cut-out into its box, with changed light and a little blur."""
    size = (int(box[2] - box[0]), int(box[3] - box[1]))
    with Image.open(cutout.file) as opened:
        picture = opened.convert("RGBA").crop(cutout.box).resize(size, Image.Resampling.BILINEAR)
    alpha = picture.getchannel("A").filter(ImageFilter.GaussianBlur(draw.uniform(0, 0.8)))
    colour = picture.convert("RGB")
    colour = ImageEnhance.Brightness(colour).enhance(draw.uniform(0.7, 1.2))
    colour = ImageEnhance.Contrast(colour).enhance(draw.uniform(0.8, 1.1))
    if draw.random() < 0.3:
        colour = colour.filter(ImageFilter.GaussianBlur(draw.uniform(0.3, 1.2)))
    canvas.paste(colour, (int(box[0]), int(box[1])), alpha)


def _enumeration(things: Sequence[Placed], draw: random.Random) -> Sentence:
    """A list like "a dog, two apples and a cup", in random order; a name that stands for several boxes is counted."""
    names = list(dict.fromkeys(thing.name for thing in things))
    draw.shuffle(names)
    caption, objects = "", []
    for index, name in enumerate(names):
        caption += "" if index == 0 else " and " if index == len(names) - 1 else ", "
        members = [thing for thing in things if thing.name == name]
        phrase = with_article(name) if len(members) == 1 else f"{_count(len(members))} {plural(name)}"
        span: Span = (len(caption), len(caption) + len(phrase))
        caption += phrase
        objects += [GroundedObject(member.box, phrase, (span,)) for member in members]
    return Sentence(caption, tuple(objects))


def _count(number: int) -> str:
    return NUMBERS[number] if number < len(NUMBERS) else str(number)


def _referring_expression(scene: Scene, draw: random.Random) -> Sentence | None:
    """A phrase that is true of one thing only."""
    candidates = [
        (words, thing) for thing in scene.things for words in _expressions(thing, scene) if len(scene.things) > 1
    ]
    if not candidates:
        return None
    words, thing = draw.choice(candidates)
    return Sentence(words, (GroundedObject(thing.box, words, ((0, len(words)),)),))


def _expressions(thing: Placed, scene: Scene) -> list[str]:
    """What tells a thing from its namesakes, or places it beside another thing."""
    twins = [other for other in scene.things if other.name == thing.name and other is not thing]
    others = [other for other in scene.things if other.name != thing.name]
    step = (CLEAR_STEP * scene.image.width, CLEAR_STEP * scene.image.height)
    words = []
    if twins:
        words += [f"the {word} {thing.name}" for word in _size_words(thing, twins)]
        words += [f"the {thing.name} {where}" for where in _side_words(thing, twins, step)]
    else:
        for other in others:
            if sum(o.name == other.name for o in others) == 1:
                words += [
                    f"the {thing.name} {relation} the {other.name}" for relation in _relations(thing, other, step)
                ]
    return words


def _size_words(thing: Placed, twins: Sequence[Placed]) -> list[str]:
    if all(thing.side > CLEAR_RATIO * twin.side for twin in twins):
        return ["big", "large", "larger"]
    if all(CLEAR_RATIO * thing.side < twin.side for twin in twins):
        return ["small", "little", "smaller"]
    return []


def _side_words(thing: Placed, twins: Sequence[Placed], step: tuple[float, float]) -> list[str]:
    relations = [set(_relations(thing, twin, step)) for twin in twins]
    shared = set.intersection(*relations)
    names = {
        "to the left of": "on the left",
        "to the right of": "on the right",
        "above": "at the top",
        "below": "at the bottom",
    }
    return [where for relation, where in names.items() if relation in shared]


def _relations(thing: Placed, other: Placed, step: tuple[float, float]) -> list[str]:
    """Which spatial words are plainly true of a thing and another."""
    dx, dy = thing.centre[0] - other.centre[0], thing.centre[1] - other.centre[1]
    relations = []
    if abs(dx) > max(step[0], abs(dy)):
        relations.append("to the left of" if dx < 0 else "to the right of")
    if abs(dy) > max(step[1], abs(dx)):
        relations.append("above" if dy < 0 else "below")
    return relations


def plural(name: str) -> str:
    """The regular plural of a name's last word."""
    if name.endswith(("s", "x", "ch", "sh")):
        return name + "es"
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return name[:-1] + "ies"
    return name + "s"
