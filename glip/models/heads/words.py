"""Which word stands here: the output of a masked language model (Devlin et al. 2019, section 3.1)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class WordHead(nn.Module):
    """Features to the vocabulary, by likeness with the text encoder's own word embeddings.

    Args:
        dim: D of words.
        vocabulary: V, the number of tokens.
    """

    def __init__(self, dim: int, vocabulary: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, words: Tensor, embedding: Tensor) -> Tensor:
        """Guess words.

        Args:
            words: `(..., D)`.
            embedding: `(V, D)`, the text encoder's; shared, not copied.

        Returns:
            `(..., V)` logits.
        """
        thought: Tensor = self.norm(F.gelu(self.dense(words)))
        return thought @ embedding.to(thought.dtype).T + self.bias
