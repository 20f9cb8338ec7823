"""What the networks say, before any threshold."""

import itertools
from dataclasses import dataclass

from torch import Tensor
from transformers.utils.generic import ModelOutput

from glip.structures.tasks import TaskOutput


@dataclass
class GlipFeatures(ModelOutput):
    """What the network knows before and after image and words have seen each other.

    Attributes:
        levels: fused pyramid, `(B, C, H, W)` each, finest first.
        words: fused words, `(B, L, D)`.
        plain_levels: the pyramid that no word has touched.
        plain_words: the words that no image has touched.
        level_masks: `(B, H, W)` bool of each level, True on the image, False on its padding.
        strides: pixels between neighbours on each level's map.
        alignment_logits: `(B, A, L)`, of fused positions and words.
    """

    levels: tuple[Tensor, ...]  # ModelOutput allows one field without a default; all are always given
    words: Tensor = None  # type: ignore[assignment]
    plain_levels: tuple[Tensor, ...] = None  # type: ignore[assignment]
    plain_words: Tensor = None  # type: ignore[assignment]
    level_masks: tuple[Tensor, ...] = None  # type: ignore[assignment]
    strides: tuple[int, ...] = None  # type: ignore[assignment]
    alignment_logits: Tensor = None  # type: ignore[assignment]

    def alignment(self, place: int) -> Tensor:
        """Alignment logits of one level as maps: `(B, L, H, W)`."""
        sizes = [level.shape[2] * level.shape[3] for level in self.levels]
        logits = self.alignment_logits.split(sizes, dim=1)[place]
        maps: Tensor = logits.transpose(1, 2).unflatten(2, self.levels[place].shape[2:])
        return maps


# What `box_deltas` are measured in (Faster R-CNN, section 3.1.2, with the published models' weights).
ANCHOR_STRIDES = 8  # an anchor's side, in strides of its level
CENTRE_WEIGHT, SIDE_WEIGHT = 10.0, 5.0  # of the centre's way in anchor sides, and of the sides' logarithms


@dataclass
class GlipOutput(ModelOutput):
    """Raw predictions of every anchor of every level.

    A anchors of all levels stand behind each other, finest level first, each level row by row.

    Attributes:
        alignment_logits: `(B, A, L)` float, before the sigmoid: does anchor a show token l?
        box_deltas: `(B, A, 4)` float, encoded against the anchors (`glip.detection.box_coder`).
        centerness_logits: `(B, A)` float, before the sigmoid: is the anchor in the middle of its box?
        level_shapes: `(height, width)` of each level's map.
        strides: pixels between neighbours on each level's map.
        image_sizes: `(B, 2)` int64, (height, width) of each image without its padding, in pixels.
        input_ids: `(B, L)` int64, the caption's tokens.
        attention_mask: `(B, L)` bool, True on real tokens, CLS and SEP included.
        features: what heads read; None unless it was asked for.
        tasks: what heads say; None unless they were asked.
    """

    # ModelOutput allows one field without a default, and None as the others'; all but the last two are always given.
    alignment_logits: Tensor
    box_deltas: Tensor = None  # type: ignore[assignment]
    centerness_logits: Tensor = None  # type: ignore[assignment]
    level_shapes: tuple[tuple[int, int], ...] = None  # type: ignore[assignment]
    strides: tuple[int, ...] = None  # type: ignore[assignment]
    image_sizes: Tensor = None  # type: ignore[assignment]
    input_ids: Tensor = None  # type: ignore[assignment]
    attention_mask: Tensor = None  # type: ignore[assignment]
    features: GlipFeatures | None = None
    tasks: TaskOutput | None = None

    @property
    def levels(self) -> list[slice]:
        """Where each level's anchors stand among all A."""
        ends = list(itertools.accumulate(height * width for height, width in self.level_shapes))
        return [slice(start, end) for start, end in itertools.pairwise([0, *ends])]


@dataclass
class ClipOutput(ModelOutput):
    """Features of B image-text pairs; row b of the one belongs to row b of the other.

    Attributes:
        image_features: `(B, D)`, of L2 norm 1.
        text_features: `(B, D)`, of L2 norm 1.
        logit_scale: scalar that similarities are multiplied with.
        logit_bias: scalar that is then added; None for a network without one.
    """

    image_features: Tensor  # ModelOutput allows one field without a default; all but the bias are always given
    text_features: Tensor = None  # type: ignore[assignment]
    logit_scale: Tensor = None  # type: ignore[assignment]
    logit_bias: Tensor | None = None
