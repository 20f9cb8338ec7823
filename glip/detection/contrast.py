"""An expression against its opposites: what a single word of it adds to a position's score.

Two boxes of one kind of thing have nearly the same score by an expression's noun, and which is higher hangs on what has
nothing to do with the words that tell them apart. The same expression with such a word turned into its opposite has the
noun's score, too; the difference is what the word adds, and may count more than once. (Ho and Salimans 2022,
Classifier-free diffusion guidance, equation 6, weighs a condition like this.)
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from glip.structures.output import GlipOutput

MARGIN = 3.0  # positions whose score is lower than the best one's by more than this logit cannot gain
LEAST = 1e-5  # probability


def contrast(scores: Tensor, groups: Sequence[int], weight: float) -> Tensor:
    """Weigh what the words of an expression that have opposites add to its score.

    Args:
        scores: `(1 + K, A)` in `[0, 1]`: of the expression, and of its variants, those of one word behind each other.
        groups: how many variants each word has; they add up to K.
        weight: how often a word's share counts beside the once that it counts anyway.

    Returns:
        `(A,)` logits: of the expression, plus `weight` times what its logit has more than the mean of each group's. A
        position that the expression can hardly mean (`MARGIN`) may lose by that, not gain.
    """
    own, *others = scores.clamp(LEAST, 1 - LEAST).logit()
    added = torch.zeros_like(own)
    for group in torch.stack(others).split(list(groups)) if others else ():
        added += own - group.mean(dim=0)
    can_gain = own >= own.max() - MARGIN if len(own) else own.bool()
    weighted: Tensor = own + weight * torch.where(can_gain, added, added.clamp(max=0))
    return weighted


def as_one_token(output: GlipOutput, logits: Tensor) -> GlipOutput:
    """The first image's answer with one token, so that rules can make detections of it.

    Args:
        output: of the network.
        logits: `(A,)` of that token.
    """
    return GlipOutput(
        alignment_logits=logits[None, :, None],
        box_deltas=output.box_deltas[:1],
        centerness_logits=output.centerness_logits[:1],
        level_shapes=output.level_shapes,
        strides=output.strides,
        image_sizes=output.image_sizes[:1],
        input_ids=output.input_ids[:1, :1],
        attention_mask=output.attention_mask[:1, :1],
    )
