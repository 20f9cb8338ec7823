"""Scenes of drawn shapes with all their truth: boxes, masks, names, colours, sentences, captions, questions.

They need no file. Each head of the network can be trained and measured on them within minutes on a CPU. All chance
comes from one seed; training takes its seeds from `TRAIN_SEEDS`, measuring from `DEV_SEEDS`.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from glip.data.compose import HALF_OPAQUE, MIN_VISIBLE, visible_masks
from glip.data.describe import Placed, Sentence, describe_things
from glip.data.questions import Question, SceneCaption, ask_questions, caption_things
from glip.errors import ShapeError
from glip.structures.masks import mask_boxes

TRAIN_SEEDS, DEV_SEEDS = range(500_000_000), range(900_000_000, 900_100_000)
PAINTS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "red": (215, 35, 35),
        "orange": (240, 135, 20),
        "yellow": (240, 215, 40),
        "green": (35, 150, 60),
        "blue": (40, 80, 215),
        "purple": (135, 50, 170),
        "black": (20, 20, 20),
        "white": (245, 245, 245),
    }
)
PAINT_SPREAD = 14  # of 255, of each channel of a thing's colour
GROUND, GROUND_SPREAD = (95, 185), 18  # grey of the background, and how far its channels are from it
NOISE = (4.0, 16.0)  # of 255, standard deviation
MIN_SIDE = 64  # pixels of a scene
MOST_THINGS = 5
LENGTH = (0.16, 0.44)  # of the scene's side
TRIES = 20  # for a place that hides nothing too much
FINENESS = 4  # shapes are drawn so many times larger, for smooth edges
TILT = 18.0  # degrees, either way

Point = tuple[float, float]


@dataclass(frozen=True, eq=False)
class DrawnScene:
    """A drawn picture and all that is true of it.

    Attributes:
        image: RGB, square.
        things: N of them, from the back to the front; boxes are round the whole thing.
        masks: `(N, H, W)` bool, the pixels where each thing is seen.
        sentences: captions whose phrases have boxes, for grounding.
        caption: one sentence, and all that say the same.
        questions: at most one of each kind.
    """

    image: Image.Image
    things: tuple[Placed, ...]
    masks: Tensor
    sentences: tuple[Sentence, ...]
    caption: SceneCaption
    questions: tuple[Question, ...]


def draw_scene(seed: int, *, side: int = 192) -> DrawnScene:
    """Draw one to five shapes on a plain, graded or noisy ground, and say what is there.

    Args:
        seed: of all chance.
        side: of the square picture, in pixels.

    Raises:
        ShapeError: the side is less than 64 pixels.
    """
    if side < MIN_SIDE:
        raise ShapeError(f"a scene needs a side of at least {MIN_SIDE} pixels, got {side}")
    draw = random.Random(seed)
    canvas = _ground(side, draw)
    kinds = draw.sample(list(SHAPES), draw.randint(2, len(SHAPES)))  # few kinds make several things of one
    names: list[tuple[str, str]] = []
    layers: list[Tensor] = []
    for _ in range(draw.randint(1, MOST_THINGS)):
        name, colour = draw.choice(kinds), draw.choice(list(PAINTS))
        alpha = _place(name, side, layers, draw)
        if alpha is not None:
            canvas.paste(_shade(PAINTS[colour], PAINT_SPREAD, draw), (0, 0), alpha)
            names.append((name, colour))
            layers.append(_bits(alpha))
    boxes = mask_boxes(torch.stack(layers)).tolist()
    things = tuple(Placed(name, tuple(box), colour) for (name, colour), box in zip(names, boxes, strict=True))
    return _told(canvas, things, visible_masks(layers, canvas.size), draw)


def _told(canvas: Image.Image, things: tuple[Placed, ...], masks: Tensor, draw: random.Random) -> DrawnScene:
    """The scene with what may be said and asked of it."""
    absent = [name for name in SHAPES if name not in {thing.name for thing in things}]
    sentences = describe_things(things, canvas.size, draw)
    caption = caption_things(things, canvas.size, draw)
    questions = ask_questions(things, canvas.size, draw, absent=absent, colours=list(PAINTS))
    return DrawnScene(canvas, things, masks, tuple(sentences), caption, tuple(questions))


def _ground(side: int, draw: random.Random) -> Image.Image:
    """A greyish background: plain, from one shade to another, or with noise."""
    shades = [_shade((draw.randint(*GROUND),) * 3, GROUND_SPREAD, draw) for _ in range(2)]
    start, end = np.array(shades, dtype=np.float64)
    pixels = np.broadcast_to(start, (side, side, 3))
    kind = draw.choice(("plain", "graded", "noisy"))
    if kind == "graded":
        ramp = np.linspace(0, 1, side)[:, None, None]
        pixels = pixels + (end - start) * (ramp if draw.random() < 0.5 else ramp.transpose(1, 0, 2))
    elif kind == "noisy":
        chance = np.random.default_rng(draw.getrandbits(63))
        pixels = pixels + chance.normal(scale=draw.uniform(*NOISE), size=pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _shade(colour: Sequence[int], spread: int, draw: random.Random) -> tuple[int, int, int]:
    red, green, blue = (min(max(channel + draw.randint(-spread, spread), 0), 255) for channel in colour)
    return red, green, blue


def _place(name: str, side: int, layers: Sequence[Tensor], draw: random.Random) -> Image.Image | None:
    """A shape somewhere in the scene, as its alpha channel `(side, side)`; None if it would hide too much."""
    for _ in range(TRIES):
        shape = _rendered(name, draw.uniform(*LENGTH) * side, draw)
        corner = (draw.randint(0, side - shape.width), draw.randint(0, side - shape.height))
        alpha = Image.new("L", (side, side))
        alpha.paste(shape, corner)
        seen = visible_masks([*layers, _bits(alpha)], alpha.size).sum(dim=(1, 2))
        if all(int(left) >= MIN_VISIBLE * int(layer.sum()) for left, layer in zip(seen, layers, strict=False)):
            return alpha
    return None


def _rendered(name: str, length: float, draw: random.Random) -> Image.Image:
    """A shape as an alpha channel without margin, its edges smooth."""
    angle = math.radians(draw.uniform(-TILT, TILT) + (90.0 if name == "bar" and draw.random() < 0.5 else 0.0))
    tile = math.ceil(1.5 * length)  # a tilted square is wider than its side
    large = Image.new("L", (tile * FINENESS,) * 2)
    pen = ImageDraw.Draw(large)
    for fill, points in zip((255, 0), SHAPES[name](), strict=False):  # the second outline is a hole
        pen.polygon(
            [_on_tile(_turned(point, angle), tile * FINENESS, length * FINENESS) for point in points], fill=fill
        )
    small = large.resize((tile, tile), Image.Resampling.BOX)
    return small.crop(small.point(lambda value: 255 if value >= HALF_OPAQUE else 0).getbbox())


def _turned(point: Point, angle: float) -> Point:
    x, y = point
    return x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)


def _on_tile(point: Point, side: float, length: float) -> Point:
    """From -1 to 1 to the pixels of a square tile, the shape in its middle."""
    return (side + length * point[0]) / 2, (side + length * point[1]) / 2


def _bits(alpha: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(alpha) >= HALF_OPAQUE)


def _circle(radius: float = 1.0) -> list[Point]:
    return [(radius * math.cos(turn), radius * math.sin(turn)) for turn in _turns(48)]


def _star() -> list[Point]:
    radii = [1.0, 0.42] * 5
    return [(r * math.sin(turn), -r * math.cos(turn)) for r, turn in zip(radii, _turns(10), strict=True)]


def _cross() -> list[Point]:
    arm = 0.36
    quarter = [(arm, -1.0), (arm, -arm), (1.0, -arm)]
    corners = [quarter]
    for _ in range(3):
        corners.append([(-y, x) for x, y in corners[-1]])
    return [point for part in corners for point in part]


def _heart() -> list[Point]:
    """The heart curve x = 16 sin^3, y = 13 cos - 5 cos 2t - 2 cos 3t - cos 4t, in the unit square."""
    return [
        (
            math.sin(turn) ** 3,
            -(13 * math.cos(turn) - 5 * math.cos(2 * turn) - 2 * math.cos(3 * turn) - math.cos(4 * turn)) / 16,
        )
        for turn in _turns(48)
    ]


def _rectangle(height: float) -> list[Point]:
    return [(-1.0, -height), (1.0, -height), (1.0, height), (-1.0, height)]


def _turns(count: int) -> list[float]:
    return [2 * math.pi * step / count for step in range(count)]


SHAPES: Mapping[str, Callable[[], list[list[Point]]]] = MappingProxyType(  # outlines from -1 to 1, y down
    {
        "circle": lambda: [_circle()],
        "square": lambda: [_rectangle(1.0)],
        "triangle": lambda: [[(0.0, -1.0), (1.0, 0.8), (-1.0, 0.8)]],
        "star": lambda: [_star()],
        "ring": lambda: [_circle(), _circle(0.55)],
        "cross": lambda: [_cross()],
        "heart": lambda: [_heart()],
        "bar": lambda: [_rectangle(0.28)],
    }
)
