"""A post-norm transformer encoder layer (Vaswani et al. 2017, section 3.1; BERT's variant with GELU)."""

from torch import Tensor, nn
from torch.nn import functional as F

LAYER_NORM_EPS = 1e-12  # BERT's


class PostNormEncoderLayer(nn.Module):
    """Self-attention and a feed-forward net, each added to its input and then normalised.

    Args:
        dim: D of the sequence.
        num_heads: attention heads; must divide `dim`.
        feedforward_dim: width between the two feed-forward layers.
        dropout: probability, on attention weights and on what is added.
    """

    def __init__(self, dim: int, *, num_heads: int, feedforward_dim: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.attention_out = nn.Linear(dim, dim)
        self.attention_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.expand = nn.Linear(dim, feedforward_dim)
        self.contract = nn.Linear(feedforward_dim, dim)
        self.feedforward_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """Let words see each other.

        Args:
            words: `(B, L, D)`.
            mask: `(B, L)` bool, True on words that may be looked at.

        Returns:
            `(B, L, D)`.
        """
        attended = self.attention_out(self._attend(words, mask))
        words = self.attention_norm(words + F.dropout(attended, self.dropout, self.training))
        expanded = self.contract(F.gelu(self.expand(words)))
        result: Tensor = self.feedforward_norm(words + F.dropout(expanded, self.dropout, self.training))
        return result

    def _attend(self, words: Tensor, mask: Tensor) -> Tensor:
        """Multi-head attention, `(B, L, D)` in and out."""
        query, key, value = (self._split_heads(layer(words)) for layer in (self.query, self.key, self.value))
        dropout = self.dropout if self.training else 0.0
        heads = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :], dropout_p=dropout)
        merged: Tensor = heads.transpose(1, 2).flatten(2)
        return merged

    def _split_heads(self, words: Tensor) -> Tensor:
        """`(B, L, D)` to `(B, heads, L, D / heads)`."""
        heads: Tensor = words.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        return heads
