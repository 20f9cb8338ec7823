"""Attention of several heads, between the linear layers that its users keep under their own names."""

from typing import cast

from torch import Tensor
from torch.nn import functional as F


def attend(queries: Tensor, keys: Tensor, values: Tensor, *, num_heads: int, is_causal: bool = False) -> Tensor:
    """What each query sees: the values' mean, weighted by how its keys fit, in each head.

    Args:
        queries: `(B, Q, D)`.
        keys: `(B, L, D)`.
        values: `(B, L, D)`.
        num_heads: must divide D.
        is_causal: whether a query sees only the keys up to its own place.

    Returns:
        `(B, Q, D)`.
    """
    queries, keys, values = (_split(sequence, num_heads) for sequence in (queries, keys, values))
    heads = F.scaled_dot_product_attention(queries, keys, values, is_causal=is_causal)
    return heads.transpose(1, 2).flatten(2)


def _split(sequence: Tensor, num_heads: int) -> Tensor:
    """`(B, L, D)` to `(B, heads, L, D / heads)`."""
    return cast(Tensor, sequence.unflatten(2, (num_heads, -1))).transpose(1, 2)
