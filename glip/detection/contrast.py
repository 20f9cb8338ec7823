"""An expression against its opposites: what a single word of it adds to a position's score.

Of two things of one kind, an expression's noun says nearly the same, and which score is higher depends on how well each
is seen rather than on the words that tell them apart. With such a word turned into its opposite, the expression has the
same noun; the difference of both scores is what the word adds, and it may count more than once. (Ho and Salimans 2022,
Classifier-free diffusion guidance, equation 6, weighs a condition like this.)
"""

from collections.abc import Sequence

import torch
from torch import Tensor

MARGIN = 3.0  # in logits; what scores less than the best position by more is another kind of thing, and cannot gain
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
    own, others = (part.clamp(LEAST, 1 - LEAST).logit() for part in (scores[0], scores[1:]))
    added = torch.zeros_like(own)
    for group in others.split(list(groups)):
        added += own - group.mean(dim=0)
    can_gain = own >= own.max() - MARGIN if len(own) else own.bool()
    weighed: Tensor = own + weight * torch.where(can_gain, added, added.clamp(max=0))
    return weighed
