"""Training pictures: flips, crops, colours and sizes, with their boxes, by albumentations.

Words that speak of sides follow a flip (`glip.data.captions.swap_sides`); a picture whose crop would cut a named
object away keeps its frame, and so does one with a description or a question; their colours stay, too.
"""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from glip.data.captions import check_shares, swap_sides
from glip.data.examples import Example
from glip.errors import ConfigError

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import asks the network for a newer version

Pixels = npt.NDArray[np.uint8]
MIN_VISIBLE = 0.6  # share of a named box's area that a crop must keep


@dataclass(frozen=True)
class AugmentationRule:
    """What may happen to a training picture.

    Attributes:
        short_sides: sizes of the shorter side, in pixels; one is drawn for each batch.
        max_side: most pixels of the longer side.
        flip: probability of a mirror image.
        crop: probability of a random crop.
        colour: probability of changed colours.
    """

    short_sides: tuple[int, ...] = (256, 288, 320, 352, 384)
    max_side: int = 512
    flip: float = 0.5
    crop: float = 0.5
    colour: float = 0.5

    def __post_init__(self) -> None:
        """Refuse impossible rules."""
        if not self.short_sides or min(self.short_sides) < 1:
            raise ConfigError(f"augmentation.short_sides must be one or more sizes in pixels, got {self.short_sides}")
        check_shares("augmentation", flip=self.flip, crop=self.crop, colour=self.colour)


def augment(image: Pixels, example: Example, rule: AugmentationRule, draw: random.Random) -> tuple[Pixels, Example]:
    """A changed copy of a picture and of what is known of it; sizes are left to `resize`.

    Args:
        image: `(H, W, 3)` RGB.
        example: its boxes in pixels of that image.
        rule: what may happen.
        draw: the source of chance.
    """
    if draw.random() < rule.flip:
        image, example = np.ascontiguousarray(image[:, ::-1]), mirror(example, image.shape[1])
    if draw.random() < rule.crop and not example.is_told:
        image, example = _crop(image, example, draw)
    if draw.random() < rule.colour and not example.is_told:
        image = _recolour(image, draw)
    return image, example


def mirror(example: Example, width: int) -> Example:
    """The example of the mirror image: boxes and masks on the other side, "left" and "right" exchanged.

    Args:
        example: its boxes in pixels.
        width: of the image, in the same pixels.
    """
    flipped = swap_sides(example)
    objects = tuple(
        replace(
            thing,
            box=(width - thing.box[2], thing.box[1], width - thing.box[0], thing.box[3]),
            mask=None if thing.mask is None else thing.mask.mirrored(),
        )
        for thing in flipped.objects
    )
    return replace(flipped, objects=objects)


def _crop(image: Pixels, example: Example, draw: random.Random) -> tuple[Pixels, Example]:
    """A window of at least half of each side that keeps every named object; no crop where none is found."""
    height, width = image.shape[:2]
    for _ in range(10):
        crop_h, crop_w = (round(side * draw.uniform(0.5, 1.0)) for side in (height, width))
        y, x = draw.randint(0, height - crop_h), draw.randint(0, width - crop_w)
        window = (x, y, x + crop_w, y + crop_h)
        moved = [_cut(thing.box, window) for thing in example.objects]
        shares = [_area(cut) / max(_area(thing.box), 1e-6) for cut, thing in zip(moved, example.objects, strict=True)]
        if all(share >= MIN_VISIBLE for share in shares):
            objects = tuple(
                replace(thing, box=cut, mask=None if thing.mask is None else thing.mask.cut(window))
                for thing, cut in zip(example.objects, moved, strict=True)
            )
            return image[y : y + crop_h, x : x + crop_w], replace(example, objects=objects, size=(crop_h, crop_w))
    return image, example


def _recolour(image: Pixels, draw: random.Random) -> Pixels:
    import albumentations

    jitter = albumentations.Compose(
        [
            albumentations.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.03, p=1.0),
            albumentations.ToGray(p=0.05),
            albumentations.GaussianBlur(blur_limit=(3, 5), p=0.1),
        ],
        seed=draw.getrandbits(32),
    )
    result: Pixels = jitter(image=image)["image"]
    return result


def _cut(box: Sequence[float], window: Sequence[int]) -> tuple[float, float, float, float]:
    """A box inside a window, in the window's pixels."""
    x1, y1, x2, y2 = window
    return (
        min(max(box[0], x1), x2) - x1,
        min(max(box[1], y1), y2) - y1,
        min(max(box[2], x1), x2) - x1,
        min(max(box[3], y1), y2) - y1,
    )


def _area(box: Sequence[float]) -> float:
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)
