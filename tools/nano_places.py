"""Positions of photos, and what NanoDet-g and plain rules say of them: what the words of glip-nano learn from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from glip.data.describe import COLOURS
from glip.detection.anchors import make_anchors
from glip.detection.box_coder import decode_boxes
from glip.images import read_image
from glip.models.cues import PALETTE, STRENGTH
from glip.models.glip import GlipModel, flatten_levels
from glip.processing import GlipProcessor
from glip.structures.boxes import clip_boxes, pairwise_iou
from tools.nano_parts import BeyondCoco, gather, part_chances
from tools.nano_phrases import Drawn

NUM_CLASSES, NECK = 80, 128
PLACES = 60_000  # positions that words are fitted on
LEAST_FIT, CLEAR_SHARE = 0.15, 0.35  # of a position that a cue does not fit; of a colour, to be the thing's
LIKELY = 0.4  # of a thing whose place does not fit what a relation to another thing makes likely
PARTS = 0.6  # weight of parts of things among the positions that are drawn
SUBJECTS, CERTAIN, LEAST_AREA = 0.5, 0.8, 0.04  # of labelled photos: their weight, a thing's probability and area
BACKGROUND = 0.15  # share of positions that are drawn whatever NanoDet-g sees there
SHARPNESS = 0.03  # of the choice between swatches: a squared distance in RGB from 0 to 1
SWATCHES = (
    ("red", (200, 30, 35)),
    ("red", (120, 20, 25)),
    ("red", (225, 75, 70)),
    ("blue", (30, 60, 160)),
    ("blue", (20, 30, 80)),
    ("blue", (90, 150, 215)),
    ("blue", (165, 200, 230)),
    ("green", (30, 110, 45)),
    ("green", (110, 160, 60)),
    ("green", (70, 90, 50)),
    ("yellow", (240, 210, 50)),
    ("yellow", (200, 170, 70)),
    ("orange", (235, 125, 30)),
    ("purple", (110, 50, 140)),
    ("purple", (70, 40, 90)),
    ("pink", (235, 130, 180)),
    ("pink", (240, 195, 205)),
    ("brown", (110, 70, 40)),
    ("brown", (165, 120, 80)),
    ("brown", (60, 40, 28)),
    ("black", (18, 18, 20)),
    ("grey", (85, 85, 88)),
    ("grey", (150, 150, 152)),
    ("white", (238, 238, 236)),
)


@dataclass(frozen=True)
class Places:
    """Positions of photos, and what NanoDet-g and the cues say there.

    Attributes:
        features: `(N, C + 1)` of the pyramid, and a one.
        probabilities: `(N, 80)` of classes.
        factors: how well each cue of a phrase fits, `(N,)` in `[0, 1]`.
        evidence: how surely a thing is there that no class names, but a photo's label or a rule does, `(N,)` in
            `[0, 1]`; by name.
    """

    features: Tensor
    probabilities: Tensor
    factors: Mapping[str, Tensor]
    evidence: Mapping[str, Tensor] = field(default_factory=dict)

    def truth(self, drawn: Tensor | slice, phrases: Sequence[Drawn]) -> Tensor:
        """Probability that each of P phrases is at each drawn position: `(P, n)`."""
        return self.nouns(drawn, phrases) * self.fits(drawn, phrases)

    def nouns(self, drawn: Tensor | slice, phrases: Sequence[Drawn]) -> Tensor:
        """Probability of each of P phrases without its cues, `(P, n)`."""
        shares = torch.stack([phrase.shares for phrase in phrases])
        found = (shares @ self.probabilities[drawn].T).clamp(max=1)
        for index, phrase in enumerate(phrases):
            if phrase.noun in self.evidence:
                found[index] = torch.maximum(found[index], self.evidence[phrase.noun][drawn])
        return found

    def fits(self, drawn: Tensor | slice, phrases: Sequence[Drawn]) -> Tensor:
        """How well the cues of each of P phrases fit each drawn position, `(P, n)`; 1 without cues."""
        fits = torch.ones(len(phrases), len(self.probabilities[drawn]))
        for index, phrase in enumerate(phrases):
            for cue in phrase.cues:
                fits[index] *= self.factors[cue][drawn]
        return fits


@dataclass(frozen=True)
class View:
    """A picture as the network sees it before any word.

    Attributes:
        levels: the pyramid, `(1, C, H, W)` each.
        size: (height, width) without padding.
        deltas: `(N, 4)`, the box head's.
        boxes: `(N, 4)` xyxy pixels, what NanoDet-g would draw at each position.
    """

    levels: Sequence[Tensor]
    size: tuple[int, int]
    deltas: Tensor
    boxes: Tensor

    @property
    def features(self) -> Tensor:
        """`(N, C)`."""
        return flatten_levels(self.levels)[0]

    def half(self) -> "View":
        """The same with a pyramid of half precision."""
        return replace(self, levels=[level.half() for level in self.levels])

    @property
    def shares(self) -> Tensor:
        """The boxes as shares of the picture."""
        height, width = self.size
        return self.boxes / torch.tensor([width, height, width, height])

    @property
    def colours(self) -> Tensor:
        """`(N, PALETTE)` shares of the palette around each position."""
        return self.features[:, NECK : NECK + PALETTE] / STRENGTH


@torch.no_grad()
def view_photo(model: GlipModel, processor: GlipProcessor, photo: str, *, mirrored: bool = False) -> View:
    """See a photo.

    Args:
        model: whose pyramid and head are NanoDet-g's.
        processor: its processor.
        photo: its file.
        mirrored: whether left and right change places.
    """
    image = read_image(photo)
    inputs = processor.image_processor(ImageOps.mirror(image) if mirrored else image)
    levels = model.encode_image(inputs["pixel_values"], inputs["image_sizes"])
    shapes = [(level.shape[2], level.shape[3]) for level in levels]
    no_words = torch.zeros(1, 1, model.text_encoder.dim)
    _, deltas, _ = model.head(flatten_levels(levels), no_words, [h * w for h, w in shapes])
    height, width = inputs["image_sizes"][0].tolist()
    found = decode_boxes(deltas[0], make_anchors(shapes, model.config.strides))
    return View(levels, (height, width), deltas[0], clip_boxes(found, (height, width)))


@torch.no_grad()
def draw_places(
    model: GlipModel,
    processor: GlipProcessor,
    classifier: tuple[Tensor, Tensor],
    photos: Sequence[str],
    labels: Mapping[str, str],
    beyond: BeyondCoco | None = None,
) -> Places:
    """Positions of photos, as many for each class that NanoDet-g sees, for each part of its things, and labelled thing.

    Args:
        model: whose pyramid and head are NanoDet-g's.
        processor: its processor.
        classifier: weight `(124, 128)` and bias `(124,)` of NanoDet-g's outputs.
        photos: their files.
        labels: what the one thing in some of them is, by file.
        beyond: which parts things have; none if None.
    """
    assert model.cues is not None
    weight, bias = (part[:NUM_CLASSES] for part in classifier)
    features, boxes, colours, subjects = [], [], [], []
    parts: list[dict[str, Tensor]] = []
    for photo in photos:
        view = view_photo(model, processor, photo)
        logits = view.features[:, :NECK] @ weight.T + bias
        sure = logits.amax(dim=1)
        boxes.append(view.shares)
        features.append(view.features)
        colours.append(view.colours)
        parts.append(beyond.evidence(view.boxes, logits.sigmoid(), min(view.size)) if beyond else {})
        subjects.append(subject_share(view.shares, sure) if photo in labels else torch.zeros(len(sure)))
    every = torch.cat(features)
    squares = (every[:, :NECK] @ weight.T + bias).sigmoid() ** 2
    named = torch.cat(subjects)
    chances = (squares / squares.sum(dim=0)).sum(dim=1) / NUM_CLASSES + BACKGROUND / len(every)
    if labels:
        chances += SUBJECTS * named / named.sum()
    lengths = [len(one) for one in subjects]
    if beyond is not None:
        chances += PARTS * part_chances(parts, lengths)
    drawn = torch.multinomial(chances, min(PLACES, len(every)), generator=torch.Generator().manual_seed(0))
    kept = every[drawn]
    return Places(
        torch.cat([kept, torch.ones(len(kept), 1)], dim=1),
        (kept[:, :NECK] @ weight.T + bias).sigmoid(),
        cue_factors(torch.cat(boxes)[drawn], torch.cat(colours)[drawn]),
        {**_evidence(photos, lengths, labels, named, drawn), **gather(parts, lengths, drawn)},
    )


def _evidence(
    photos: Sequence[str], lengths: Sequence[int], labels: Mapping[str, str], named: Tensor, drawn: Tensor
) -> dict[str, Tensor]:
    """Each label's evidence at the drawn positions."""
    names = sorted(set(labels.values()))
    number = {name: index for index, name in enumerate(names)}
    of_photo = torch.tensor([number[labels[photo]] if photo in labels else -1 for photo in photos])
    of_place = of_photo.repeat_interleave(torch.tensor(lengths))[drawn]
    return {name: CERTAIN * named[drawn] * (of_place == index) for name, index in number.items()}


