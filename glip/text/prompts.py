"""From the caller's words to a `Prompt`: a caption and the character spans of what is looked for in it."""

import re
from collections.abc import Sequence

from glip.errors import PromptError
from glip.structures.prompt import Phrase, Prompt, Span
from glip.text.noun_phrases import find_noun_phrases

SEPARATOR = ". "  # between class names, as in the published configurations
Affix = tuple[str, str, str]
"""(prefix, name, suffix): a class in a manual prompt; only the name is looked for."""

_LETTER = r"[\w\u0300-\u036F]"  # with the accents that are characters of their own


def clean_class_name(name: str) -> str:
    """A class name as the published prompts write it.

    From the first "(" to the last ")" everything goes, "_" becomes a space, and each double space one space, once.
    Nothing is stripped or lower-cased: `bow_(weapon)` is `"bow "`.
    """
    return re.sub(r"\(.*\)", "", name).replace("_", " ").replace("  ", " ")


def prompt_from_labels(
    labels: Sequence[str],
    *,
    separator: str = SEPARATOR,
    affixes: Sequence[Affix] | None = None,
    first_label: int = 0,
) -> Prompt:
    """A caption that lists class names (GLIP, section 3.1, equation 2's "Prompt").

    Args:
        labels: class names in the caller's order; they may repeat, and results index this list.
        separator: stands between two names; none follows the last.
        affixes: (prefix, name, suffix) of each class, used verbatim instead of the cleaned name; a manual prompt.
        first_label: index of the first name, where the list is a part of a longer one.

    Raises:
        PromptError: the list is empty, or a name is, or there is not one affix for each label.
    """
    if isinstance(labels, str):
        raise PromptError(f"labels must be a list of class names, got the string {labels!r}; write [{labels!r}]")
    if not isinstance(labels, Sequence):
        raise PromptError(f"labels must be a list of class names, got {labels!r}; write ['cat', 'dog']")
    if not labels:
        raise PromptError("labels must name at least one class, got an empty list")
    if affixes is not None and len(affixes) != len(labels):
        raise PromptError(f"each label needs one (prefix, name, suffix), got {len(affixes)} for {len(labels)} labels")
    caption, phrases = "", []
    for index, label in enumerate(labels):
        if not isinstance(label, str):
            raise PromptError(f"labels must be strings, got {label!r} at position {index}")
        prefix, name, suffix = affixes[index] if affixes is not None else ("", clean_class_name(label), "")
        if not name.strip():
            raise PromptError(f"label {index} ({label!r}) has no words left to look for; give it a name")
        start = len(caption) + len(separator) * (index > 0) + len(prefix)
        caption += separator * (index > 0) + prefix + name + suffix
        phrases.append(Phrase(label, ((start, start + len(name)),), first_label + index))
    return Prompt(caption, tuple(phrases))


def prompt_from_caption(caption: str, phrases: Sequence[str | Span | Sequence[Span]] | None = None) -> Prompt:
    """A sentence and the phrases in it.

    Args:
        caption: a sentence.
        phrases: what to look for, each a part of the sentence, a half-open character span, or several spans. A
            string that stands in the sentence more than once means all of its places; naming it again each time
            takes the places one by one. None for the sentence's noun phrases.

    Raises:
        PromptError: the sentence is empty, a phrase does not stand in it, or no phrase is found.
    """
    if not isinstance(caption, str) or not caption.strip():
        raise PromptError(f"the caption must be a sentence, got {caption!r}")
    if phrases is None:
        spans: list[tuple[Span, ...]] = [(span,) for span in find_noun_phrases(caption)]
        if not spans:
            raise PromptError(f"no noun phrase found in {caption!r}; say which words to look for with phrases=[...]")
        texts = [caption[start:end] for ((start, end),) in spans]
    else:
        if isinstance(phrases, str):
            raise PromptError(f"phrases must be a list, got the string {phrases!r}; write [{phrases!r}]")
        if not isinstance(phrases, Sequence):
            raise PromptError(f"phrases must be a list, got {phrases!r}; write ['a cat', 'the mat']")
        if not phrases:
            raise PromptError("phrases must name at least one phrase, got an empty list; leave it out for noun phrases")
        spans = _spans_of_phrases(caption, phrases)
        texts = [
            phrase if isinstance(phrase, str) else " ".join(caption[start:end] for start, end in places)
            for phrase, places in zip(phrases, spans, strict=True)
        ]
    return Prompt(
        caption,
        tuple(Phrase(text, places, label) for label, (text, places) in enumerate(zip(texts, spans, strict=True))),
    )


def plain_question(question: str) -> str:
    """A question as networks read it, in training and later: no spaces round it, no question mark behind it."""
    return question.strip().rstrip("?").rstrip()


def prompt_from_expression(expression: str) -> Prompt:
    """One referring expression: the whole sentence is the phrase.

    Raises:
        PromptError: the expression is empty.
    """
    if not isinstance(expression, str) or not expression.strip():
        raise PromptError(f"the expression must be a few words, got {expression!r}")
    start = len(expression) - len(expression.lstrip())
    return Prompt(expression, (Phrase(expression, ((start, len(expression.rstrip())),), 0),))


def _spans_of_phrases(caption: str, phrases: Sequence[str | Span | Sequence[Span]]) -> list[tuple[Span, ...]]:
    names = [_same_words(phrase) for phrase in phrases if isinstance(phrase, str)]
    places = {_same_words(phrase): _occurrences(caption, phrase) for phrase in phrases if isinstance(phrase, str)}
    taken = dict.fromkeys(names, 0)
    spans: list[tuple[Span, ...]] = []
    for phrase in phrases:
        if not isinstance(phrase, str):
            spans.append(_given_spans(phrase))
        elif names.count(name := _same_words(phrase)) == 1:
            spans.append(places[name])
        else:
            # As many places as namings: one each, in order; a naming too many shares the last place.
            turn = min(taken[name], len(places[name]) - 1)
            taken[name] += 1
            spans.append((places[name][turn],))
    return spans


def _same_words(phrase: str) -> str:
    """What two namings of the same words have in common: "A  cat" and "a cat"."""
    return " ".join(phrase.split()).lower()


def _given_spans(phrase: Span | Sequence[Span]) -> tuple[Span, ...]:
    is_several = isinstance(phrase, list | tuple) and bool(phrase) and isinstance(phrase[0], list | tuple)
    spans = phrase if is_several else (phrase,)
    pairs = []
    for span in spans:
        match span:
            case [int(start), int(end)]:
                pairs.append((start, end))
            case _:
                raise PromptError(f"a phrase must be a string or half-open (start, end) spans, got {phrase!r}")
    return tuple(pairs)


def _occurrences(caption: str, phrase: str) -> tuple[Span, ...]:
    """Every place of the phrase as whole words, whatever the case: "car" is not in "carpet"."""
    words = phrase.strip()
    if not words:
        raise PromptError("a phrase must have words, got an empty one")
    start = rf"(?<!{_LETTER})" if re.match(r"\w", words) else ""
    end = rf"(?!{_LETTER})" if re.search(rf"{_LETTER}$", words) else ""
    pattern = start + r"\s+".join(re.escape(word) for word in words.split()) + end
    found = tuple(match.span() for match in re.finditer(pattern, caption, flags=re.IGNORECASE))
    if not found:
        raise PromptError(f"the phrase {phrase!r} does not stand in the caption {caption!r}; copy it from there")
    return found
