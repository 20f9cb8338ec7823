"""Pairs of phrases that differ in one word, about two boxes of one composed picture.

A model that only sees which things are there answers half of them: each pair asks for one box once and for the other
box once. All chance comes from one seed.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from glip.data.compose import DYES, CutOut, draw_background, paste
from glip.data.describe import COLOURS, Box

SIDE = 384  # pixels of a picture's longer side
MIN_SHARE, MAX_SHARE = 0.22, 0.36  # of a thing's longer side, of the picture's shorter side
SIZE_RATIO = 2.2  # between big and small


@dataclass(frozen=True, eq=False)
class Pair:
    """Two phrases that differ in one word.

    Attributes:
        image: the picture.
        kind: "colour", "size", "position", "relation", "noun", or "none".
        phrases: what is asked.
        boxes: xyxy pixels; the first belongs to the first phrase. For "none" the second phrase is true of neither.
    """

    image: Image.Image
    kind: str
    phrases: tuple[str, str]
    boxes: tuple[Box, Box]


@dataclass(frozen=True)
class _Thing:
    cutout: CutOut
    colour: str = ""
    scale: float = 1.0


def compose_pair(kind: str, cutouts: Sequence[CutOut], backgrounds: Sequence[Path], seed: int) -> Pair:
    """Draw the picture and write the phrases.

    Args:
        kind: which word differs, a key of `KINDS`.
        cutouts: what may be placed; those whose names have a colour are left out.
        backgrounds: pictures that may stand behind.
        seed: of all chance.
    """
    draw = random.Random(seed)
    plain = [cutout for cutout in cutouts if not any(word in COLOURS for word in cutout.name.split())]
    canvas = draw_background(backgrounds, SIDE, draw)
    phrases, boxes = KINDS[kind](canvas, plain, draw)
    return Pair(canvas, kind, phrases, boxes)


Drawn = tuple[tuple[str, str], tuple[Box, Box]]


def _colour(canvas: Image.Image, cutouts: Sequence[CutOut], draw: random.Random) -> Drawn:
    thing, (one, other) = draw.choice(cutouts), draw.sample(list(DYES), 2)
    boxes = _place_two(canvas, (_Thing(thing, one), _Thing(thing, other)), draw)
    return (f"the {one} {thing.name}", f"the {other} {thing.name}"), boxes


def _size(canvas: Image.Image, cutouts: Sequence[CutOut], draw: random.Random) -> Drawn:
    thing = draw.choice(cutouts)
    boxes = _place_two(canvas, (_Thing(thing, scale=SIZE_RATIO**0.5), _Thing(thing, scale=SIZE_RATIO**-0.5)), draw)
    return (f"the big {thing.name}", f"the small {thing.name}"), boxes


def _position(canvas: Image.Image, cutouts: Sequence[CutOut], draw: random.Random) -> Drawn:
    thing = draw.choice(cutouts)
    first, second = _place_two(canvas, (_Thing(thing), _Thing(thing)), draw)
    words = ("on the left", "on the right") if _is_row(canvas) else ("at the top", "at the bottom")
    first, second = sorted((first, second), key=lambda box: box[0 if _is_row(canvas) else 1])
    return (f"the {thing.name} {words[0]}", f"the {thing.name} {words[1]}"), (first, second)


def _relation(canvas: Image.Image, cutouts: Sequence[CutOut], draw: random.Random) -> Drawn:
    thing, anchor = draw.sample(list(cutouts), 2)
    first, _, second = _place_row(canvas, (_Thing(thing), _Thing(anchor), _Thing(thing)), draw)
    words = ("to the left of", "to the right of") if _is_row(canvas) else ("above", "below")
    return (f"the {thing.name} {words[0]} the {anchor.name}", f"the {thing.name} {words[1]} the {anchor.name}"), (
        first,
        second,
    )


def _noun(canvas: Image.Image, cutouts: Sequence[CutOut], draw: random.Random) -> Drawn:
    (one, other), colour = draw.sample(list(cutouts), 2), draw.choice(list(DYES))
    boxes = _place_two(canvas, (_Thing(one, colour), _Thing(other, colour)), draw)
    return (f"the {colour} {one.name}", f"the {colour} {other.name}"), boxes


def _none(canvas: Image.Image, cutouts: Sequence[CutOut], draw: random.Random) -> Drawn:
    (one, other), (colour, wrong) = draw.sample(list(cutouts), 2), draw.sample(list(DYES), 2)
    boxes = _place_two(canvas, (_Thing(one, colour), _Thing(other, colour)), draw)
    return (f"the {colour} {one.name}", f"the {wrong} {one.name}"), boxes


KINDS: dict[str, Callable[[Image.Image, Sequence[CutOut], random.Random], Drawn]] = {
    "colour": _colour,
    "size": _size,
    "position": _position,
    "relation": _relation,
    "noun": _noun,
    "none": _none,
}


def _place_two(canvas: Image.Image, things: Sequence[_Thing], draw: random.Random) -> tuple[Box, Box]:
    """Both things side by side or one above the other, in random order."""
    order = [0, 1]
    draw.shuffle(order)
    placed = _place_row(canvas, [things[index] for index in order], draw)
    return placed[order.index(0)], placed[order.index(1)]


def _place_row(canvas: Image.Image, things: Sequence[_Thing], draw: random.Random) -> list[Box]:
    """The things in a row from left to right, or from top to bottom where the picture is higher than wide."""
    is_row = _is_row(canvas)
    cell = (canvas.width if is_row else canvas.height) / len(things)
    boxes = []
    for index, thing in enumerate(things):
        left, top, right, bottom = thing.cutout.box
        longest = min(canvas.size) * draw.uniform(MIN_SHARE, MAX_SHARE) * thing.scale
        scale = min(longest, 0.95 * cell) / max(right - left, bottom - top)
        width, height = max((right - left) * scale, 8), max((bottom - top) * scale, 8)
        along, across = (width, height) if is_row else (height, width)
        start = index * cell + draw.uniform(0, cell - along)
        beside = draw.uniform(0, (canvas.height if is_row else canvas.width) - across)
        x, y = (start, beside) if is_row else (beside, start)
        box = (float(round(x)), float(round(y)), float(round(x + width)), float(round(y + height)))
        paste(canvas, thing.cutout, box, thing.colour, draw)
        boxes.append(box)
    return boxes


def _is_row(canvas: Image.Image) -> bool:
    """Whether things stand side by side: in pictures that are wider than high."""
    return canvas.width >= canvas.height