def subject_share(boxes: Tensor, sure: Tensor) -> Tensor:
    """How much each position's box is that of a photo's one thing, in `[0, 1]`.

    Args:
        boxes: `(N, 4)` xyxy shares of the picture.
        sure: `(N,)`, of anything at all; the surest of the boxes that are not small is the thing's.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0)
    large = sides.prod(dim=1) >= LEAST_AREA
    best = torch.where(large, sure, sure.min() - 1).argmax()
    overlap = pairwise_iou(boxes, boxes[best : best + 1])[:, 0]
    return ((overlap - 0.4) / 0.3).clamp(0, 1)


def cue_factors(boxes: Tensor, colours: Tensor) -> dict[str, Tensor]:
    """How well a position's box and colours fit each word that is no name.

    Args:
        boxes: `(N, 4)` xyxy shares of the picture, what NanoDet-g would draw there.
        colours: `(N, PALETTE)` shares of the palette around the position.
    """
    x, y = (boxes[:, :2] + boxes[:, 2:]).unbind(dim=1)
    x, y = x / 2, y / 2
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=0).sqrt()
    fits = {
        "left": (0.45 - x) / 0.08,
        "right": (x - 0.55) / 0.08,
        "top": (0.45 - y) / 0.08,
        "bottom": (y - 0.55) / 0.08,
        "middle": (0.15 - (x - 0.5).abs()) / 0.04,
        "small": (0.25 - side) / 0.06,
        "big": (side - 0.35) / 0.06,
        "front": (side + 0.5 * y - 0.65) / 0.1,
        "back": (0.55 - side - 0.5 * y) / 0.1,
    }
    factors = {name: LEAST_FIT + (1 - LEAST_FIT) * fit.sigmoid() for name, fit in fits.items()}
    ways = {"leftward": 0.5 - x, "rightward": x - 0.5, "upward": 0.5 - y, "downward": y - 0.5}
    factors |= {name: LIKELY + (1 - LIKELY) * (way / 0.15).sigmoid() for name, way in ways.items()}
    for name in COLOURS:
        share = colours[:, [index for index, (called, _) in enumerate(SWATCHES) if called == name]].sum(dim=1)
        factors[name] = LEAST_FIT + (1 - LEAST_FIT) * (share / CLEAR_SHARE).clamp(max=1)
    return factors


@torch.no_grad()
def paint_palette(model: GlipModel, processor: GlipProcessor) -> None:
    """Let the palette be a soft choice of the nearest swatch: a softmax of affine functions is one of distances."""
    assert model.cues is not None
    image_processor = processor.image_processor
    black = np.zeros((32, 32, 3), dtype=np.uint8)
    low, high = (image_processor(Image.fromarray(black + value))["pixel_values"][0, :, 16, 16] for value in (0, 255))
    swatches = torch.tensor([colour for _, colour in SWATCHES]) / 255  # (PALETTE, 3)
    scale = 1 / (high - low)  # of normalised pixels, back to [0, 1]
    convolution = model.cues.palette
    convolution.weight[:] = (2 * swatches * scale / SHARPNESS)[:, :, None, None]
    assert convolution.bias is not None
    convolution.bias[:] = -(swatches.square().sum(dim=1) + 2 * swatches @ (scale * low)) / SHARPNESS
