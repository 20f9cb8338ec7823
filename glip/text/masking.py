"""Words to be guessed (Devlin et al. 2019, section 3.1), where a caption allows it."""

import torch
from torch import Tensor

from glip.structures.tasks import IGNORED

CHOSEN, HIDDEN, SWAPPED = 0.15, 0.8, 0.1  # BERT's: 15 %, of which 80 % hidden, 10 % swapped, 10 % left as they are
SCORED, UNSCORED, NEVER = 1, 0, -1


def hide_words(
    input_ids: Tensor, greenlight: Tensor, *, mask_id: int, vocabulary: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Choose words, and put [MASK] or another word in most of their places.

    Args:
        input_ids: `(B, L)` int64; not changed.
        greenlight: `(B, L)`: 1 where a word may be hidden and is then asked for, 0 where it may be hidden but not asked
            for, -1 where it stays.
        mask_id: of [MASK].
        vocabulary: V, the number of tokens.
        generator: of all chance.

    Returns:
        The changed tokens, and the labels `(B, L)`: the words that were chosen, `IGNORED` elsewhere.
    """
    chosen = (torch.rand(input_ids.shape, generator=generator) < CHOSEN) & (greenlight != NEVER)
    lot = torch.rand(input_ids.shape, generator=generator)
    other = torch.randint(vocabulary, input_ids.shape, generator=generator)
    changed = torch.where(chosen & (lot < HIDDEN), mask_id, input_ids)
    changed = torch.where(chosen & (lot >= HIDDEN) & (lot < HIDDEN + SWAPPED), other, changed)
    labels = torch.where(chosen & (greenlight == SCORED), input_ids, IGNORED)
    return changed, labels
