"""What an expression would say of another thing: the same words with one of them turned into its opposite."""

import re
from collections.abc import Mapping
from itertools import zip_longest

OPPOSITES: Mapping[str, tuple[str, ...]] = {
    word: (other,)
    for pair in (
        *("left right", "leftmost rightmost", "top bottom", "upper lower", "above below", "over under"),
        *("front back", "foreground background", "nearest farthest", "closest farthest", "closer farther"),
        *("big small", "bigger smaller", "biggest smallest", "large small", "larger smaller", "largest smallest"),
        *("huge tiny", "tall short", "taller shorter", "tallest shortest", "long short", "longer shorter"),
    )
    for word, other in (pair.split(), pair.split()[::-1])
} | {"little": ("big",), "small": ("big",), "smaller": ("bigger",), "smallest": ("biggest",)}
CONTRASTS = ("red", "green", "white", "black", "blue")  # a colour's opposites are the first three that it is not
MOST_OPPOSITES = 3
COLOURS = frozenset((*CONTRASTS, *"yellow orange purple pink brown grey gray silver golden beige tan violet".split()))
THINGS = frozenset(["orange", "violet"])  # colours that are things, too, unless another noun follows

_WORD = re.compile(r"(?<!-)\b[^\W\d_]+\b(?!-)")  # "red-orange" is neither
_NO_NOUN = frozenset(
    "a an the on in at to of with and or by near next behind under over above below from that which who is are beside "
    "between inside for".split()
)


def opposite_texts(text: str) -> tuple[tuple[str, ...], ...]:
    """Variants of a text, for each of its words that has opposites.

    Args:
        text: an expression such as "the small dog on the left".

    Returns:
        For each side, size, distance and colour in it, in their order, the text with each of the word's opposites in
        its place: `(("the big dog on the left",), ("the small dog on the right",))`. Empty where there is no such word.
    """
    words = list(_WORD.finditer(text))
    variants = []
    for word, after in zip_longest(words, words[1:]):
        start, end = word.span()
        others = _opposites(word.group().lower(), after.group().lower() if after else "")
        if others:
            variants.append(tuple(text[:start] + other + text[end:] for other in others))
    return tuple(variants)


def _opposites(word: str, after: str) -> tuple[str, ...]:
    if word in COLOURS and not (word in THINGS and (not after or after in _NO_NOUN)):
        return tuple(colour for colour in CONTRASTS if colour != word)[:MOST_OPPOSITES]
    return OPPOSITES.get(word, ())
