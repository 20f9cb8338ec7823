"""Bidirectional cross-attention between image and words (GLIP, section 3.2, equations 4 to 6).

The image has some 20,000 positions and the words a few dozen, so nothing is projected on the image's side. With
V' = LN(V), L' = LN(L), heads h, keys k = L' Wk + bk, word values u = L' Wu + bu, and s = 1 / sqrt(head width):

    scores   S_h = V' (s k_h Wq_h)^T + s (k_h . bq_h)        image queries folded into the word keys
    image    A_h = softmax of S_h over words;      dV = sum_h A_h (u_h Wo_h^T) + bo    output folded into word values
    words    P_h = softmax of S_h over positions;  head = (P_h V') Wx_h^T + (sum P_h) bx_h    values applied after

which is the published arithmetic in another order: a (positions x 2048) matrix is never made.
"""

import torch
from torch import Tensor, nn

from glip.layers.two_way_attention import two_way_attention


class BidirectionalFusion(nn.Module):
    """Image and words look at each other; both leave layer-normed, with what they saw added.

    Args:
        channels: C of image positions.
        text_dim: D of words.
        fusion_dim: width of the attention, all heads together.
        num_heads: heads of the attention.
        dropout: on attention weights, in training.
        initial_scale: start value of the learned scales of what is added; the paper's code uses 1 / blocks.
        residual: whether the image keeps its own features where the paper's code goes on with normalised ones.
    """

    def __init__(
        self,
        channels: int,
        text_dim: int,
        *,
        fusion_dim: int,
        num_heads: int,
        dropout: float,
        initial_scale: float,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.num_heads = num_heads
        self.dropout = dropout
        self.attention_scale = (fusion_dim // num_heads) ** -0.5
        self.image_norm = nn.LayerNorm(channels)
        self.word_norm = nn.LayerNorm(text_dim)
        self.image_query = nn.Linear(channels, fusion_dim)
        self.word_key = nn.Linear(text_dim, fusion_dim)
        self.image_value = nn.Linear(channels, fusion_dim)
        self.word_value = nn.Linear(text_dim, fusion_dim)
        self.image_out = nn.Linear(fusion_dim, channels)
        self.word_out = nn.Linear(fusion_dim, text_dim)
        self.image_scale = nn.Parameter(torch.full((channels,), initial_scale))
        self.word_scale = nn.Parameter(torch.full((text_dim,), initial_scale))
        for layer in self.children():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(
        self, image: Tensor, words: Tensor, word_mask: Tensor, image_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Fuse.

        Args:
            image: `(B, N, C)`, the positions of all pyramid levels.
            words: `(B, L, D)`.
            word_mask: `(B, L)` bool, True on words that the image may look at.
            image_mask: `(B, N)` bool, True on positions that the words may look at; None for all.

        Returns:
            image `(B, N, C)` and words `(B, L, D)`, added to the normalised inputs (the image's own with `residual`).
        """
        kept = image
        image, words = self.image_norm(image), self.word_norm(words)
        keys = self.word_key(words).unflatten(2, (self.num_heads, -1)) * self.attention_scale  # (B, L, h, d)
        seen_by_image, context, total = two_way_attention(
            image,
            self._folded_keys(keys),
            self._word_bias(keys, word_mask),
            self._folded_values(words),
            image_mask,
            num_heads=self.num_heads,
            dropout=self.dropout if self.training else 0.0,
        )
        kept = kept if self.residual else image
        image = kept + self.image_scale * (seen_by_image + self.image_out.bias)
        return image, words + self.word_scale * self._seen_by_words(context, total)

    def _folded_keys(self, keys: Tensor) -> Tensor:
        """Word keys behind the image's query projection: `(B, h * L, C)`."""
        query_weight = self.image_query.weight.unflatten(0, (self.num_heads, -1))  # (h, d, C)
        return torch.einsum("blhd,hdc->bhlc", keys, query_weight).flatten(1, 2)

    def _word_bias(self, keys: Tensor, word_mask: Tensor) -> Tensor:
        """The query bias' share of the scores, which is one number a word: `(B, h * L)`; very small for padding."""
        query_bias = self.image_query.bias.unflatten(0, (self.num_heads, -1))  # (h, d)
        bias = torch.einsum("blhd,hd->bhl", keys, query_bias)
        return bias.masked_fill(~word_mask[:, None], torch.finfo(bias.dtype).min).flatten(1)

    def _folded_values(self, words: Tensor) -> Tensor:
        """Word values behind the output projection: `(B, h * L, C)`."""
        values = self.word_value(words).unflatten(2, (self.num_heads, -1))  # (B, L, h, d)
        out_weight = self.image_out.weight.unflatten(1, (self.num_heads, -1))  # (C, h, d)
        return torch.einsum("blhd,chd->bhlc", values, out_weight).flatten(1, 2)

    def _seen_by_words(self, context: Tensor, total: Tensor) -> Tensor:
        """The image's values of what each head of each word has looked at: `(B, L, D)`."""
        heads = context.unflatten(1, (self.num_heads, -1))  # (B, h, L, C)
        value_weight = self.image_value.weight.unflatten(0, (self.num_heads, -1))  # (h, d, C)
        value_bias = self.image_value.bias.unflatten(0, (self.num_heads, 1, -1))  # (h, 1, d)
        values = torch.einsum("bhlc,hdc->bhld", heads, value_weight)
        values = values + total.unflatten(1, (self.num_heads, -1)).unsqueeze(3) * value_bias
        result: Tensor = self.word_out(values.transpose(1, 2).flatten(2))
        return result
