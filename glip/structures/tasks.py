"""What the switchable heads read, say, and learn from (GLIPv2, Zhang et al. 2022, arXiv 2206.05836)."""

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor
from transformers.utils.generic import ModelOutput

IGNORED = -100  # a label that no loss counts; torch's own


@dataclass(frozen=True, eq=False)
class _Tensors:
    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return replace(self, **{entry.name: _moved(getattr(self, entry.name), device) for entry in fields(self)})


@dataclass(frozen=True, eq=False)
class TaskInputs(_Tensors):
    """What heads are asked, besides picture and caption; a head without its question stays silent.

    Attributes:
        boxes: of each image `(N, 4)` xyxy pixels of the network's image, whose masks are wanted.
        token_maps: of each image `(N, L)` bool, the tokens that name each box.
        hidden_words: `(B, L)` bool, True where the word is to be guessed.
        described: `(R,)` int64, the images that are to be described.
        description_ids: `(R, T)` int64, the start of each description; the next token of each place is guessed.
    """

    boxes: tuple[Tensor, ...] | None = None
    token_maps: tuple[Tensor, ...] | None = None
    hidden_words: Tensor | None = None
    described: Tensor | None = None
    description_ids: Tensor | None = None


@dataclass
class TaskOutput(ModelOutput):
    """What the heads say; None where a head is missing or was not asked.

    Attributes:
        mask_logits: `(N, S, S)` of the boxes of all images behind each other: is this place of the box its thing?
        word_mask_logits: the same, asked with the words that name the box.
        word_logits: `(M, V)`, which word each hidden one is; in the order of `hidden_words.nonzero()`.
        description_logits: `(R, T, V)`, the next token at each place of each description.
        answer_logits: `(B, K)`, is this the answer to the caption, read as a question?
        region_embeddings: `(B, A, E)` of L2 norm 1, of every anchor before it has seen a word.
        word_embeddings: `(B, L, E)` of L2 norm 1, of every token before it has seen an image.
        contrast_scale: scalar that their similarities are multiplied with.
    """

    mask_logits: Tensor | None = None
    word_mask_logits: Tensor | None = None
    word_logits: Tensor | None = None
    description_logits: Tensor | None = None
    answer_logits: Tensor | None = None
    region_embeddings: Tensor | None = None
    word_embeddings: Tensor | None = None
    contrast_scale: Tensor | None = None


@dataclass(frozen=True, eq=False)
class TaskTruth(_Tensors):
    """The truth of a batch beyond boxes, for the heads that the network has; None for the others.

    Attributes:
        word_labels: `(B, L)` int64, the words that were hidden; `IGNORED` elsewhere.
        described: `(R,)` int64, the images with a description.
        descriptions: `(R, T + 1)` int64 from the start token to the end token, padded with 0.
        answers: `(B, K)` float in `[0, 1]`, how right each answer is.
        is_asked: `(B,)` bool, True where the caption is a question with known answers.
        token_keys: `(B, L)` int64, which thing a token names, equal for equal names; 0 for none.
        token_nouns: `(B, L)` int64, likewise for its noun alone.
    """

    word_labels: Tensor | None = None
    described: Tensor | None = None
    descriptions: Tensor | None = None
    answers: Tensor | None = None
    is_asked: Tensor | None = None
    token_keys: Tensor | None = None
    token_nouns: Tensor | None = None


def _moved(value: Tensor | tuple[Tensor, ...] | None, device: torch.device | str) -> Tensor | tuple[Tensor, ...] | None:
    if isinstance(value, tuple):
        return tuple(one.to(device) for one in value)
    return None if value is None else value.to(device)
