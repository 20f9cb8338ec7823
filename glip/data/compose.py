"""Scenes put together from named cut-outs on real backgrounds, with exact boxes and masks.

All chance comes from one seed: the same seed gives the same scene.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from glip.data.describe import COLOURS, Box, Placed
from glip.errors import FileError

CUTOUT_KINDS = ("stamps", "emoji")
DYED_SHARE = 0.4
DYES = {  # dark, light and middle shade
    "red": ("#400000", "#ffb0b0", "#d01818"),
    "blue": ("#000840", "#b0c8ff", "#1840d0"),
    "green": ("#002808", "#b8f0b8", "#189028"),
    "yellow": ("#504000", "#fff8c0", "#f0d010"),
    "orange": ("#481800", "#ffdcb0", "#f08010"),
    "purple": ("#200038", "#e0c0ff", "#8020b0"),
    "pink": ("#501030", "#ffe0f0", "#f070b0"),
    "brown": ("#180800", "#d8b890", "#704018"),
    "black": ("#000000", "#585858", "#181818"),
    "white": ("#a0a0a0", "#ffffff", "#f0f0f0"),
    "grey": ("#303030", "#c8c8c8", "#888888"),
}
MIN_SIDE = 64  # pixels of a cut-out's longer side
MIN_VISIBLE = 0.7  # share of a cut-out's box that later ones may leave
HALF_OPAQUE = 128  # of 255: from here on a pixel is the thing's


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
class Background:
    """A picture that may stand behind, and its name."""

    file: Path
    name: str


@dataclass(frozen=True, eq=False)
class Scene:
    """A composed picture and what is in it.

    Attributes:
        image: the picture.
        things: N of them, from the back to the front.
        masks: `(N, H, W)` bool, the pixels where each thing is seen; what a later one hides is the later one's.
    """

    image: Image.Image
    things: tuple[Placed, ...]
    masks: Tensor


def read_cutouts(folder: Path) -> list[CutOut]:
    """What tools/unpack_cutouts.py wrote, without what is too small to be scaled up.

    Raises:
        FileError: the folder has no such index.
    """
    return [
        CutOut(folder / kind / record["file"], record["name"], tuple(record["bbox"]))
        for kind in CUTOUT_KINDS
        for record in _index(folder / kind)
        if max(record["bbox"][2] - record["bbox"][0], record["bbox"][3] - record["bbox"][1]) >= MIN_SIDE
    ]


def read_backgrounds(folder: Path) -> list[Background]:
    """The backgrounds that tools/unpack_cutouts.py wrote.

    Raises:
        FileError: the folder has no such index.
    """
    folder /= "backgrounds"
    return [Background(folder / record["file"], record["name"]) for record in _index(folder)]


def _index(folder: Path) -> list[dict[str, Any]]:
    file = folder / "index.json"
    if not file.is_file():
        raise FileError(f"{file}: no such file; give the folder that tools/unpack_cutouts.py wrote")
    records: list[dict[str, Any]] = json.loads(file.read_text())
    return records


def compose_scene(cutouts: Sequence[CutOut], backgrounds: Sequence[Path], seed: int, *, side: int = 416) -> Scene:
    """Draw a scene.

    Args:
        cutouts: what may be placed.
        backgrounds: pictures that may stand behind.
        seed: of all chance.
        side: longest side of the scene, in pixels.
    """
    draw = random.Random(seed)
    canvas = draw_background(backgrounds, side, draw)
    placed: list[Placed] = []
    alphas: list[Tensor] = []
    chosen = [draw.choice(list(cutouts)) for _ in range(draw.randint(1, 5))]
    if draw.random() < 0.5:  # the same name twice: the words beside the name must tell them apart
        chosen.append(chosen[0])
    for cutout in chosen:
        box = _free_place(cutout, canvas.size, placed, draw)
        if box is not None:
            colour = _colour_for(cutout, draw)
            alphas.append(_on_canvas(paste(canvas, cutout, box, colour, draw), box, canvas.size))
            placed.append(Placed(cutout.name, box, colour))
    return Scene(canvas, tuple(placed), visible_masks(alphas, canvas.size))


def visible_masks(layers: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Where each of some things, given from the back to the front, is seen.

    Args:
        layers: `(H, W)` bool each, the whole thing.
        size: `(width, height)` of the picture.

    Returns:
        `(N, H, W)` bool; a pixel belongs to the last thing that covers it.
    """
    covered = torch.zeros(size[1], size[0], dtype=torch.bool)
    seen = []
    for layer in reversed(layers):
        seen.append(layer & ~covered)
        covered = covered | layer
    return torch.stack(seen[::-1]) if seen else covered.new_zeros(0, *covered.shape)


def _on_canvas(alpha: Image.Image, box: Box, size: tuple[int, int]) -> Tensor:
    """The pixels of a picture that a pasted thing covers: `(H, W)` bool."""
    layer = Image.new("L", size)
    layer.paste(alpha, (int(box[0]), int(box[1])))
    return torch.from_numpy(np.asarray(layer) >= HALF_OPAQUE)


def draw_background(backgrounds: Sequence[Path], side: int, draw: random.Random) -> Image.Image:
    """A random window of one of the pictures, RGB, its longest side `side` pixels."""
    with Image.open(draw.choice(list(backgrounds))) as opened:
        image = opened.convert("RGB")
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


def _colour_for(cutout: CutOut, draw: random.Random) -> str:
    """A colour to dye the thing in; mostly none, and never where its name has one."""
    if draw.random() > DYED_SHARE or any(word in COLOURS for word in cutout.name.split()):
        return ""
    return draw.choice(list(DYES))


def dye(picture: Image.Image, colour: str) -> Image.Image:
    """The picture in shades of one colour."""
    return ImageOps.colorize(ImageOps.autocontrast(picture.convert("L")), *DYES[colour])


def paste(canvas: Image.Image, cutout: CutOut, box: Box, colour_word: str, draw: random.Random) -> Image.Image:
    """Put the cut-out into its box, dyed, with changed light and a little blur.

    Returns:
        Its alpha channel, as large as the box.
    """
    size = (int(box[2] - box[0]), int(box[3] - box[1]))
    with Image.open(cutout.file) as opened:
        picture = opened.convert("RGBA").crop(cutout.box).resize(size, Image.Resampling.BILINEAR)
    alpha = picture.getchannel("A").filter(ImageFilter.GaussianBlur(draw.uniform(0, 0.8)))
    colour = dye(picture, colour_word) if colour_word else picture.convert("RGB")
    colour = ImageEnhance.Brightness(colour).enhance(draw.uniform(0.7, 1.2))
    colour = ImageEnhance.Contrast(colour).enhance(draw.uniform(0.8, 1.1))
    if draw.random() < 0.3:
        colour = colour.filter(ImageFilter.GaussianBlur(draw.uniform(0.3, 1.2)))
    canvas.paste(colour, (int(box[0]), int(box[1])), alpha)
    return alpha
