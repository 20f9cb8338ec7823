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
from torch.nn import functional as F


class BidirectionalFusion(nn.Module):
    """Image and words look at each other; both leave layer-normed, with what they saw added.

    Args:
        channels: C of image positions.
        text_dim: D of words.
        fusion_dim: width of the attention, all heads together.
        num_heads: heads of the attention.
        dropout: on attention weights, in training.
        initial_scale: start value of the learned scales of what is added; the paper's code uses 1 / blocks.
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
    ) -> None:
        super().__init__()
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
            image `(B, N, C)` and words `(B, L, D)`. The residual starts from the normalised inputs.
        """
        image, words = self.image_norm(image), self.word_norm(words)
        keys = self.word_key(words).unflatten(2, (self.num_heads, -1)) * self.attention_scale  # (B, L, h, d)
        scores = self._scores(image, keys)  # (B, h, L, N)
        seen_by_image = self._look_at_words(scores, keys, words, word_mask)
        seen_by_words = self._look_at_image(scores, image, image_mask)
        return image + self.image_scale * seen_by_image, words + self.word_scale * seen_by_words

    def _scores(self, image: Tensor, keys: Tensor) -> Tensor:
        """Attention scores without the query bias, which is one number per word: `(B, h, L, N)`."""
        query_weight = self.image_query.weight.unflatten(0, (self.num_heads, -1))  # (h, d, C)
        folded = torch.einsum("blhd,hdc->bhlc", keys, query_weight)
        scores = folded.flatten(1, 2) @ image.transpose(1, 2)  # (B, h * L, N)
        result: Tensor = scores.unflatten(1, (self.num_heads, -1))
        return result

    def _look_at_words(self, scores: Tensor, keys: Tensor, words: Tensor, word_mask: Tensor) -> Tensor:
        """What each position takes from the words: `(B, N, C)`."""
        query_bias = self.image_query.bias.unflatten(0, (self.num_heads, -1))  # (h, d)
        word_bias = torch.einsum("blhd,hd->bhl", keys, query_bias)
        word_bias = word_bias.masked_fill(~word_mask[:, None], torch.finfo(scores.dtype).min)
        attention = torch.softmax(scores + word_bias.unsqueeze(-1), dim=2)
        attention = F.dropout(attention, self.dropout, self.training)
        values = self.word_value(words).unflatten(2, (self.num_heads, -1))  # (B, L, h, d)
        out_weight = self.image_out.weight.unflatten(1, (self.num_heads, -1))  # (C, h, d)
        folded = torch.einsum("blhd,chd->bhlc", values, out_weight)
        return attention.flatten(1, 2).transpose(1, 2) @ folded.flatten(1, 2) + self.image_out.bias

    def _look_at_image(self, scores: Tensor, image: Tensor, image_mask: Tensor | None) -> Tensor:
        """What each word takes from the image: `(B, L, D)`."""
        if image_mask is not None:
            scores = scores.masked_fill(~image_mask[:, None, None], torch.finfo(scores.dtype).min)
        attention = F.dropout(torch.softmax(scores, dim=3), self.dropout, self.training)
        context = (attention.flatten(1, 2) @ image).unflatten(1, (self.num_heads, -1))  # (B, h, L, C)
        value_weight = self.image_value.weight.unflatten(0, (self.num_heads, -1))  # (h, d, C)
        value_bias = self.image_value.bias.unflatten(0, (self.num_heads, 1, -1))  # (h, 1, d)
        heads = torch.einsum("bhlc,hdc->bhld", context, value_weight)
        heads = heads + attention.sum(dim=3, keepdim=True) * value_bias
        result: Tensor = self.word_out(heads.transpose(1, 2).flatten(2))
        return result
