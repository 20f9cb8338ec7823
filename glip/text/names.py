"""When two phrases name one thing."""

import hashlib
import re

from glip.text.prompts import clean_class_name

_ARTICLE = re.compile(r"^(?:a|an|the|this|that|these|those|some|its|his|her|their)\s+")
_TAIL = re.compile(r"\s+(?:of|with|in|on|at|from|near|behind|under|left|right|above|below)\b.*$")


def name_key(phrase: str) -> int:
    """A number that is equal for equal names, whatever their case, article and plural: "Dogs", "the dog".

    Equal in every process; never 0 but for a phrase without a word.
    """
    return _number(_plain(phrase))


def noun_key(phrase: str) -> int:
    """The same for the phrase's noun alone: "a red ball in the grass" and "balls" share it."""
    words = _TAIL.sub("", _plain(phrase)).split()
    return _number(words[-1] if words else "")


def _plain(phrase: str) -> str:
    """Lower case, no article in front, the last word in the singular."""
    words = _ARTICLE.sub("", " ".join(re.findall(r"[^\W_]+", clean_class_name(phrase).lower()))).split()
    return " ".join(_singular(word) for word in words)


def _singular(word: str) -> str:
    """A plain guess that turns both numbers of a noun into one word; not always a word of English."""
    return word.removesuffix("s") if len(word) > 3 and not word.endswith(("ss", "us", "is")) else word


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big") if text else 0
