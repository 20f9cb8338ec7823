"""Words become a caption and half-open character spans; what the caller wrote comes back unchanged, in his order."""

from collections.abc import Sequence

import pytest

from glip.errors import PromptError
from glip.structures.prompt import Prompt, Span
from glip.text.prompts import (
    clean_class_name,
    plain_question,
    prompt_from_caption,
    prompt_from_expression,
    prompt_from_labels,
)


def spans_of(prompt: Prompt) -> list[tuple[Span, ...]]:
    """The spans of each phrase."""
    return [phrase.spans for phrase in prompt.phrases]


def words_of(prompt: Prompt) -> list[list[str]]:
    """What stands in the caption under each phrase's spans."""
    return [[prompt.caption[start:end] for start, end in phrase.spans] for phrase in prompt.phrases]


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        pytest.param("cat", "cat", id="a plain word stays"),
        pytest.param("traffic_light", "traffic light", id="underscores become spaces"),
        pytest.param("bow_(weapon)", "bow ", id="brackets go, the space before them stays"),
        pytest.param("a (b) c (d) e", "a e", id="from the first bracket to the last everything goes"),
        pytest.param("a___b", "a  b", id="a double space is halved once, not until none is left"),
        pytest.param("Hot Dog", "Hot Dog", id="capitals stay"),
        pytest.param("(gone)", "", id="only brackets leave nothing"),
        pytest.param("", "", id="empty stays empty"),
        pytest.param("crème_brûlée", "crème brûlée", id="accents stay"),
    ],
)
def test_a_class_name_is_cleaned_as_published(name: str, cleaned: str) -> None:
    assert clean_class_name(name) == cleaned


@pytest.mark.parametrize(
    ("labels", "caption", "spans"),
    [
        pytest.param(["cat"], "cat", [((0, 3),)], id="one name, no separator"),
        pytest.param(["cat", "dog"], "cat. dog", [((0, 3),), ((5, 8),)], id="a separator between two, none at the end"),
        pytest.param(["cat", "cat"], "cat. cat", [((0, 3),), ((5, 8),)], id="a name twice stands twice"),
        pytest.param(["car", "carpet"], "car. carpet", [((0, 3),), ((5, 11),)], id="a name inside another"),
        pytest.param(["Hot_Dog", "café"], "Hot Dog. café", [((0, 7),), ((9, 13),)], id="underscores and accents"),
        pytest.param(["🐶", "cat"], "🐶. cat", [((0, 1),), ((3, 6),)], id="an emoji is one character"),
    ],
)
def test_class_names_become_a_caption(labels: list[str], caption: str, spans: list[tuple[Span, ...]]) -> None:
    prompt = prompt_from_labels(labels)
    assert prompt.caption == caption
    assert spans_of(prompt) == spans


def test_results_are_named_with_the_callers_own_words() -> None:
    prompt = prompt_from_labels(("bow_(weapon)", "cat", "cat"))
    assert [phrase.text for phrase in prompt.phrases] == ["bow_(weapon)", "cat", "cat"]
    assert prompt.labels == (0, 1, 2)


def test_a_part_of_a_longer_list_counts_on() -> None:
    assert prompt_from_labels(["cat", "dog"], first_label=40).labels == (40, 41)


def test_the_separator_can_be_chosen() -> None:
    prompt = prompt_from_labels(["cat", "dog"], separator=" | ")
    assert prompt.caption == "cat | dog"
    assert words_of(prompt) == [["cat"], ["dog"]]


