"""Pairs to batches of tensors."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from glip.clip_processing import ClipImageProcessor, ClipProcessor
from glip.data.captions import check_shares
from glip.data.dataset import Draw
from glip.data.pairs import Pair
from glip.errors import ConfigError
from glip.text.templates import PLACE


@dataclass(frozen=True)
class CropRule:
    """Which square of a training picture is seen; CLIP's only augmentation.

    Attributes:
        min_side: least side of the square, as a share of the picture's shorter side; 1 for the largest square.
        flip: probability of a mirror image; captions that speak of sides do not follow, so 0 where there are any.
    """

    min_side: float = 0.8
    flip: float = 0.0

    def __post_init__(self) -> None:
        """Refuse impossible rules."""
        check_shares("crop", min_side=self.min_side, flip=self.flip)
        if self.min_side == 0:
            raise ConfigError("crop.min_side must be above 0, got 0")


@dataclass(frozen=True)
class TemplatedPair:
    """A pair whose caption stands in one of several sentences.

    Attributes:
        pair: a picture and its caption, or its class name.
        templates: one is drawn each time; `{}` is where the caption goes.
    """

    pair: Pair
    templates: tuple[str, ...] = (PLACE,)


@dataclass(frozen=True, eq=False)
class PairSample:
    """One pair, ready for a batch.

    Attributes:
        pixel_values: `(3, S, S)` normalised RGB.
        text: what is said of it.
        group: a number of 56 bits that is equal for pairs of one caption, whatever the template.
        name: the picture's file.
    """

    pixel_values: Tensor
    text: str
    group: int
    name: str


@dataclass(frozen=True, eq=False)
class PairBatch:
    """What one training step reads.

    Attributes:
        pixel_values: `(B, 3, S, S)` normalised RGB.
        input_ids: `(B, L)` int64.
        attention_mask: `(B, L)` bool, True on real tokens.
        groups: `(B,)` int64, equal for pairs of one caption.
        names: the pictures' files.
    """

    pixel_values: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    groups: Tensor
    names: tuple[str, ...]


class PairDataset(Dataset[PairSample]):
    """Pairs, cropped anew each time.

    Args:
        pairs: what to train on.
        image_processor: how pictures are resized and normalised.
        crop: what may happen to them.
    """

    def __init__(self, pairs: Sequence[TemplatedPair], *, image_processor: ClipImageProcessor, crop: CropRule) -> None:
        self.pairs = list(pairs)
        self.image_processor = image_processor
        self.crop = crop

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.pairs)

    def __getitem__(self, key: Draw) -> PairSample:
        """Read and crop one pair; the short side in the key is the processor's already."""
        index, _, seed = key
        pair, templates = self.pairs[index].pair, self.pairs[index].templates
        draw = random.Random(seed)
        text = draw.choice(templates).replace(PLACE, pair.caption)
        picture = pair.read()
        square = self.image_processor.resize(picture, _square(picture, self.crop.min_side, draw))
        if draw.random() < self.crop.flip:
            square = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return PairSample(self.image_processor.to_tensor(square), text, _number_of(pair.caption), str(pair.image))


class PairCollate:
    """Samples to a batch.

    Args:
        processor: its tokenizer; texts over its limit are cut.
    """

    def __init__(self, processor: ClipProcessor) -> None:
        self.processor = processor

    def __call__(self, samples: Sequence[PairSample]) -> PairBatch:
        """Stack pictures and pad texts to the longest."""
        input_ids, attention_mask = self.processor.tokenize([sample.text for sample in samples])
        return PairBatch(
            pixel_values=torch.stack([sample.pixel_values for sample in samples]),
            input_ids=input_ids,
            attention_mask=attention_mask,
            groups=torch.tensor([sample.group for sample in samples], dtype=torch.int64),
            names=tuple(sample.name for sample in samples),
        )


def _square(picture: Image.Image, min_side: float, draw: random.Random) -> tuple[float, float, float, float]:
    """A square inside a picture, xyxy pixels."""
    width, height = picture.size
    side = min(width, height) * draw.uniform(min_side, 1.0)
    left, top = draw.uniform(0, width - side), draw.uniform(0, height - side)
    return left, top, left + side, top + side


def _number_of(caption: str) -> int:
    """The same number for the same words, in every process."""
    words = " ".join(caption.lower().split())
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=7).digest())
