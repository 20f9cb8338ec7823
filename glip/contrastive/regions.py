"""Regions and words of all images against each other (GLIPv2, section 3.2: inter-image region-word contrast)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from glip.layers.gathering import gather_rows, largest_of_processes, process_index
from glip.structures.tasks import TaskOutput, TaskTruth

MOST_REGIONS = 100  # of an image; what its boxes leave over is filled with random other anchors


class RegionWordLoss:
    """Cross-entropy from regions to words and back, over the batch of all processes.

    A region belongs to its own caption's words for it, and to words of other captions whose phrase has the same name.
    Words of others that only share the noun ("a red ball", "the ball") may or may not be true of it: they do not count.

    Args:
        most_regions: anchors of an image that take part.
        reduce_mean: mean of a number over all training processes; None for one process.
    """

    def __init__(
        self, *, most_regions: int = MOST_REGIONS, reduce_mean: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.most_regions = most_regions
        self.reduce_mean = reduce_mean or (lambda number: number)

    def __call__(
        self,
        said: TaskOutput,
        word_mask: Tensor,
        assigned: Sequence[Tensor],
        token_maps: Sequence[Tensor],
        truth: TaskTruth,
    ) -> Tensor:
        """The loss of this process. All processes must call.

        Args:
            said: with embeddings of B images' anchors and words.
            word_mask: `(B, L)` bool, True on real tokens.
            assigned: of each image `(A,)` int64, the box of each anchor, negative for none; every box counts from 0.
            token_maps: of each image `(N, L)` bool, the tokens that name each box.
            truth: with `token_keys` and `token_nouns`.

        Returns:
            A scalar, in nats; 0 where no region belongs to a word.
        """
        assert said.region_embeddings is not None
        assert said.word_embeddings is not None
        assert said.contrast_scale is not None
        words = _words(said.word_embeddings, word_mask, truth)
        regions, own = self._regions(said.region_embeddings, assigned, token_maps, words)
        to_words = self._one_way(regions, words.everyone(), said.contrast_scale, own)
        to_regions = self._one_way(words, regions.everyone(), said.contrast_scale, own.T)
        return (to_words + to_regions) / 2

    def _regions(
        self, embeddings: Tensor, assigned: Sequence[Tensor], token_maps: Sequence[Tensor], words: "_Side"
    ) -> tuple["_Side", Tensor]:
        """The anchors that take part, `B * most_regions` of them, and which of this process's words name each."""
        batch, length = len(embeddings), len(words.keys) // max(len(embeddings), 1)
        boxes = torch.stack(list(assigned))  # (B, A)
        count = min(self.most_regions, boxes.shape[1])
        luck = torch.rand(boxes.shape, device=boxes.device) + (boxes >= 0)  # boxes' anchors come first
        chosen = luck.topk(count, dim=1).indices
        picked = embeddings.gather(1, chosen.unsqueeze(-1).expand(-1, -1, embeddings.shape[2]))
        own = torch.zeros(batch, self.most_regions, batch, length, dtype=torch.bool, device=boxes.device)
        for image, (box, anchors, token_map) in enumerate(zip(boxes, chosen, token_maps, strict=True)):
            places = (box[anchors] >= 0).nonzero().squeeze(1)
            own[image, places, image, : token_map.shape[1]] = token_map[box[anchors[places]]]
        named = own.flatten(2).flatten(0, 1)  # (regions, words)
        first = named.to(torch.int8).argmax(dim=1)
        keys, nouns = (torch.where(named.any(dim=1), numbers[first], 0) for numbers in (words.keys, words.nouns))
        is_real = torch.arange(self.most_regions, device=boxes.device).expand(batch, -1) < count
        missing = self.most_regions - count
        return _Side(
            F.pad(picked, (0, 0, 0, missing)).flatten(0, 1),
            keys,
            nouns,
            _images(batch, self.most_regions, boxes.device),
            is_real.flatten(),
        ), named

    def _one_way(self, queries: "_Side", everyone: "_Side", scale: Tensor, own: Tensor) -> Tensor:
        """Mean over the queries that belong somewhere of -log softmax at what they belong to, on average."""
        foreign = queries.images[:, None] != everyone.images
        positive = foreign & (queries.keys[:, None] == everyone.keys) & (queries.keys[:, None] != 0)
        start = process_index() * own.shape[1]
        positive[:, start : start + own.shape[1]] |= own
        doubtful = foreign & ~positive & (queries.nouns[:, None] == everyone.nouns) & (queries.nouns[:, None] != 0)
        positive &= everyone.is_real
        asked = positive.any(dim=1) & queries.is_real
        positive, doubtful = positive[asked], doubtful[asked]
        logits = scale * queries.embeddings[asked] @ everyone.embeddings.T
        logs = logits.masked_fill(doubtful | ~everyone.is_real, -torch.inf).log_softmax(dim=1)
        losses = -logs.masked_fill(~positive, 0.0).sum(dim=1) / positive.sum(dim=1).clamp(min=1)
        return losses.sum() / self.reduce_mean(asked.sum().to(logs.dtype)).clamp(min=1)


@dataclass(frozen=True, eq=False)
class _Side:
    """Regions, or words.

    Attributes:
        embeddings: `(M, E)`.
        keys: `(M,)` int64, their names as numbers; 0 for none.
        nouns: `(M,)` int64, likewise their nouns.
        images: `(M,)` int64, where they are.
        is_real: `(M,)` bool, False for padding.
    """

    embeddings: Tensor
    keys: Tensor
    nouns: Tensor
    images: Tensor
    is_real: Tensor

    def everyone(self) -> "_Side":
        """Those of all processes."""
        numbers = torch.stack([self.keys, self.nouns, self.images, self.is_real.long()], dim=1)
        keys, nouns, images, is_real = gather_rows(numbers).unbind(dim=1)
        return _Side(gather_rows(self.embeddings), keys, nouns, images, is_real.bool())


def _words(embeddings: Tensor, word_mask: Tensor, truth: TaskTruth) -> _Side:
    """All tokens of the captions, padded to the longest of all processes."""
    assert truth.token_keys is not None
    assert truth.token_nouns is not None
    batch, length = word_mask.shape
    longest = largest_of_processes(length, device=embeddings.device)
    keys, nouns, is_real = (
        F.pad(numbers, (0, longest - length)).flatten() for numbers in (truth.token_keys, truth.token_nouns, word_mask)
    )
    embeddings = F.pad(embeddings, (0, 0, 0, longest - length)).flatten(0, 1)
    return _Side(embeddings, keys, nouns, _images(batch, longest, keys.device), is_real)


def _images(batch: int, count: int, device: torch.device) -> Tensor:
    """Which image each of `count` things of each of this process's images is of; no two processes share a number."""
    first = process_index() * batch
    return torch.arange(first, first + batch, device=device).repeat_interleave(count)