def test_affixes_are_verbatim_and_outside_the_span() -> None:
    affixes = [("a big ", "_fish_", " in water"), ("", "ray", "")]
    prompt = prompt_from_labels(["fish", "stingray"], affixes=affixes)
    assert prompt.caption == "a big _fish_ in water. ray"
    assert words_of(prompt) == [["_fish_"], ["ray"]]
    assert [phrase.text for phrase in prompt.phrases] == ["fish", "stingray"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param("cat", r"write \['cat'\]", id="a string instead of a list"),
        pytest.param([], "at least one class", id="an empty list"),
        pytest.param({"cat"}, "must be a list", id="a set, which has no order"),
        pytest.param(None, "must be a list", id="None"),
        pytest.param(["cat", ""], "label 1 .* no words", id="an empty name"),
        pytest.param([" "], "label 0 .* no words", id="a blank name"),
        pytest.param(["(weapon)"], "no words left", id="a name that cleaning empties"),
        pytest.param(["cat", 7], "got 7 at position 1", id="a number"),
    ],
)
def test_a_class_list_is_refused(labels: Sequence[str], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        prompt_from_labels(labels)


def test_affixes_must_match_the_labels_one_to_one() -> None:
    with pytest.raises(PromptError, match="got 1 for 2 labels"):
        prompt_from_labels(["cat", "dog"], affixes=[("", "cat", "")])


@pytest.mark.parametrize(
    ("caption", "phrases", "spans"),
    [
        pytest.param("a cat on a mat", ["cat"], [((2, 5),)], id="one phrase, one place"),
        pytest.param("a cat and a cat", ["cat"], [((2, 5), (12, 15))], id="named once, standing twice: both places"),
        pytest.param("a cat and a cat", ["cat", "cat"], [((2, 5),), ((12, 15),)], id="named twice: one place each"),
        pytest.param(
            "cat, cat, cat", ["cat", "cat"], [((0, 3),), ((5, 8),)], id="named twice, standing thrice: the first two"
        ),
        pytest.param(
            "A cat and a cat", ["A cat", "a cat"], [((0, 5),), ((10, 15),)], id="named twice, once with a capital"
        ),
        pytest.param("a cat, a cat", ["cat", " cat "], [((2, 5),), ((9, 12),)], id="named twice, once with blanks"),
        pytest.param("one cat", ["cat", "cat"], [((4, 7),), ((4, 7),)], id="named too often: the last place is shared"),
        pytest.param(
            "a cat, a dog, a cat",
            ["cat", "dog", "cat"],
            [((2, 5),), ((9, 12),), ((16, 19),)],
            id="another phrase between two namings",
        ),
        pytest.param("a woman and a man", ["man"], [((14, 17),)], id="man is not in woman"),
        pytest.param("carpet under a car", ["car"], [((15, 18),)], id="car is not in carpet"),
        pytest.param("car_park, car", ["car"], [((10, 13),)], id="an underscore is part of a word"),
        pytest.param("the car, parked.", ["car"], [((4, 7),)], id="a comma ends a word"),
        pytest.param("a well-known man", ["known"], [((7, 12),)], id="a hyphen ends a word"),
        pytest.param("a T-shirt (red)", ["(red)"], [((10, 15),)], id="a phrase in brackets"),
        pytest.param("cost: $5.", ["$5"], [((6, 8),)], id="signs are letters, not a pattern"),
        pytest.param("an axb, an a.b", ["a.b"], [((11, 14),)], id="a dot matches only a dot"),
        pytest.param("A Red BALL", ["red ball"], [((2, 10),)], id="case does not matter"),
        pytest.param("a red  \n ball", ["red ball"], [((2, 13),)], id="any white space between words"),
        pytest.param("a red ball", ["  red ball "], [((2, 10),)], id="blanks around the phrase do not count"),
        pytest.param("a café and a naïve man", ["café", "naïve man"], [((2, 6),), ((13, 22),)], id="accents"),
        pytest.param("cafés, a café", ["café"], [((9, 13),)], id="an accented word inside another"),
        pytest.param(
            "cafe\u0301s, a cafe\u0301", ["cafe\u0301"], [((10, 15),)], id="an accent that is a character of its own"
        ),
        pytest.param("ÉCOLE ouverte", ["école"], [((0, 5),)], id="case of accented letters"),
        pytest.param("dogs 🐶 and 🐶🐱", ["🐶"], [((5, 6), (11, 12))], id="emoji have no word borders"),
        pytest.param("一只猫 and 猫", ["猫"], [((8, 9),)], id="a letter of another script inside a word"),
    ],
)
def test_phrases_are_found_as_whole_words(caption: str, phrases: list[str], spans: list[tuple[Span, ...]]) -> None:
    prompt = prompt_from_caption(caption, phrases)
    assert prompt.caption == caption
    assert spans_of(prompt) == spans
    assert [phrase.text for phrase in prompt.phrases] == phrases
    assert prompt.labels == tuple(range(len(phrases)))


@pytest.mark.parametrize(
    ("phrase", "text", "spans"),
    [
        pytest.param((2, 5), "red", ((2, 5),), id="a pair"),
        pytest.param([2, 5], "red", ((2, 5),), id="a pair as a list, as JSON has it"),
        pytest.param([(2, 5), (11, 15)], "red ball", ((2, 5), (11, 15)), id="a phrase in two pieces"),
        pytest.param(((2, 5), (11, 15)), "red ball", ((2, 5), (11, 15)), id="two pieces in a tuple"),
        pytest.param((0, 15), "a red, big ball", ((0, 15),), id="the whole sentence"),
    ],
)
def test_a_phrase_may_be_given_by_its_characters(
    phrase: Span | Sequence[Span], text: str, spans: tuple[Span, ...]
) -> None:
    (found,) = prompt_from_caption("a red, big ball", [phrase]).phrases
    assert found.text == text
    assert found.spans == spans


def test_words_and_spans_can_be_mixed() -> None:
    prompt = prompt_from_caption("a red ball", ["ball", (2, 5)])
    assert spans_of(prompt) == [((6, 10),), ((2, 5),)]
    assert [phrase.text for phrase in prompt.phrases] == ["ball", "red"]


@pytest.mark.parametrize(
    ("caption", "phrases", "message"),
    [
        pytest.param("", ["cat"], "must be a sentence", id="an empty caption"),
        pytest.param(" \n", ["cat"], "must be a sentence", id="a blank caption"),
        pytest.param(None, ["cat"], "must be a sentence", id="no caption"),
        pytest.param("a cat", "cat", r"write \['cat'\]", id="a string instead of a list"),
        pytest.param("a cat", [], "at least one phrase", id="an empty list"),
        pytest.param("a cat", [""], "must have words", id="an empty phrase"),
        pytest.param("a cat", ["  "], "must have words", id="a blank phrase"),
        pytest.param("a cat", ["dog"], "does not stand in the caption", id="a phrase that is not there"),
        pytest.param("a woman", ["man"], "does not stand in the caption", id="a phrase only inside a word"),
        pytest.param("a cafe", ["café"], "does not stand in the caption", id="another accent"),
        pytest.param("a cafe\u0301", ["cafe"], "does not stand in the caption", id="all of a word but its accent"),
        pytest.param("a cat", {"cat"}, "phrases must be a list", id="a set, which has no order"),
        pytest.param("a cat", 5, "phrases must be a list", id="a number instead of a list"),
        pytest.param("a cat", [(2, 6)], r"span \(2, 6\) .* 5", id="a span past the end"),
        pytest.param("a cat", [(-3, 5)], r"span \(-3, 5\)", id="a span before the start"),
        pytest.param("a cat", [(2, 2)], r"span \(2, 2\)", id="an empty span"),
        pytest.param("a cat", [(5, 2)], r"span \(5, 2\)", id="a span with crossed ends"),
        pytest.param("a cat", [((0, 1), (2, 9))], r"span \(2, 9\)", id="the second piece past the end"),
        pytest.param("a cat", [(0, 1, 2)], "string or half-open", id="three numbers"),
        pytest.param("a cat", [(0.0, 1.0)], "string or half-open", id="numbers that count no characters"),
        pytest.param("a cat", [5], "string or half-open", id="one number"),
        pytest.param("a cat", [None], "string or half-open", id="None"),
        pytest.param("a cat", [()], "string or half-open", id="no span at all"),
        pytest.param("is it", None, "no noun phrase", id="a sentence without noun phrases"),
    ],
)
def test_a_caption_is_refused(caption: str, phrases: list[str] | None, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        prompt_from_caption(caption, phrases)


def test_without_phrases_the_noun_phrases_are_looked_for() -> None:
    prompt = prompt_from_caption("A cat sits on the mat. A cat!")
    assert words_of(prompt) == [["A cat"], ["the mat"], ["A cat"]]
    assert [phrase.text for phrase in prompt.phrases] == ["A cat", "the mat", "A cat"]
    assert prompt.labels == (0, 1, 2)


@pytest.mark.parametrize(
    ("expression", "span"),
    [
        pytest.param("the left cat", (0, 12), id="all of it"),
        pytest.param("  the cat \n", (2, 9), id="without the white space around"),
        pytest.param("🐱", (0, 1), id="one emoji"),
    ],
)
def test_an_expression_is_one_phrase(expression: str, span: Span) -> None:
    prompt = prompt_from_expression(expression)
    (phrase,) = prompt.phrases
    assert prompt.caption == phrase.text == expression
    assert phrase.spans == (span,)
    assert phrase.label == 0


@pytest.mark.parametrize("expression", [pytest.param("", id="empty"), pytest.param("\t ", id="blank")])
def test_an_expression_without_words_is_refused(expression: str) -> None:
    with pytest.raises(PromptError, match="a few words"):
        prompt_from_expression(expression)


@pytest.mark.parametrize(
    ("question", "plain"),
    [
        ("what is this?", "what is this"),
        (" what is this ? ", "what is this"),
        ("what is this", "what is this"),
        ("is it? no??", "is it? no"),
        ("?", ""),
    ],
    ids=["a question mark", "spaces", "none", "only the last ones go", "nothing else"],
)
def test_a_question_is_read_without_its_mark(question: str, plain: str) -> None:
    assert plain_question(question) == plain
