"""What the words of glip-nano's start should mean, and how its text side learns it: no picture is needed for that."""

import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from glip.data.describe import COLOURS
from glip.detection.anchors import make_anchors
from glip.detection.box_coder import decode_boxes
from glip.images import read_image
from glip.models.cues import PALETTE, STRENGTH
from glip.models.glip import GlipBlock, GlipModel, flatten_levels
from glip.processing import GlipProcessor
from glip.structures.boxes import clip_boxes, pairwise_iou
from glip.text.tokens import tokenize_prompts
from tools.nano_parts import BeyondCoco, gather, part_chances
from tools.nano_phrases import Drawn, Phrases

RIDGE, WORDS_RIDGE = 1e-3, 1e-5
ABSENT_LOGIT = -6.0  # for tokens that name no class
NUM_CLASSES, NECK = 80, 128
PLACES = 60_000  # positions that words are fitted on
LEAST_PROBABILITY = 1e-4
LEAST_FIT, CLEAR_SHARE = 0.15, 0.35  # of a position that a cue does not fit; of a colour, to be the thing's
PARTS = 0.6  # weight of parts of things among the positions that are drawn
SUBJECTS, CERTAIN, LEAST_AREA = 0.5, 0.8, 0.04  # of labelled photos: their weight, a thing's probability and area
BACKGROUND = 0.15  # share of positions that are drawn whatever NanoDet-g sees there
WORDS_RATE, LAST_RATE = 5e-4, 4e-3  # of text layers, and of the projection, whose weights are large
CAPTIONS, POOL, SOLVED, PLACES_A_STEP = 48, 12_000, 1200, 1024
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


class Fit:
    """Weighted ridge regression, gathered picture by picture."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.gram = torch.zeros(inputs + 1, inputs + 1, dtype=torch.float64)
        self.cross = torch.zeros(inputs + 1, outputs, dtype=torch.float64)

    def add(self, inputs: Tensor, outputs: Tensor, weights: Tensor | None = None) -> None:
        """Take in rows `(n, inputs)` and what they should give, `(n, outputs)`."""
        rows = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1).double()
        weighted = rows if weights is None else rows * weights.double()[:, None]
        self.gram += weighted.T @ rows
        self.cross += weighted.T @ outputs.double()

    def solve(self, *, ridge: float = RIDGE) -> tuple[Tensor, Tensor]:
        """Weight `(outputs, inputs)` and bias `(outputs,)`."""
        penalty = ridge * self.gram.diagonal().mean() * torch.eye(len(self.gram), dtype=torch.float64)
        solution = torch.linalg.solve(self.gram + penalty, self.cross).float()
        return solution[:-1].T, solution[-1]


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


class Goal:
    """What words should say of positions.

    Args:
        places: some positions.
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        features = places.features
        moments = (features.T @ features / len(features)).double()
        self.inverse = torch.linalg.inv(moments + RIDGE * moments.diagonal().mean() * torch.eye(len(moments))).float()
        self.known: dict[tuple[bytes, tuple[str, ...]], Tensor] = {}

    def truth(self, drawn: Tensor | slice, phrases: Sequence[Drawn]) -> Tensor:
        """Probability that each of P phrases is at each drawn position: `(P, n)`."""
        shares = torch.stack([phrase.shares for phrase in phrases])
        truth = (shares @ self.places.probabilities[drawn].T).clamp(max=1)
        for index, phrase in enumerate(phrases):
            if phrase.noun in self.places.evidence:
                truth[index] = torch.maximum(truth[index], self.places.evidence[phrase.noun][drawn])
            for cue in phrase.cues:
                truth[index] *= self.places.factors[cue][drawn]
        return truth

    def row(self, phrase: Drawn) -> Tensor:
        """The best linear row and bias `(C + 1,)` of a phrase."""
        key = phrase.shares.numpy().tobytes(), (phrase.noun, *phrase.cues)
        if key not in self.known:
            truth = self.truth(slice(None), [phrase])[0]
            said = truth.clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY).logit()
            self.known[key] = self.inverse @ (self.places.features.T @ said) / len(said)
        return self.known[key]


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
        inputs = processor.image_processor(read_image(photo))
        levels = model.encode_image(inputs["pixel_values"], inputs["image_sizes"])
        image = flatten_levels(levels)
        shapes = [(level.shape[2], level.shape[3]) for level in levels]
        _, deltas, _ = model.head(image, torch.zeros(1, 1, model.text_encoder.dim), [h * w for h, w in shapes])
        size = inputs["image_sizes"][0].tolist()
        found = decode_boxes(deltas[0], make_anchors(shapes, model.config.strides))
        found = clip_boxes(found, (size[0], size[1]))
        boxes.append(found / torch.tensor([size[1], size[0], size[1], size[0]]))
        features.append(image[0])
        logits = image[0, :, :NECK] @ weight.T + bias
        parts.append(beyond.evidence(found, logits.sigmoid(), min(size)) if beyond else {})
        sure = logits.amax(dim=1)
        subjects.append(subject_share(boxes[-1], sure) if photo in labels else torch.zeros(len(sure)))
        colours.append(image[0, :, NECK : NECK + PALETTE] / STRENGTH)
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


