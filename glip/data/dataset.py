"""Examples to batches of tensors."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedTokenizerBase

from glip.data.captions import CaptionRule, make_prompt
from glip.data.examples import Example
from glip.data.packing import PackingRule, foreign_captions, pack
from glip.data.tasks import TaskMaker, TaskRule
from glip.data.transforms import AugmentationRule, augment
from glip.processing import GlipImageProcessor
from glip.structures.boxes import clip_boxes, scale_boxes
from glip.structures.prompt import Prompt
from glip.structures.targets import Targets
from glip.structures.tasks import TaskTruth
from glip.text.tokens import tokenize_prompts

MIN_SIDE = 2.0  # pixels of the network's image; a smaller box teaches nothing


@dataclass(frozen=True, eq=False)
class Sample:
    """One training picture, ready to be padded into a batch.

    Attributes:
        pixel_values: `(3, H, W)` normalised RGB.
        boxes: `(N, 4)` xyxy pixels of it.
        phrase_of_box: `(N,)` int64, index into the prompt's phrases.
        prompt: its caption.
        name: the picture's file.
        box_loss: whether its boxes teach where edges are.
        is_grounded: whether the caption's boxes are known; a question's are not.
        masks: `(N, H, W)` bool over the picture; None where they are not wanted or not known.
        told: the example as it was changed, for what its words say beyond boxes.
        seed: of what chance is left.
    """

    pixel_values: Tensor
    boxes: Tensor
    phrase_of_box: Tensor
    prompt: Prompt
    name: str
    box_loss: bool = True
    is_grounded: bool = True
    masks: Tensor | None = None
    told: Example | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Batch:
    """What one training step reads.

    Attributes:
        pixel_values: `(B, 3, H, W)` normalised RGB, padded on the right and bottom.
        image_sizes: `(B, 2)` (height, width) without padding.
        input_ids: `(B, L)` int64.
        attention_mask: `(B, L)` bool, True on real tokens.
        targets: one for each image.
        names: the pictures' files.
        truth: beyond boxes, for the network's heads; None for a network without.
    """

    pixel_values: Tensor
    image_sizes: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    targets: tuple[Targets, ...]
    names: tuple[str, ...]
    truth: TaskTruth | None = None


@dataclass(frozen=True)
class Packing:
    """How sentences are packed.

    Attributes:
        rule: how many foreign captions.
        tokenizer: says how many fit.
    """

    rule: PackingRule
    tokenizer: PreTrainedTokenizerBase

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, CLS and SEP left out."""
        return len(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


Draw = tuple[int, int, int]
"""(index of the example, short side in pixels, seed): all chance of a sample, so that a run can be resumed."""


class GroundingDataset(Dataset[Sample]):
    """Examples, augmented and captioned anew each time.

    Args:
        examples: what to train on.
        image_processor: how pixels are normalised.
        captions: how captions are drawn.
        augmentation: what may happen to pictures.
        packing: how sentences are packed among captions of other pictures; None for not at all.
        masks: whether things' masks are drawn.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        image_processor: GlipImageProcessor,
        captions: CaptionRule,
        augmentation: AugmentationRule,
        packing: Packing | None = None,
        masks: bool = False,
    ) -> None:
        self.examples = list(examples)
        self.sentences = [example for example in self.examples if example.caption]
        self.packing = packing
        self.masks = masks
        self.image_processor = image_processor
        self.captions = captions
        self.augmentation = augmentation

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.examples)

    def __getitem__(self, key: Draw) -> Sample:
        """Read, change and caption one example."""
        index, short_side, seed = key
        draw = random.Random(seed)
        example = self.examples[index]
        pixels = np.asarray(example.read())
        pixels, example = augment(pixels, example, self.augmentation, draw)
        prompt, phrases = make_prompt(example, self.captions, draw)
        if self.packing is not None and example.caption and example.question is None:
            foreign = foreign_captions(example, self.sentences, self.packing.rule.wanted(draw), draw)
            prompt = pack(prompt, foreign, self.packing.count_tokens, draw)
        values = self.image_processor.normalize_array(
            pixels, short_side=short_side, max_side=self.augmentation.max_side
        )
        size = (values.shape[1], values.shape[2])
        boxes = torch.tensor([thing.box for thing in example.objects], dtype=torch.float32).view(-1, 4)
        boxes = clip_boxes(scale_boxes(boxes, pixels.shape[:2], size), size)
        phrase_of_box = torch.tensor(phrases, dtype=torch.int64)
        kept = (phrase_of_box >= 0) & ((boxes[:, 2:] - boxes[:, :2]).min(dim=1).values >= MIN_SIDE)
        return Sample(
            values,
            boxes[kept],
            phrase_of_box[kept],
            prompt,
            str(example.image),
            example.box_loss,
            is_grounded=example.question is None,
            masks=_draw_masks(example, kept, size) if self.masks else None,
            told=example,
            seed=seed,
        )


def _draw_masks(example: Example, kept: Tensor, size: tuple[int, int]) -> Tensor | None:
    """Masks of the objects that are kept, `(N, H, W)` bool; None unless each of them has one."""
    masks = [thing.mask for thing, is_kept in zip(example.objects, kept.tolist(), strict=True) if is_kept]
    known = [mask for mask in masks if mask is not None]
    if not known or len(known) < len(masks):
        return None
    return torch.stack([mask.draw(size) for mask in known])


class BatchSampler(Sampler[list[Draw]]):
    """Endless batches by weighted draw; batch number n is the same in every run.

    A batch has one short side, and only upright or only lying pictures, so that little of it is padding.

    Args:
        weights: how often each example is drawn, relative to the others.
        is_upright: of each example, whether it is higher than wide.
        batch_size: examples a batch.
        short_sides: one is drawn for each batch.
        seed: of all chance.
        start: number of the first batch; a resumed run goes on where it stopped.
        share: which parts of each batch come, and of how many: `(range(first, parts, step), parts)`; each part is a
            batch of its own. Processes and accumulated gradients share a batch in this way.
    """

    def __init__(
        self,
        weights: Sequence[float],
        is_upright: Sequence[bool],
        *,
        batch_size: int,
        short_sides: Sequence[int],
        seed: int,
        start: int = 0,
        share: tuple[range, int] = (range(1), 1),
    ) -> None:
        upright = np.asarray(is_upright, dtype=bool)
        self.groups = [np.flatnonzero(members) for members in (upright, ~upright) if members.any()]
        self.shares = [np.asarray(weights, dtype=np.float64)[group] for group in self.groups]
        self.batch_size = batch_size
        self.short_sides = short_sides
        self.seed = seed
        self.start = start
        self.share = share

    def __iter__(self) -> Iterator[list[Draw]]:
        """Batches from number `start` on."""
        totals = np.array([share.sum() for share in self.shares])
        number = self.start
        while True:
            draw = np.random.default_rng([self.seed, number])
            side = int(draw.choice(self.short_sides))
            group = int(draw.choice(len(totals), p=totals / totals.sum()))
            share = self.shares[group] / totals[group]
            picks = draw.choice(self.groups[group], size=self.batch_size, p=share)
            seeds = draw.integers(2**31, size=self.batch_size)
            batch = [(int(pick), side, int(seed)) for pick, seed in zip(picks, seeds, strict=True)]
            mine, parts = self.share
            for part in mine:
                yield batch[part::parts]
            number += 1


class Collate:
    """Samples to a batch.

    Args:
        tokenizer: a fast BERT tokenizer.
        image_processor: how pictures are padded.
        tasks: what the network's heads learn; None for a network without.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: GlipImageProcessor,
        tasks: TaskRule | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.tasks = None if tasks is None else TaskMaker(tokenizer, tasks)

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Pad pictures and captions to the largest."""
        words = tokenize_prompts([sample.prompt for sample in samples], self.tokenizer, truncate=True)
        pixel_values, image_sizes = self.image_processor.pad_batch([sample.pixel_values for sample in samples])
        targets = tuple(
            Targets(
                sample.boxes,
                token_map[sample.phrase_of_box],
                sample.phrase_of_box,
                sample.box_loss,
                sample.masks,
                sample.is_grounded,
            )
            for sample, token_map in zip(samples, words.token_maps, strict=True)
        )
        names = tuple(sample.name for sample in samples)
        input_ids, truth = (words.input_ids, None) if self.tasks is None else self.tasks(samples, words)
        return Batch(pixel_values, image_sizes, input_ids, words.attention_mask, targets, names, truth)
