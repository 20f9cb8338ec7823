"""What an expression would say of another thing: the same words with one of them turned into its opposite."""

import re
from collections.abc import Mapping
from itertools import zip_longest

PAIRS = (
    *("left right", "leftmost rightmost", "top bottom", "upper lower", "above below", "front back"),
    *("foreground background", "closest farthest", "closer farther", "big small", "bigger smaller", "biggest smallest"),
    *(
        "huge tiny",
        "tall short",
        "taller shorter",
        "tallest shortest",
        "long short",
        "longer shorter",
        "longest shortest",
    ),
)
LIKE = {
    "large": "big",
    "larger": "bigger",
    "largest": "biggest",
    "little": "small",
    "nearest": "closest",
    "nearer": "closer",
}
CONTRASTS = ("red", "green", "white", "black", "blue")  # a colour's opposites are the first three that it is not
MOST_OPPOSITES = 3
COLOURS = frozenset((*CONTRASTS, *"yellow orange purple pink brown grey gray silver beige tan violet".split()))
THINGS = frozenset(["orange", "violet"])  # colours that are things, too, unless another noun follows

_WORD = re.compile(r"[^\W\d_]+")
_NO_NOUN = frozenset(
    "a an the on in at to of with by near next behind under over above below from that which who is are beside between "
    "inside for".split()
)


def _table() -> Mapping[str, tuple[str, ...]]:
    table: dict[str, tuple[str, ...]] = {}
    for one, other in (pair.split() for pair in PAIRS):
        table[one] = (*table.get(one, ()), other)
        table[other] = (*table.get(other, ()), one)
    return table | {word: table[same] for word, same in LIKE.items()}


OPPOSITES = _table()


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
        is_joined = "-" in (text[start - 1 : start], text[end : end + 1])  # "red-orange" is neither
        others = _opposites(word.group().lower(), after.group().lower() if after else "", is_joined=is_joined)
        if others:
            variants.append(tuple(text[:start] + other + text[end:] for other in others))
    return tuple(variants)


def _opposites(word: str, after: str, *, is_joined: bool) -> tuple[str, ...]:
    if word not in COLOURS:
        return OPPOSITES.get(word, ())
    is_thing = word in THINGS and (not after or after in _NO_NOUN)
    return () if is_thing or is_joined else tuple(colour for colour in CONTRASTS if colour != word)[:MOST_OPPOSITES]
