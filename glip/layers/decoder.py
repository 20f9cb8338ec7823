"""A pre-norm transformer decoder layer with a memory (Vaswani et al. 2017, section 3.1; GPT-2's order of norms)."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class Memory:
    """What a layer keeps of the words so far and of the image.

    Attributes:
        keys: `(B, heads, S, d)` of the words so far.
        values: likewise.
        image_keys: `(B, heads, N, d)`.
        image_values: likewise.
        image_mask: `(B, 1, 1, N)` bool, True on places that may be looked at.
    """

    keys: Tensor
    values: Tensor
    image_keys: Tensor
    image_values: Tensor
    image_mask: Tensor

    def rows(self, rows: Tensor) -> "Memory":
        """The memory of some of the B sequences, in this order; one may come more than once."""
        return Memory(
            self.keys[rows],
            self.values[rows],
            self.image_keys[rows],
            self.image_values[rows],
            self.image_mask[rows],
        )


class DecoderLayer(nn.Module):
    """Words look at words, then at the image, then think; each step is added to its input.

    Args:
        dim: D of both sequences.
        num_heads: attention heads; must divide `dim`.
        feedforward_dim: width between the two feed-forward layers.
        dropout: probability, on what is added.
    """

    def __init__(self, dim: int, *, num_heads: int, feedforward_dim: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.word_norm = nn.LayerNorm(dim)
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.image_norm = nn.LayerNorm(dim)
        self.image_query, self.image_key, self.image_value, self.image_out = (nn.Linear(dim, dim) for _ in range(4))
        self.feedforward_norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, feedforward_dim)
        self.contract = nn.Linear(feedforward_dim, dim)

    def look_at(self, image: Tensor, image_mask: Tensor) -> Memory:
        """The memory before the first word.

        Args:
            image: `(B, N, D)`.
            image_mask: `(B, N)` bool, True on places that may be looked at.
        """
        keys, values = self._heads(self.image_key(image)), self._heads(self.image_value(image))
        return Memory(keys[:, :, :0], values[:, :, :0], keys, values, image_mask[:, None, None])

    def forward(self, words: Tensor, memory: Memory, mask: Tensor) -> tuple[Tensor, Memory]:
        """Take in the next words.

        Args:
            words: `(B, L, D)`, those behind the S words in memory.
            memory: from `look_at`, or from the call before.
            mask: bool that broadcasts to `(B, heads, L, S + L)`, True where a word may look.

        Returns:
            `(B, L, D)`, and the memory with these words in it.
        """
        normed = self.word_norm(words)
        keys = torch.cat([memory.keys, self._heads(self.key(normed))], dim=2)
        values = torch.cat([memory.values, self._heads(self.value(normed))], dim=2)
        words = words + self._dropped(self.out(_attend(self._heads(self.query(normed)), keys, values, mask)))
        asked = self._heads(self.image_query(self.image_norm(words)))
        seen = _attend(asked, memory.image_keys, memory.image_values, memory.image_mask)
        words = words + self._dropped(self.image_out(seen))
        words = words + self._dropped(self.contract(F.gelu(self.expand(self.feedforward_norm(words)))))
        return words, Memory(keys, values, memory.image_keys, memory.image_values, memory.image_mask)

    def _heads(self, sequence: Tensor) -> Tensor:
        """`(B, L, D)` to `(B, heads, L, D / heads)`."""
        return cast(Tensor, sequence.unflatten(2, (self.num_heads, -1))).transpose(1, 2)

    def _dropped(self, added: Tensor) -> Tensor:
        return F.dropout(added, self.dropout, self.training)


def causal_mask(length: int, before: int, *, device: torch.device) -> Tensor:
    """`(length, before + length)` bool, True where a word is at or behind the other."""
    return torch.ones(length, before + length, dtype=torch.bool, device=device).tril(diagonal=before)


def _attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Multi-head attention: `(B, heads, L, d)` to `(B, L, D)`."""
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask).transpose(1, 2).flatten(2)
