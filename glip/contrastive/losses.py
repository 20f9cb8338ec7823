"""Losses of image-text pairs: CLIP's (Radford et al. 2021, section 2.3) and SigLIP's (Zhai et al. 2023, equation 1).

Both take the batch of all processes. A loss is the mean over processes of what each returns; where gradients are
averaged over processes (DistributedDataParallel does), they are those of one process with the whole batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from glip.errors import ConfigError, ShapeError
from glip.layers.gathering import gather_rows, process_index
from glip.structures.output import ClipOutput


@dataclass(frozen=True)
class InfoNceLoss:
    """CLIP's loss: which text belongs to an image, and which image to a text, by cross-entropy both ways.

    Attributes:
        local_loss: whether a process scores its own B images and texts against all (B x N similarities each way), or
            every process all of them (N x N). The gradients are the same.
        chunk_size: rows of similarities that are held at a time; they are computed again in the backward pass. None
            for all at once.
    """

    local_loss: bool = True
    chunk_size: int | None = None

    def __post_init__(self) -> None:
        """Refuse an impossible chunk."""
        _check_chunk(self.chunk_size)

    def __call__(self, output: ClipOutput, groups: Tensor | None = None) -> Tensor:
        """The loss of this process.

        Args:
            output: of B pairs; row b of the images belongs to row b of the texts.
            groups: `(B,)` int64; pairs of one group, such as those of one caption, are not each other's negatives. None
                where every pair is its own.

        Returns:
            A scalar, in nats.

        Raises:
            ShapeError: there is no pair, or the features do not pair up.
        """
        pairs = _collect(output, groups, local_loss=self.local_loss)
        images = self._one_way(pairs.images, pairs.all_texts, pairs, output.logit_scale)
        texts = self._one_way(pairs.texts, pairs.all_images, pairs, output.logit_scale)
        return (images + texts) / 2

    def _one_way(self, queries: Tensor, keys: Tensor, pairs: "_Pairs", scale: Tensor) -> Tensor:
        losses = [
            checkpoint(_cross_entropy, queries[rows], keys, scale, *pairs.partners(rows), use_reentrant=False)
            if self.chunk_size is not None
            else _cross_entropy(queries[rows], keys, scale, *pairs.partners(rows))
            for rows in _chunks(len(queries), self.chunk_size)
        ]
        return torch.stack(losses).sum() / len(queries)


@dataclass(frozen=True)
class SigmoidLoss:
    """SigLIP's loss: does this text belong to this image, yes or no, for every combination.

    Attributes:
        local_loss: as `InfoNceLoss` has it.
        chunk_size: as `InfoNceLoss` has it.
    """

    local_loss: bool = True
    chunk_size: int | None = None

    def __post_init__(self) -> None:
        """Refuse an impossible chunk."""
        _check_chunk(self.chunk_size)

    def __call__(self, output: ClipOutput, groups: Tensor | None = None) -> Tensor:
        """The loss of this process.

        Args:
            output: of B pairs, with a bias.
            groups: as `InfoNceLoss` takes them.

        Returns:
            A scalar: the sum over all combinations of an image and a text, divided by the number of images.

        Raises:
            ShapeError: there is no pair, or the features do not pair up.
            ConfigError: the network has no bias.
        """
        if output.logit_bias is None:
            raise ConfigError("the sigmoid loss needs a network with a bias: ClipConfig(initial_bias=-10.0)")
        pairs = _collect(output, groups, local_loss=self.local_loss)
        numbers = (output.logit_scale, output.logit_bias)
        losses = [
            checkpoint(
                _sigmoid, pairs.images[rows], pairs.all_texts, *numbers, *pairs.partners(rows), use_reentrant=False
            )
            if self.chunk_size is not None
            else _sigmoid(pairs.images[rows], pairs.all_texts, *numbers, *pairs.partners(rows))
            for rows in _chunks(len(pairs.images), self.chunk_size)
        ]
        return torch.stack(losses).sum() / len(pairs.images)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """What a process scores: B or N rows of its own against all N.

    Attributes:
        images: `(R, D)`.
        texts: `(R, D)`.
        all_images: `(N, D)`.
        all_texts: `(N, D)`.
        first: place of row 0 among all N.
        groups: `(N,)`, or None.
    """

    images: Tensor
    texts: Tensor
    all_images: Tensor
    all_texts: Tensor
    first: int
    groups: Tensor | None

    def partners(self, rows: slice) -> tuple[Tensor, Tensor | None]:
        """Of some rows, where each one's partner is among all N `(R,)`, and which keys are left out `(R, N)`."""
        places = torch.arange(rows.start, rows.stop, device=self.images.device) + self.first
        if self.groups is None:
            return places, None
        ignored = self.groups[places, None] == self.groups
        return places, ignored.scatter(1, places[:, None], value=False)


def _collect(output: ClipOutput, groups: Tensor | None, *, local_loss: bool) -> _Pairs:
    images, texts = output.image_features, output.text_features
    if images.ndim != 2 or images.shape != texts.shape or not len(images):
        raise ShapeError(
            f"pairs need image and text features of one shape (B, D), B at least 1, got {tuple(images.shape)} and "
            f"{tuple(texts.shape)}"
        )
    if groups is not None and groups.shape != images.shape[:1]:
        raise ShapeError(f"groups must be ({len(images)},), one for each pair, got {tuple(groups.shape)}")
    # one exchange for both: its backward pass is one exchange, too, in the same order on every process
    both = gather_rows(torch.cat([images, texts], dim=1))
    all_images, all_texts = both.split(images.shape[1], dim=1)
    everyone = None if groups is None else gather_rows(groups)
    if local_loss:
        return _Pairs(images, texts, all_images, all_texts, process_index() * len(images), everyone)
    return _Pairs(all_images, all_texts, all_images, all_texts, 0, everyone)


def _cross_entropy(queries: Tensor, keys: Tensor, scale: Tensor, partners: Tensor, ignored: Tensor | None) -> Tensor:
    """Sum over the queries of -log softmax at the partner."""
    logits = scale * queries @ keys.T
    if ignored is not None:
        logits = logits.masked_fill(ignored, -torch.inf)
    return F.cross_entropy(logits, partners, reduction="sum")


def _sigmoid(
    queries: Tensor, keys: Tensor, scale: Tensor, bias: Tensor, partners: Tensor, ignored: Tensor | None
) -> Tensor:
    """Sum over all combinations of -log sigmoid of the logit, its sign turned where the two do not belong together."""
    logits = scale * queries @ keys.T + bias
    signs = torch.full_like(logits, -1.0).scatter(1, partners[:, None], value=1.0)
    losses = -F.logsigmoid(signs * logits)
    return losses.sum() if ignored is None else losses.masked_fill(ignored, 0.0).sum()


def _chunks(count: int, size: int | None) -> list[slice]:
    step = count if size is None else size
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def _check_chunk(size: int | None) -> None:
    if size is not None and size < 1:
        raise ConfigError(f"chunk_size must be at least 1, or None for no chunks, got {size}")
