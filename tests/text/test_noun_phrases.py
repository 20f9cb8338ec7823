"""The noun phrases of a sentence: half-open spans in order, none on another, each with its determiner."""

import sys
from types import SimpleNamespace

import pytest

from glip.errors import ConfigError
from glip.text.noun_phrases import find_noun_phrases


def phrases_of(sentence: str) -> list[str]:
    """The words of each noun phrase."""
    return [sentence[start:end] for start, end in find_noun_phrases(sentence)]


@pytest.mark.parametrize(
    ("sentence", "phrases"),
    [
        pytest.param("A man holds a red ball.", ["A man", "a red ball"], id="subject and object"),
        pytest.param("two dogs and a cat", ["two dogs", "a cat"], id="and joins two phrases"),
        pytest.param("the cat, the dog; the cow", ["the cat", "the dog", "the cow"], id="signs end a phrase"),
        pytest.param(
            "A man wearing a blue shirt is riding a horse", ["A man", "a blue shirt", "a horse"], id="-ing verbs"
        ),
        pytest.param("There is a bus on the left of the street", ["a bus", "the street"], id="a place is no thing"),
        pytest.param("A vase filled with flowers", ["A vase", "flowers"], id="a participle, and a plural alone"),
        pytest.param(
            "several people sit around a wooden dining table",
            ["several people", "a wooden dining table"],
            id="an -ing word inside a phrase",
        ),
        pytest.param(
            "A building with a clock tower next to a parking lot",
            ["A building", "a clock tower", "a parking lot"],
            id="nouns before nouns",
        ),
        pytest.param("A black and white dog", ["A black and white dog"], id="and between two colours does not split"),
        pytest.param("A black dog and white cats", ["A black dog", "white cats"], id="and after a noun splits"),
        pytest.param("The woman's hat, my dog's ball", ["The woman's hat", "my dog's ball"], id="possessives"),
        pytest.param(
            "A young boy throws a frisbee to his friend", ["A young boy", "a frisbee", "his friend"], id="his friend"
        ),
        pytest.param("a man who plays tennis", ["a man", "tennis"], id="a relative clause"),
        pytest.param("A bunch of bananas", ["bananas"], id="a bunch is no thing of its own"),
        pytest.param("A naïve café owner in a T-shirt", ["A naïve café owner", "a T-shirt"], id="accents and hyphens"),
        pytest.param("A CAT ON A MAT", ["A CAT", "A MAT"], id="capitals"),
        pytest.param("🐶 chases 3 balls!!!", ["chases 3 balls"], id="an unlisted verb is taken for a noun"),
        pytest.param("a cat\n\ta dog", ["a cat", "a dog"], id="a determiner starts a phrase on any line"),
        pytest.param("people", ["people"], id="one noun"),
        pytest.param("It\u2019s a cat", ["a cat"], id="a curly apostrophe is one like any other"),
        pytest.param("He's holding a ball", ["a ball"], id="a pronoun and its verb in one word"),
        pytest.param("This isn't a cat", ["a cat"], id="a verb and its not in one word"),
        pytest.param("a cafe\u0301 owner", ["a cafe\u0301 owner"], id="an accent that is a character of its own"),
        pytest.param("she is sitting", [], id="pronoun and verb"),
        pytest.param("another one, all of them", [], id="words that stand for nouns"),
        pytest.param("?! ... 🐶", [], id="only signs"),
        pytest.param(" \n", [], id="only blanks"),
        pytest.param("", [], id="nothing"),
        pytest.param("A dog is running on the beach", ["A dog", "the beach"], id="is running is a verb"),
        pytest.param("A bird flying in the sky", ["A bird", "the sky"], id="flying after its bird is a verb"),
        pytest.param("a child flying a kite", ["a child", "a kite"], id="flying before its kite is a verb"),
    ],
)
def test_noun_phrases_of(sentence: str, phrases: list[str]) -> None:
    assert phrases_of(sentence) == phrases


def test_spans_count_characters_of_the_sentence_as_given() -> None:
    assert find_noun_phrases("🐶  a café, the bar") == [(3, 9), (11, 18)]


@pytest.mark.parametrize(
    "reason",
    [
        pytest.param("package", id="spaCy is not installed"),
        pytest.param("model", id="its model is not installed"),
    ],
)
def test_spacy_is_asked_for_and_missing(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError(f"[E050] Can't find model '{name}'")

    monkeypatch.setitem(sys.modules, "spacy", None if reason == "package" else SimpleNamespace(load=refuse))
    with pytest.raises(ConfigError, match=r"pip install .*noun-phrases.* download en_core_web_sm; .*'rules'"):
        find_noun_phrases("a cat", engine="spacy")


def test_spacy_gives_its_chunks_without_pronouns(monkeypatch: pytest.MonkeyPatch) -> None:
    def chunk(start: int, end: int, part_of_speech: str) -> SimpleNamespace:
        return SimpleNamespace(start_char=start, end_char=end, root=SimpleNamespace(pos_=part_of_speech))

    def parse(sentence: str) -> SimpleNamespace:
        assert sentence == "She sees a cat"
        return SimpleNamespace(noun_chunks=[chunk(0, 3, "PRON"), chunk(9, 14, "NOUN")])

    monkeypatch.setitem(sys.modules, "spacy", SimpleNamespace(load=lambda name: parse))
    assert find_noun_phrases("She sees a cat", engine="spacy") == [(9, 14)]
