"""The fusion of image and words as a textbook would write it: explicit queries, keys and values on both sides.

`glip.models.fusion` computes the same numbers in another order; this form is the tests' judge of it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from glip.models.fusion import BidirectionalFusion


def plain_fusion(
    fusion: BidirectionalFusion,
    image: Tensor,
    words: Tensor,
    word_mask: Tensor,
    image_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Two cross-attentions that share their scores, with the parameters of `fusion`.

    Args:
        fusion: the module whose weights and dropout are used.
        image: `(B, N, C)`.
        words: `(B, L, D)`.
        word_mask: `(B, L)` bool, True on words that the image may look at.
        image_mask: `(B, N)` bool, True on positions that the words may look at; None for all.

    Returns:
        image `(B, N, C)` and words `(B, L, D)`.
    """
    image, words = fusion.image_norm(image), fusion.word_norm(words)
    query = _heads(fusion.image_query(image), fusion.num_heads)  # (B, h, N, d)
    key = _heads(fusion.word_key(words), fusion.num_heads)  # (B, h, L, d)
    image_value = _heads(fusion.image_value(image), fusion.num_heads)
    word_value = _heads(fusion.word_value(words), fusion.num_heads)
    scores = query @ key.transpose(2, 3) / query.shape[3] ** 0.5  # (B, h, N, L)

    over_words = scores.masked_fill(~word_mask[:, None, None, :], -torch.inf).softmax(dim=3)
    over_words = F.dropout(over_words, fusion.dropout, fusion.training)
    image_update = fusion.image_out(_merge(over_words @ word_value))

    over_positions = scores.transpose(2, 3)  # (B, h, L, N)
    if image_mask is not None:
        over_positions = over_positions.masked_fill(~image_mask[:, None, None, :], -torch.inf)
    over_positions = F.dropout(over_positions.softmax(dim=3), fusion.dropout, fusion.training)
    word_update = fusion.word_out(_merge(over_positions @ image_value))
    return image + fusion.image_scale * image_update, words + fusion.word_scale * word_update


def _heads(sequence: Tensor, num_heads: int) -> Tensor:
    """`(B, n, h * d)` to `(B, h, n, d)`."""
    batch, length, width = sequence.shape
    return sequence.view(batch, length, num_heads, width // num_heads).transpose(1, 2)


def _merge(heads: Tensor) -> Tensor:
    """The inverse of `_heads`."""
    return heads.transpose(1, 2).flatten(2)
