"""A template is a sentence with one place for a name; sets come by their size."""

import pytest

from glip.errors import PromptError
from glip.text.templates import TEMPLATE_SETS, fill_templates, templates_of


@pytest.mark.parametrize("size", [1, 7, 80])
def test_a_set_has_as_many_different_sentences_as_its_name_says(size: int) -> None:
    sentences = templates_of(size)
    assert len(set(sentences)) == len(sentences) == size
    assert all(sentence.count("{}") == 1 for sentence in sentences)


def test_the_set_of_none_is_the_bare_name() -> None:
    assert fill_templates(templates_of(0), "cat") == ["cat"]
    assert sorted(TEMPLATE_SETS) == [0, 1, 7, 80]


def test_own_sentences_are_taken_as_they_are() -> None:
    assert fill_templates(templates_of(["my {}!", "{} {x}"]), "grey_cat") == ["my grey cat!", "grey cat {x}"]


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        pytest.param(5, r"\[0, 1, 7, 80\] sentences, got 5", id="no such set"),
        pytest.param([], "must be a list of sentences", id="no sentence"),
        pytest.param("a {}", "must be a list of sentences", id="one string"),
        pytest.param(["a cat"], "must hold one {}", id="a sentence without a place"),
        pytest.param(["{} and {}"], "must hold one {}", id="a sentence with two"),
        pytest.param([3], "must hold one {}", id="a number among them"),
    ],
)
def test_templates_are_refused(templates: object, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        templates_of(templates)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", " ", "(a note)", None])
def test_a_name_without_words_is_refused(name: object) -> None:
    with pytest.raises(PromptError, match="must have words"):
        fill_templates(["a {}"], name)  # type: ignore[arg-type]
