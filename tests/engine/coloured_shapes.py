"""Drawn pictures of coloured shapes, each in a folder named after it; some combinations are kept from training."""

import random
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (40, 80, 220),
    "yellow": (240, 220, 50),
    "purple": (140, 50, 170),
    "orange": (250, 140, 30),
    "black": (30, 30, 30),
    "white": (235, 235, 235),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring", "bar", "diamond", "frame")
HELD_OUT = {(colour, shape) for colour, shape in zip(COLOURS, SHAPES, strict=True)}
SIDE = 64


def draw_shape(colour: tuple[int, int, int], shape: str, draw: random.Random) -> Image.Image:
    """One shape somewhere on a grey ground, in a colour that varies a little."""
    grey = draw.randint(90, 200)
    picture = Image.new("RGB", (SIDE, SIDE), (grey, grey, grey))
    pencil = ImageDraw.Draw(picture)
    size = draw.uniform(26, 44)
    x, y = draw.uniform(2, SIDE - 2 - size), draw.uniform(2, SIDE - 2 - size)
    fill = tuple(min(255, max(0, part + draw.randint(-20, 20))) for part in colour)
    box = (x, y, x + size, y + size)
    third = size / 3
    if shape == "circle":
        pencil.ellipse(box, fill=fill)
    elif shape == "square":
        pencil.rectangle(box, fill=fill)
    elif shape == "triangle":
        pencil.polygon([(x + size / 2, y), (x, y + size), (x + size, y + size)], fill=fill)
    elif shape == "cross":
        pencil.rectangle((x + third, y, x + 2 * third, y + size), fill=fill)
        pencil.rectangle((x, y + third, x + size, y + 2 * third), fill=fill)
    elif shape == "diamond":
        pencil.polygon(
            [(x + size / 2, y), (x + size, y + size / 2), (x + size / 2, y + size), (x, y + size / 2)], fill=fill
        )
    elif shape == "frame":
        pencil.rectangle(box, outline=fill, width=round(size / 5))
    elif shape == "ring":
        pencil.ellipse(box, outline=fill, width=round(size / 5))
    else:
        pencil.rectangle((x, y + third, x + size, y + 2 * third), fill=fill)
    return picture


def draw_folders(root: Path, combinations: set[tuple[str, str]], *, count: int, seed: int) -> Path:
    """`ROOT/red circle/0.png` and so on, `count` of each combination."""
    draw = random.Random(seed)
    for colour, shape in sorted(combinations):
        folder = root / f"{colour} {shape}"
        folder.mkdir(parents=True)
        for number in range(count):
            draw_shape(COLOURS[colour], shape, draw).save(folder / f"{number}.png")
    return root


def all_combinations() -> set[tuple[str, str]]:
    """Every colour with every shape."""
    return {(colour, shape) for colour in COLOURS for shape in SHAPES}
