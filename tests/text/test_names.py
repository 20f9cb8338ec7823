"""Phrases that name one thing have one key; those that share their noun have one noun key."""

import pytest

from glip.text.names import name_key, noun_key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("a dog", "The Dog", id="article and case"),
        pytest.param("dogs", "dog", id="number"),
        pytest.param("dining_table", "dining table", id="an underscore"),
        pytest.param("red  ball.", "red ball", id="signs and spaces"),
    ],
)
def test_one_name_in_spite_of(one: str, other: str) -> None:
    assert name_key(one) == name_key(other) != 0


@pytest.mark.parametrize(
    ("one", "other"),
    [("red ball", "ball"), ("glass", "glas"), ("dog", "cat"), ("a ball in the grass", "the balls")],
)
def test_different_names(one: str, other: str) -> None:
    assert name_key(one) != name_key(other)


@pytest.mark.parametrize(
    ("one", "other"), [("a red ball", "balls"), ("a ball in the grass", "ball"), ("the dog left of a cat", "dogs")]
)
def test_one_noun(one: str, other: str) -> None:
    assert noun_key(one) == noun_key(other) != 0


def test_different_nouns() -> None:
    assert noun_key("ball boy") != noun_key("ball")


@pytest.mark.parametrize("text", ["", "...", "  "])
def test_nothing_has_no_key(text: str) -> None:
    assert name_key(text) == noun_key(text) == 0


def test_keys_are_the_same_in_every_process() -> None:
    assert name_key("dog") == 36798501560991796
