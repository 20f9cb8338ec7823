"""Numbers of features: accuracy of zero-shot classification, and recall of retrieval with several captions an image."""

from collections.abc import Sequence

import torch
from torch import Tensor

from glip.errors import ShapeError

ACCURACY_RANKS = (1, 5)
RECALL_RANKS = (1, 5, 10)
ROWS = 1024  # similarities are looked at so many rows at a time


def accuracy(scores: Tensor, labels: Tensor) -> dict[str, float]:
    """Share of pictures whose class is among the k of highest score; of equal scores the earlier class wins.

    Args:
        scores: `(N, C)`.
        labels: `(N,)` int64, the true classes.

    Returns:
        "top1" and "top5" in `[0, 1]`; 0 where there is no picture.

    Raises:
        ShapeError: there is not one label for each row, or a label is no class.
    """
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ShapeError(f"each picture needs a label, got scores {tuple(scores.shape)}, labels {tuple(labels.shape)}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < scores.shape[1]:
        raise ShapeError(f"labels must be in [0, {scores.shape[1]}), got {int(labels.min())} to {int(labels.max())}")
    ranks = _places_before(scores, labels.unsqueeze(1))
    return {f"top{k}": _share(ranks < k) for k in ACCURACY_RANKS}


def retrieval_recall(image_features: Tensor, text_features: Tensor, image_of_text: Sequence[int]) -> dict[str, float]:
    """Recall@k both ways. A text finds its image; an image finds any one of its texts.

    Of equal similarities the earlier row counts as nearer.

    Args:
        image_features: `(B, D)` of norm 1.
        text_features: `(T, D)` of norm 1.
        image_of_text: for each text, the image that it belongs to.

    Returns:
        "text_to_image_recall@k" and "image_to_text_recall@k" in `[0, 1]` for k = 1, 5, 10; images without a text are
        searched but do not ask.

    Raises:
        ShapeError: there is not one image for each text.
    """
    owners = torch.tensor(list(image_of_text), dtype=torch.int64)
    known = ((owners >= 0) & (owners < len(image_features))).all()
    if owners.shape != text_features.shape[:1] or not known:
        raise ShapeError(
            f"each of {len(text_features)} texts needs the number of one of {len(image_features)} images, got "
            f"{len(owners)} numbers"
        )
    to_image = torch.cat(
        [torch.empty(0, dtype=torch.int64)]
        + [
            _places_before(texts @ image_features.T, own.unsqueeze(1))
            for texts, own in zip(text_features.split(ROWS), owners.split(ROWS), strict=True)
        ]
    )
    to_text = _best_of_each_image(image_features, text_features, owners)
    numbers = {f"text_to_image_recall@{k}": _share(to_image < k) for k in RECALL_RANKS}
    return numbers | {f"image_to_text_recall@{k}": _share(to_text < k) for k in RECALL_RANKS}


def _best_of_each_image(images: Tensor, texts: Tensor, owners: Tensor) -> Tensor:
    """Of each image that has texts, how many texts are nearer than its own nearest."""
    found = []
    for image in owners.unique().tolist():
        similarities = texts @ images[image]
        own = (owners == image).nonzero().flatten()
        nearest = own[similarities[own].argmax()]
        found.append(_places_before(similarities.unsqueeze(0), nearest.view(1, 1)))
    return torch.cat(found) if found else torch.empty(0, dtype=torch.int64)


def _places_before(scores: Tensor, chosen: Tensor) -> Tensor:
    """How many columns stand before the chosen one of each row: `(N, C)` and `(N, 1)` to `(N,)`."""
    own = scores.gather(1, chosen)
    columns = torch.arange(scores.shape[1], device=scores.device)
    return ((scores > own) | ((scores == own) & (columns < chosen))).sum(dim=1)


def _share(hits: Tensor) -> float:
    return float(hits.float().mean()) if len(hits) else 0.0
