"""A sentence about an image, word by word (GLIPv2, section 3.1: captioning as language modelling).

The decoder looks at the image before any word has touched it: what has read the whole sentence would tell each word
the ones behind it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from glip.errors import PromptError
from glip.layers.decoder import DecoderLayer, Memory, causal_mask
from glip.layers.grid import GridEncoder
from glip.models.heads.words import WordHead


class CaptionHead(nn.Module):
    """A small transformer decoder that shares the text encoder's word embeddings.

    Args:
        channels: C of image positions.
        text_dim: D of words.
        num_heads: attention heads; must divide D.
        vocabulary: V, the number of tokens.
        layers: of the decoder.
        max_tokens: longest description, start and end included.
        grid: most places of the image along a side.
    """

    def __init__(
        self, channels: int, text_dim: int, *, num_heads: int, vocabulary: int, layers: int, max_tokens: int, grid: int
    ) -> None:
        super().__init__()
        self.grid = GridEncoder(channels, text_dim, side=grid)
        self.positions = nn.Parameter(torch.randn(max_tokens, text_dim) * 0.02)  # BERT's
        self.start_norm = nn.LayerNorm(text_dim)
        self.layers = nn.ModuleList(
            DecoderLayer(text_dim, num_heads=num_heads, feedforward_dim=4 * text_dim) for _ in range(layers)
        )
        self.end_norm = nn.LayerNorm(text_dim)
        self.word = WordHead(text_dim, vocabulary)

    def forward(self, ids: Tensor, level: Tensor, level_mask: Tensor, embedding: Tensor) -> Tensor:
        """What follows each place of a description that is known.

        Args:
            ids: `(B, T)` int64, from the start token on.
            level: plain map, `(B, C, H, W)`.
            level_mask: `(B, H, W)` bool, True on the image.
            embedding: `(V, D)`, the text encoder's word embeddings.

        Returns:
            `(B, T, V)` logits; those at place t depend on ids up to t only.

        Raises:
            PromptError: the description is longer than the head was made for.
        """
        return self.step(ids, self.look_at(level, level_mask), embedding)[0]

    def look_at(self, level: Tensor, level_mask: Tensor) -> list[Memory]:
        """Each layer's memory before the first word; the image's share of the work is done once."""
        places, mask = self.grid(level, level_mask)
        return [layer.look_at(places, mask) for layer in self._layers()]

    def step(self, ids: Tensor, memory: Sequence[Memory], embedding: Tensor) -> tuple[Tensor, list[Memory]]:
        """Go on from what is remembered.

        Args:
            ids: `(B, L)` int64, the next tokens.
            memory: of each layer.
            embedding: `(V, D)`.

        Returns:
            `(B, L, V)` logits of the token behind each, and the memories with these tokens in them.

        Raises:
            PromptError: the description is longer than the head was made for.
        """
        before = memory[0].keys.shape[2]
        end = before + ids.shape[1]
        if end > len(self.positions):
            raise PromptError(f"a description may have {len(self.positions)} tokens, got {end}: shorten it")
        words = self.start_norm(embedding[ids] + self.positions[before:end])
        mask = causal_mask(ids.shape[1], before, device=ids.device)
        remembered = []
        for layer, past in zip(self._layers(), memory, strict=True):
            words, now = layer(words, past, mask)
            remembered.append(now)
        return self.word(self.end_norm(words), embedding), remembered

    def _layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]