@dataclass(frozen=True)
class Caption:
    """A caption as the text encoder gives it, and what its tokens mean.

    Attributes:
        words: `(L, D)`.
        phrases: P of them.
        owners: `(L,)` int64, the phrase of each token; P for tokens of none.
    """

    words: Tensor
    phrases: Sequence[Drawn]
    owners: Tensor


class WordTeacher:
    """Trains text layers and word projection until every phrase says of positions what it means.

    Fusion adds nothing yet, so that no picture is needed: positions and captions are drawn once.
    """

    def __init__(self, model: GlipModel, processor: GlipProcessor, goal: Goal, phrases: Phrases) -> None:
        self.model, self.goal = model, goal
        self.blocks = [block for block in model.blocks if isinstance(block, GlipBlock)]
        self.draw = random.Random(0)
        self.captions = [caption for _ in range(POOL // CAPTIONS) for caption in self._encode(processor, phrases)]

    @torch.no_grad()
    def _encode(self, processor: GlipProcessor, phrases: Phrases) -> list[Caption]:
        drawn = [phrases.caption([], self.draw) for _ in range(CAPTIONS)]
        tokens = tokenize_prompts([prompt for prompt, _ in drawn], processor.tokenizer)
        hidden = self.model.encode_words(tokens.input_ids, tokens.attention_mask)
        captions = []
        for words, real, (_, meant), token_map in zip(
            hidden, tokens.attention_mask.bool(), drawn, tokens.token_maps, strict=True
        ):
            owned, owner = token_map.max(dim=0)
            captions.append(Caption(words[real], meant, torch.where(owned, owner, len(meant))[real]))
        return captions

    def _directions(self, captions: list[Caption]) -> Tensor:
        """Of all tokens behind each other: `(T, D)`."""
        lengths = torch.tensor([len(caption.words) for caption in captions])
        hidden = pad_sequence([caption.words for caption in captions], batch_first=True)
        mask = torch.arange(hidden.shape[1]) < lengths[:, None]
        for block in self.blocks:
            hidden = block.text_layer(block.fusion.word_norm(hidden), mask)
        return F.normalize(hidden, dim=-1)[mask]

    @torch.no_grad()
    def solve(self) -> None:
        """The best projection of the words as they are: the weights are large, and gradient steps would take long."""
        head, goal = self.model.head, self.goal
        fit = Fit(self.model.text_encoder.dim, len(goal.inverse))
        nothing = torch.zeros(len(goal.inverse))
        nothing[-1] = ABSENT_LOGIT
        for start in range(0, min(SOLVED, len(self.captions)), CAPTIONS):
            part = self.captions[start : start + CAPTIONS]
            rows = [
                torch.stack([*(goal.row(phrase) for phrase in caption.phrases), nothing])[caption.owners]
                for caption in part
            ]
            fit.add(self._directions(part), torch.cat(rows))
        weight, bias = fit.solve(ridge=WORDS_RIDGE)
        head.word_projection.weight[:] = 2 * weight[:-1]  # the head halves its words
        head.word_projection.bias[:] = bias[:-1]
        head.word_bias[:] = weight[-1]
        head.bias[:] = bias[-1]

    def loss(self, captions: list[Caption]) -> Tensor:
        """Quality focal loss (Generalized Focal Loss, equation 4) of tokens at drawn positions."""
        head, goal = self.model.head, self.goal
        directions = self._directions(captions)
        drawn = torch.randint(len(goal.places.features), (PLACES_A_STEP,))
        rows = torch.cat(
            [head.word_projection(directions / 2), (directions @ head.word_bias + head.bias)[:, None]], dim=1
        )
        logits = rows @ goal.places.features[drawn].T
        nothing = torch.zeros(1, PLACES_A_STEP)
        truth = torch.cat(
            [torch.cat([goal.truth(drawn, caption.phrases), nothing])[caption.owners] for caption in captions]
        )
        error = (logits.sigmoid() - truth).abs()
        entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return (error * entropy).sum() / truth.sum()

    def train(self, steps: int, *, rates: float = 1.0) -> None:
        """Gradient steps from there; `rates` multiplies the learning rates."""
        head = self.model.head
        parts = [module for block in self.blocks for module in (block.fusion.word_norm, block.text_layer)]
        layers = [weight for module in parts for weight in module.parameters()]
        last = [*head.word_projection.parameters(), head.word_bias, head.bias]
        optimizer = torch.optim.Adam([{"params": layers}, {"params": last}])
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, [rates * WORDS_RATE, rates * LAST_RATE], total_steps=steps, pct_start=0.1
        )
        mean = 0.0
        for step in range(steps):
            loss = self.loss(self.draw.sample(self.captions, CAPTIONS))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(layers, 5.0)
            optimizer.step()
            schedule.step()
            mean = loss.item() if step == 0 else 0.95 * mean + 0.05 * loss.item()
            if step % 50 == 0 or step == steps - 1:
                sys.stdout.write(f"words: step {step}, loss {mean:.3f}\n")
                sys.stdout.flush()
