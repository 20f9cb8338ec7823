"""What GLIPv2's heads are asked in training, and how wrong they are; each learns where its truth is known."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from glip.contrastive.regions import RegionWordLoss
from glip.detection.masks import crop_masks, mask_loss
from glip.structures.output import GlipOutput
from glip.structures.targets import Targets
from glip.structures.tasks import IGNORED, TaskInputs, TaskTruth

MOST_MASKS = 100  # of an image
SHAKE = 0.1  # of a box's side: masks of boxes that are not quite right are wanted, too
PAD = 0  # BERT's


@dataclass(frozen=True)
class HeadLossWeights:
    """What each head's loss is multiplied with."""

    masks: float = 1.0
    mlm: float = 1.0
    captioning: float = 1.0
    vqa: float = 1.0
    contrast: float = 1.0


@dataclass(frozen=True, eq=False)
class Questions:
    """What the heads are asked of a batch.

    Attributes:
        inputs: for the network.
        masks: `(N, H, W)` bool of each image, the true masks of the boxes that are asked about.
    """

    inputs: TaskInputs
    masks: tuple[Tensor, ...]


class HeadCriterion:
    """Asks the heads, and names their losses.

    Args:
        heads: their names.
        weights: of the losses.
        reduce_mean: mean of a number over all training processes; None for one process.
    """

    def __init__(
        self,
        heads: Collection[str],
        *,
        weights: HeadLossWeights | None = None,
        reduce_mean: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.heads = tuple(heads)
        self.weights = weights or HeadLossWeights()
        self.contrast = RegionWordLoss(reduce_mean=reduce_mean)

    def ask(self, targets: Sequence[Targets], truth: TaskTruth) -> Questions:
        """What the heads are asked; boxes are shaken a little.

        Every head is asked, about nothing if need be: each of its parameters has a gradient then, as DDP wants it.

        Args:
            targets: of B images.
            truth: of the same images.
        """
        picked = [_with_masks(target) for target in targets]
        boxes = tuple(_shaken(boxes) for boxes, _, _ in picked)
        inputs = TaskInputs(
            boxes=boxes,
            token_maps=tuple(token_map for _, token_map, _ in picked),
            hidden_words=None if truth.word_labels is None else truth.word_labels != IGNORED,
            described=truth.described,
            description_ids=None if truth.descriptions is None else truth.descriptions[:, :-1],
        )
        return Questions(inputs, tuple(masks for _, _, masks in picked))

    def __call__(
        self,
        output: GlipOutput,
        targets: Sequence[Targets],
        truth: TaskTruth,
        questions: Questions,
        assigned: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """Compute the losses in float32.

        Args:
            output: of the network that was asked.
            targets: of its images.
            truth: of its images.
            questions: that it was asked.
            assigned: of each image `(A,)` int64, the box of each anchor, negative for none.

        Returns:
            `loss_masks` and so on, of every head: weighted scalars, 0 where the batch has no truth for it.
        """
        losses = {}
        for name in self.heads:
            match name:
                case "masks":
                    loss = _mask_loss(output, questions)
                case "mlm":
                    loss = _word_loss(output, truth)
                case "captioning":
                    loss = _description_loss(output, truth)
                case "vqa":
                    loss = _answer_loss(output, truth)
                case _:
                    loss = self._contrast_loss(output, targets, truth, assigned)
            weight: float = getattr(self.weights, name)
            losses[f"loss_{name}"] = weight * loss
        return losses

    def _contrast_loss(
        self, output: GlipOutput, targets: Sequence[Targets], truth: TaskTruth, assigned: Sequence[Tensor]
    ) -> Tensor:
        assert output.tasks is not None
        maps = [target.token_map for target in targets]
        is_grounded = torch.tensor([target.is_grounded for target in targets], device=output.attention_mask.device)
        word_mask = output.attention_mask & is_grounded[:, None]  # a question's nouns are no phrases, but may be right
        return self.contrast(output.tasks, word_mask, assigned, maps, truth)


def _with_masks(target: Targets) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, token map and masks of at most `MOST_MASKS` boxes that have a mask."""
    if target.masks is None:
        return target.boxes[:0], target.token_map[:0], target.boxes.new_zeros(0, 1, 1, dtype=torch.bool)
    chosen = torch.randperm(len(target), device=target.boxes.device)[:MOST_MASKS]
    return target.boxes[chosen], target.token_map[chosen], target.masks[chosen]


def _shaken(boxes: Tensor) -> Tensor:
    """Boxes `(N, 4)` xyxy, each edge moved by up to `SHAKE` of the box's side."""
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return boxes + sides * SHAKE * (2 * torch.rand_like(boxes) - 1)


def _mask_loss(output: GlipOutput, questions: Questions) -> Tensor:
    said = output.tasks
    assert said is not None
    assert said.mask_logits is not None
    assert said.word_mask_logits is not None
    assert questions.inputs.boxes is not None
    side = said.mask_logits.shape[-1]
    cut = [crop_masks(masks, boxes, side) for masks, boxes in zip(questions.masks, questions.inputs.boxes, strict=True)]
    truth = torch.cat(cut)
    return mask_loss(said.mask_logits, truth) + mask_loss(said.word_mask_logits, truth)


def _word_loss(output: GlipOutput, truth: TaskTruth) -> Tensor:
    """Cross-entropy of the words that were hidden."""
    assert output.tasks is not None
    assert output.tasks.word_logits is not None
    assert truth.word_labels is not None
    labels = truth.word_labels[truth.word_labels != IGNORED]
    return F.cross_entropy(output.tasks.word_logits.float(), labels, reduction="sum") / max(len(labels), 1)


def _description_loss(output: GlipOutput, truth: TaskTruth) -> Tensor:
    """Cross-entropy of each next token, the end included."""
    assert output.tasks is not None
    assert output.tasks.description_logits is not None
    assert truth.descriptions is not None
    logits, labels = output.tasks.description_logits.float().flatten(0, 1), truth.descriptions[:, 1:].flatten()
    total = F.cross_entropy(logits, labels, ignore_index=PAD, reduction="sum")
    return total / (labels != PAD).sum().clamp(min=1)


def _answer_loss(output: GlipOutput, truth: TaskTruth) -> Tensor:
    """Binary cross-entropy summed over the answers, the mean over the questions."""
    assert output.tasks is not None
    assert output.tasks.answer_logits is not None
    assert truth.answers is not None
    assert truth.is_asked is not None
    logits, answers = output.tasks.answer_logits.float()[truth.is_asked], truth.answers[truth.is_asked]
    return F.binary_cross_entropy_with_logits(logits, answers, reduction="sum") / max(len(answers), 1)
