"""Noun phrases of a sentence, with their character offsets. No download, no model.

A rule chunker for captions: a phrase is a run of words that are neither function words nor verbs, with the
determiners, numbers and possessives in front of it. Its lists are closed classes and the verbs of image captions.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

from glip.errors import ConfigError
from glip.structures.prompt import Span

# Letters and digits, with the accents that are characters of their own; hyphens and apostrophes inside; or one sign.
_WORD = re.compile(r"[^\W_](?:['\u2019\-]?(?:[^\W_]|[\u0300-\u036F]))*|[^\w\s]", re.UNICODE)

_OPENERS = set(
    """a an the this that these those some any each every both several many few no another all half
    my your his her its our their whose one two three four five six seven eight nine ten eleven twelve dozen""".split()
)
_BREAKERS = set(
    """about above across after against along alongside amid among around as at atop before behind below beneath beside
    besides between beyond by down during for from in inside into near next of off on onto opposite out outside over
    past through throughout to toward towards under underneath until up upon via with within without
    and or but nor so yet while when where which who whom that's than then there here because if though although
    is are was were be been being am has have had having do does did can could will would shall should may might must
    i you he she it we they me him us them himself herself itself themselves someone somebody something everyone
    not very too just also only still together away apart back forward ahead each-other
    what how why""".split()
)
_PRONOUN_LIKE = set("one both some each all another few several many that this these those".split())
_VERBS = set(
    """sit sits stand stands lie lies lay lays walk walks run runs hold holds wear wears ride rides look looks play
    plays eat eats drink drinks drive drives fly flies jump jumps swim swims carry carries watch watches use uses hang
    hangs rest rests show shows see sees seen find finds take takes get gets go goes make makes put puts catch catches
    throw throws hit hits kick kicks swing swings pull pulls push pushes lean leans pose poses smile smiles sleep
    sleeps graze grazes fill fills contain contains surround surrounds cover covers face faces read reads wait waits
    talk talks cook cooks reach reaches point points touch touches feed feeds climb climbs perch perches sits float
    floats grow grows appear appears seem seems lead leads prepare prepares perform performs help helps try tries
    sat stood lay held worn ridden eaten taken made parked seated located placed left filled covered surrounded
    attached tied stacked mounted displayed gathered lined dressed topped leans used held""".split()
)
# -ing words that are nouns or nearly always stand inside a noun phrase.
_ING_NOUNS = set(
    """building ceiling clothing string wing ring king morning evening painting drawing railing awning icing crossing
    wedding awning bedding dressing topping covering landing parking something anything nothing everything duckling
    gosling sling swing spring pudding earring keyring lightning lighting flooring siding""".split()
)
# -ing words that stand inside a noun phrase only in front of a noun: "a washing machine", not "is washing a car".
_ING_MODIFIERS = set(
    "dining living sleeping flying running washing cutting frying rocking shopping baking cooking fishing racing"
    " skiing".split()
)
_COLOURS = set("black white red green blue yellow brown orange pink purple grey gray silver gold tan beige".split())
_NEVER_ALONE = set("top front side middle center centre left right bottom background foreground lot bunch".split())


def find_noun_phrases(sentence: str, *, engine: Literal["rules", "spacy"] = "rules") -> list[Span]:
    """Where the noun phrases of a sentence stand, in order.

    Args:
        sentence: any text; English is understood.
        engine: "rules" for the built-in chunker, "spacy" for spaCy's parser (the `noun-phrases` extra and its model
            `en_core_web_sm` must be installed).

    Returns:
        Half-open character spans that do not overlap, each with its determiner ("a red ball"); empty if none.

    Raises:
        ConfigError: spaCy or its model is asked for and not installed.
    """
    return _with_spacy(sentence) if engine == "spacy" else _with_rules(sentence)


def _with_rules(sentence: str) -> list[Span]:
    words = [match.span() for match in _WORD.finditer(sentence)]
    texts = [sentence[start:end].lower().replace("\u2019", "'") for start, end in words]
    runs: list[list[int]] = [[]]
    for index in range(len(texts)):
        if _ends_phrase(texts, index, run=runs[-1]):
            runs.append([])
        if _may_stand_inside(texts, index, run=runs[-1]):
            runs[-1].append(index)
    kept = [run for run in runs if _names_something([texts[index] for index in run])]
    return [(words[run[0]][0], words[run[-1]][1]) for run in kept]


def _ends_phrase(texts: list[str], index: int, *, run: list[int]) -> bool:
    """Whether a new phrase starts at this word, or the running one stops before it."""
    text = texts[index]
    if _joins_colours(texts, index):
        return False
    if not text[0].isalnum() or _is_breaker(text):
        return True
    has_noun = any(texts[inside] not in _OPENERS for inside in run)
    if text in _OPENERS:
        return has_noun or text not in _OPENERS
    return has_noun and _is_verb(texts, index)


def _may_stand_inside(texts: list[str], index: int, *, run: list[int]) -> bool:
    text = texts[index]
    if _joins_colours(texts, index):
        return True
    if not text[0].isalnum() or _is_breaker(text):
        return False
    if text in _OPENERS or run:
        return not (_is_verb(texts, index) and any(texts[inside] not in _OPENERS for inside in run))
    return not _is_verb(texts, index)


def _is_breaker(text: str) -> bool:
    """A function word, alone or with its verb or "not": "he", "he's", "isn't"."""
    return text in _BREAKERS or text.partition("'")[0] in _BREAKERS or text.endswith("n't")


def _joins_colours(texts: list[str], index: int) -> bool:
    """Whether this is the "and" of "a black and white dog"."""
    neighbours = texts[max(index - 1, 0) : index] + texts[index + 1 : index + 2]
    return texts[index] == "and" and len(neighbours) == 2 and _COLOURS.issuperset(neighbours)


def _is_verb(texts: list[str], index: int) -> bool:
    text = texts[index]
    if text in _ING_MODIFIERS:
        following = texts[index + 1] if index + 1 < len(texts) else "."
        return not following[0].isalnum() or following in _OPENERS or _is_breaker(following)
    return text in _VERBS or (text.endswith("ing") and len(text) > 4 and text not in _ING_NOUNS)


def _names_something(run: list[str]) -> bool:
    content = [text for text in run if text not in _OPENERS and text not in _PRONOUN_LIKE]
    return bool(content) and not (content[-1] in _NEVER_ALONE and len(content) == 1)


def _with_spacy(sentence: str) -> list[Span]:
    try:
        import spacy

        parser = _loaded(spacy.load)
    except (ImportError, OSError) as error:
        raise ConfigError(
            "noun phrases by spaCy need the package and its model: pip install 'glip-for-everyone[noun-phrases]' and "
            "python -m spacy download en_core_web_sm; or use engine='rules'"
        ) from error
    return [(chunk.start_char, chunk.end_char) for chunk in parser(sentence).noun_chunks if chunk.root.pos_ != "PRON"]


@lru_cache(maxsize=1)
def _loaded(load: Callable[[str], Any]) -> Any:
    """The parser, loaded for the first sentence and kept for all others."""
    return load("en_core_web_sm")
