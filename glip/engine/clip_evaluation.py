"""Numbers of a `ZeroShotClassifier` on files: accuracy by names, and retrieval both ways."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from glip.data.class_folders import LabelledPictures
from glip.data.pairs import Pair
from glip.errors import DataError
from glip.evaluation.zero_shot import accuracy, retrieval_recall
from glip.images import read_ahead, read_image
from glip.zero_shot import ZeroShotClassifier


def zero_shot_accuracy(
    classifier: ZeroShotClassifier, pictures: LabelledPictures, templates: int | Sequence[str]
) -> dict[str, float]:
    """Share of pictures whose class is the most probable one, and among the five most probable.

    Args:
        classifier: the model.
        pictures: with their classes.
        templates: as `ZeroShotClassifier.classify` takes them.

    Returns:
        "top1", "top5" in `[0, 1]`, and "pictures" and "classes", how many there are.

    Raises:
        ImageError: a picture cannot be read.
    """
    vectors = classifier.class_vectors(pictures.names, templates)
    scores = _features(classifier, pictures.images) @ vectors.T
    counts = {"pictures": len(pictures.images), "classes": len(pictures.names)}
    return {**accuracy(scores, torch.tensor(pictures.labels, dtype=torch.int64)), **counts}


def retrieval(classifier: ZeroShotClassifier, pairs: Sequence[Pair]) -> dict[str, float]:
    """Recall@1, 5, 10 of pictures by captions and of captions by pictures; a picture may have several captions.

    Args:
        classifier: the model.
        pairs: pictures of one name are one picture.

    Returns:
        As `glip.evaluation.zero_shot.retrieval_recall`, and "pictures" and "captions", how many there are.

    Raises:
        DataError: there is no caption.
        ImageError: a picture cannot be read.
    """
    asked = [pair for pair in pairs if pair.caption.strip()]
    if not asked:
        raise DataError("retrieval needs at least one picture with a caption, got none")
    firsts = {pair.name: pair for pair in reversed(pairs)}
    places = {name: place for place, name in enumerate(firsts)}
    images = _features(classifier, list(firsts.values()))
    texts = classifier.text_features([pair.caption for pair in asked])
    recall = retrieval_recall(images, texts, [places[pair.name] for pair in asked])
    return {**recall, "pictures": len(places), "captions": len(asked)}


def _features(classifier: ZeroShotClassifier, pictures: Sequence[Pair | Path]) -> Tensor:
    """`(N, D)`; one batch is read while the one before is being encoded."""
    size = classifier.batch_size
    batches = [pictures[start : start + size] for start in range(0, len(pictures), size)]
    parts = [classifier.image_features(read) for read in read_ahead(_read, batches)]
    return torch.cat(parts) if parts else classifier.image_features([])


def _read(batch: Sequence[Pair | Path]) -> list[Image.Image]:
    return [one.read() if isinstance(one, Pair) else read_image(one) for one in batch]
