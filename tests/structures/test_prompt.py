"""A prompt's spans lie inside its caption; its labels are places in the caller's list."""

import dataclasses

import pytest

from glip.errors import PromptError
from glip.structures.prompt import Phrase, Prompt, Span, phrase_texts


@pytest.mark.parametrize(
    "spans",
    [
        pytest.param(((0, 5),), id="the whole caption"),
        pytest.param(((4, 5),), id="its last character"),
        pytest.param(((0, 1), (2, 5)), id="two pieces"),
        pytest.param((), id="no place at all"),
    ],
)
def test_spans_inside_the_caption_are_kept(spans: tuple[Span, ...]) -> None:
    prompt = Prompt("a cat", (Phrase("cat", spans, 0),))
    assert prompt.phrases[0].spans == spans


@pytest.mark.parametrize(
    ("caption", "span"),
    [
        pytest.param("a cat", (0, 6), id="past the end"),
        pytest.param("a cat", (-1, 3), id="before the start"),
        pytest.param("a cat", (3, 3), id="empty"),
        pytest.param("a cat", (4, 2), id="crossed"),
        pytest.param("", (0, 1), id="in an empty caption"),
        pytest.param("🐱", (0, 2), id="counted in bytes, not in characters"),
    ],
)
def test_a_span_outside_the_caption_is_refused(caption: str, span: Span) -> None:
    message = rf"'cat': span \({span[0]}, {span[1]}\) .* {len(caption)}, the caption's length"
    with pytest.raises(PromptError, match=message):
        Prompt(caption, (Phrase("cat", (span,), 0),))


def test_every_span_of_every_phrase_is_checked() -> None:
    with pytest.raises(PromptError, match=r"'dog': span \(2, 9\)"):
        Prompt("a cat", (Phrase("cat", ((2, 5),), 0), Phrase("dog", ((0, 1), (2, 9)), 1)))


def test_labels_are_the_callers_places_not_the_columns() -> None:
    phrases = (Phrase("dog", ((5, 8),), 41), Phrase("cat", ((0, 3),), 40))
    assert Prompt("cat. dog", phrases).labels == (41, 40)
    assert Prompt("cat", ()).labels == ()


def test_prompts_are_values() -> None:
    first, second = (Prompt("cat", (Phrase("cat", ((0, 3),), 0),)) for _ in range(2))
    assert first == second
    assert len({first, second}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.caption = "dog"  # type: ignore[misc]


def test_the_callers_list_is_put_together_again_in_its_order() -> None:
    first = Prompt("cat. cat", (Phrase("cat", ((5, 8),), 3), Phrase("cat", ((0, 3),), 2)))
    second = Prompt("dog. cow", (Phrase("dog", ((0, 3),), 0), Phrase("cow_(animal)", ((5, 8),), 1)))
    assert phrase_texts([first, second]) == ("dog", "cow_(animal)", "cat", "cat")
    assert phrase_texts([]) == ()
