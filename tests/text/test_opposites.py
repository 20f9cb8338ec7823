"""Expressions with one word turned into its opposite."""

import pytest

from glip.text.opposites import opposite_texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", (), id="nothing has no opposite"),
        pytest.param("a dog with a ball", (), id="a name has no opposite"),
        pytest.param("the dog on the left", (("the dog on the right",),), id="a side becomes the other one"),
        pytest.param("the Left dog", (("the right dog",),), id="capitals do not matter"),
        pytest.param("leftmost dog, please", (("rightmost dog, please",),), id="punctuation stays where it is"),
        pytest.param("the backpack", (), id="only whole words are turned"),
        pytest.param("the left-hand dog", (("the right-hand dog",),), id="a side may be half of a word"),
        pytest.param("the short man", (("the tall man", "the long man"),), id="short is not tall, or not long"),
        pytest.param("the large dog", (("the small dog",),), id="large is like big"),
        pytest.param(
            "an orange and white cat",
            (
                ("an red and white cat", "an green and white cat", "an white and white cat"),
                ("an orange and red cat", "an orange and green cat", "an orange and black cat"),
            ),
            id="two colours are turned one by one",
        ),
        pytest.param(
            "the red car",
            (("the green car", "the white car", "the black car"),),
            id="a colour becomes three others",
        ),
        pytest.param("the red-orange coat", (), id="half of a word is none"),
        pytest.param("the car near the tree", (), id="what stands near another thing is not far from it"),
        pytest.param("the orange on the table", (), id="an orange may be a fruit"),
        pytest.param("an orange", (), id="an orange at the end is one"),
        pytest.param(
            "the orange ball",
            (("the red ball", "the green ball", "the white ball"),),
            id="an orange thing is a colour",
        ),
        pytest.param(
            "the small dog above the cat",
            (("the big dog above the cat",), ("the small dog below the cat",)),
            id="each word is turned alone",
        ),
    ],
)
def test_opposites(text: str, expected: tuple[tuple[str, ...], ...]) -> None:
    assert opposite_texts(text) == expected


@pytest.mark.parametrize("text", ["the top shelf", "the lower drawer", "the biggest box", "the man in front"])
def test_an_opposite_of_an_opposite_is_the_text_again(text: str) -> None:
    ((turned,),) = opposite_texts(text)
    assert opposite_texts(turned) == ((text,),)
