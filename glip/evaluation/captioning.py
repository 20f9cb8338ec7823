"""Numbers of generated captions: BLEU (Papineni et al. 2002) and CIDEr-D (Vedantam et al. 2015, section 5).

Captions are compared as lists of words; `caption_words` makes them. Published COCO numbers use Stanford's PTB tokenizer
(a Java program); this one makes the same words of plain captions.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain

from glip.errors import ShapeError

ORDERS = (1, 2, 3, 4)  # lengths of n-grams
SIGMA = 6.0  # words of difference in length that CIDEr-D forgives
CIDER_SCALE = 10.0
APOSTROPHE = "\u2019"
_NEGATION = re.compile(r"n't\b")
_WORD = re.compile(r"n't|'(?:s|re|ve|ll|d|m)\b|[^\W_]+(?:[-.,'/](?!(?:s|re|ve|ll|d|m|t)\b)[^\W_]+)*")

Words = Sequence[str]
NGrams = dict[tuple[str, ...], float]


def caption_words(caption: str) -> list[str]:
    """The words of a caption, close to the PTB tokenizer: lower case, without punctuation.

    Hyphens and points inside a word stay ("t-shirt", "3.5"); "'s" and "n't" are words of their own.
    """
    text = caption.lower().replace(APOSTROPHE, "'").replace("cannot", "can not")
    return _WORD.findall(_NEGATION.sub(" n't", text))


def caption_metrics(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """All numbers of generated captions.

    Args:
        captions: one an image.
        references: of each image, what people wrote.

    Returns:
        "BLEU-1" to "BLEU-4" in `[0, 1]` and "CIDEr-D" in `[0, 10]`; 0 where there is no image.

    Raises:
        ShapeError: there is not one caption for each image, or an image has no reference.
    """
    words = [caption_words(caption) for caption in captions]
    truth = [[caption_words(reference) for reference in image] for image in references]
    scores = {f"BLEU-{order}": score for order, score in zip(ORDERS, bleu(words, truth), strict=True)}
    return {**scores, "CIDEr-D": mean(cider_d(words, truth))}


def bleu(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> tuple[float, ...]:
    """BLEU-1 to BLEU-4 of a corpus: clipped counts are summed over all images before they are divided.

    The reference nearest in length counts for the brevity penalty; of two as near, the shorter.

    Args:
        captions: the words of one caption an image.
        references: of each image, the words of its references.

    Returns:
        Four numbers in `[0, 1]`; 0 where no n-gram of a length is right: nothing is smoothed.

    Raises:
        ShapeError: there is not one caption for each image, or an image has no reference.
    """
    _check(captions, references)
    log_precision, scores = 0.0, []
    length = sum(map(len, captions))
    wanted = sum(_nearest_length(words, image) for words, image in zip(captions, references, strict=True))
    brevity = min(0.0, 1 - wanted / length) if length else 0.0
    for order in ORDERS:
        right = sum(_clipped(words, image, order) for words, image in zip(captions, references, strict=True))
        made = sum(max(len(words) - order + 1, 0) for words in captions)
        log_precision += math.log(right / made) if right else -math.inf
        scores.append(math.exp(log_precision / order + brevity))
    return tuple(scores)


def cider_d(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> list[float]:
    """CIDEr-D of each image; how rare an n-gram is, is counted over the references given here.

    As in the authors' released code (and COCO's numbers), n-grams are weighed by their counts, not by shares of the
    caption as the paper writes; the two differ where counts are clipped.

    Args:
        captions: the words of one caption an image.
        references: of each image, the words of its references.

    Returns:
        A number in `[0, 10]` for each image. With one image every n-gram is in all images, and the number is 0.

    Raises:
        ShapeError: there is not one caption for each image, or an image has no reference.
    """
    _check(captions, references)
    rarities = [_rarity(references, order) for order in ORDERS]
    scores = []
    for words, image in zip(captions, references, strict=True):
        similar = [
            _similarity(words, reference, order, rarity) * _length_share(words, reference)
            for reference in image
            for order, rarity in zip(ORDERS, rarities, strict=True)
        ]
        scores.append(CIDER_SCALE * mean(similar))
    return scores


def mean(numbers: Sequence[float]) -> float:
    """The mean; 0 of nothing."""
    return math.fsum(numbers) / len(numbers) if numbers else 0.0


def _similarity(words: Words, reference: Words, order: int, rarity: NGrams) -> float:
    """Cosine of both weighed n-gram vectors, the caption's clipped to the reference's."""
    own, other = _weighed(words, order, rarity), _weighed(reference, order, rarity)
    norms = _norm(own) * _norm(other)
    shared = sum(min(weight, other.get(ngram, 0.0)) * other.get(ngram, 0.0) for ngram, weight in own.items())
    return shared / norms if norms else 0.0


def _length_share(words: Words, reference: Words) -> float:
    """1 for equal lengths, less for others."""
    return math.exp(-((len(words) - len(reference)) ** 2) / (2 * SIGMA**2))


def _weighed(words: Words, order: int, rarity: NGrams) -> NGrams:
    rarest = rarity[()]
    return {ngram: count * rarity.get(ngram, rarest) for ngram, count in _ngrams(words, order).items()}


def _rarity(references: Sequence[Sequence[Words]], order: int) -> NGrams:
    """Logarithm of all images over those whose references have an n-gram; of one never seen, under the key `()`."""
    seen = Counter(chain.from_iterable({g for words in image for g in _ngrams(words, order)} for image in references))
    images = max(len(references), 1)
    return {(): math.log(images), **{ngram: math.log(images / count) for ngram, count in seen.items()}}


def _norm(vector: NGrams) -> float:
    return math.sqrt(math.fsum(weight**2 for weight in vector.values()))


def _clipped(words: Words, references: Iterable[Words], order: int) -> int:
    """How many n-grams are in a reference, each at most as often as in the reference that has it most."""
    most: Counter[tuple[str, ...]] = Counter()
    for reference in references:
        most |= _ngrams(reference, order)
    return (_ngrams(words, order) & most).total()


def _nearest_length(words: Words, references: Iterable[Words]) -> int:
    return min(map(len, references), key=lambda length: (abs(length - len(words)), length))


def _ngrams(words: Words, order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + order]) for start in range(len(words) - order + 1))


def _check(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> None:
    if len(captions) != len(references):
        raise ShapeError(f"each image needs one caption, got {len(captions)} captions of {len(references)} images")
    if not all(references):
        raise ShapeError(
            f"each image needs a reference; image {[bool(image) for image in references].index(False)} has none"
        )
