"""The caption of a training example: class names in random order, or its own sentence; all chance from one source."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from glip.data.captions import CaptionRule, make_prompt, swap_sides, with_article
from glip.data.examples import Example, GroundedObject
from glip.structures.prompt import Prompt, Span

BOX = (1.0, 2.0, 3.0, 4.0)
ABSENT = ("cup", "car", "tree", "red_fox", "bow (weapon)")
PLAIN = CaptionRule(max_names=8, full_share=0.0, article_share=0.0)
SEEDS = range(40)


def example_of(*names: str, absent: Sequence[str] = ABSENT) -> Example:
    objects = tuple(GroundedObject(BOX, name) for name in names)
    return Example(Path("a.jpg"), (10, 20), objects, absent=tuple(absent))


def sentence(caption: str, *spans: tuple[Span, ...], absent: Sequence[str] = ()) -> Example:
    objects = tuple(GroundedObject(BOX, " ".join(caption[a:b] for a, b in places), places) for places in spans)
    return Example(Path("a.jpg"), (10, 20), objects, caption=caption, absent=tuple(absent))


def words_of(prompt: Prompt) -> list[list[str]]:
    """The pieces of the caption that each phrase's spans say."""
    return [[prompt.caption[start:end] for start, end in phrase.spans] for phrase in prompt.phrases]


# --- class lists -------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_caption() -> None:
    example = example_of("cat", "dog", "cat")
    for seed in SEEDS:
        once, again = (make_prompt(example, CaptionRule(), random.Random(seed)) for _ in range(2))
        assert once == again


def test_other_seeds_give_other_captions() -> None:
    captions = {make_prompt(example_of("cat", "dog"), PLAIN, random.Random(seed))[0].caption for seed in SEEDS}
    assert len(captions) > 10


@pytest.mark.parametrize("seed", SEEDS)
def test_every_object_points_at_its_own_name(seed: int) -> None:
    example = example_of("cat", "dog", "cat")
    prompt, phrases = make_prompt(example, PLAIN, random.Random(seed))
    assert [words_of(prompt)[phrase] for phrase in phrases] == [["cat"], ["dog"], ["cat"]]
    assert [phrase.label for phrase in prompt.phrases] == list(range(len(prompt.phrases)))


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_added_is_absent_and_named_once(seed: int) -> None:
    prompt, _ = make_prompt(example_of("cat"), PLAIN, random.Random(seed))
    names = [phrase.text for phrase in prompt.phrases]
    assert len(names) == len(set(names))
    assert {"cat"} <= set(names) <= {"cat", *ABSENT}


def test_with_full_share_all_absent_names_that_fit_are_there() -> None:
    rule = CaptionRule(max_names=4, full_share=1.0, article_share=0.0)
    prompt, _ = make_prompt(example_of("cat"), rule, random.Random(0))
    assert len(prompt.phrases) == 4
    roomy = CaptionRule(max_names=99, full_share=1.0, article_share=0.0)
    prompt, _ = make_prompt(example_of("cat"), roomy, random.Random(0))
    assert {phrase.text for phrase in prompt.phrases} == {"cat", *ABSENT}


def test_a_full_list_gets_no_absent_name() -> None:
    rule = CaptionRule(max_names=2, full_share=0.0, article_share=0.0)
    for seed in SEEDS:
        prompt, _ = make_prompt(example_of("cat", "dog"), rule, random.Random(seed))
        assert sorted(phrase.text for phrase in prompt.phrases) == ["cat", "dog"]


def test_a_present_name_may_stand_anywhere_in_the_list() -> None:
    rule = CaptionRule(max_names=3, full_share=1.0, article_share=0.0)
    example = example_of("cat", absent=["cup", "car"])
    places = {make_prompt(example, rule, random.Random(seed))[1][0] for seed in SEEDS}
    assert places == {0, 1, 2}


def test_without_room_for_all_present_names_the_others_boxes_have_no_phrase() -> None:
    rule = CaptionRule(max_names=2, full_share=1.0, article_share=0.0)
    prompt, phrases = make_prompt(example_of("cat", "dog", "cup", absent=["car"]), rule, random.Random(0))
    assert len(prompt.phrases) == 2
    assert sorted(phrases) == [-1, 0, 1]


def test_a_list_is_written_as_the_published_prompts_are() -> None:
    rule = CaptionRule(max_names=9, full_share=1.0, article_share=0.0)
    prompt, _ = make_prompt(example_of(absent=["red_fox", "bow (weapon)"]), rule, random.Random(0))
    assert set(prompt.caption.split(". ")) == {"red fox", "bow "}


def test_articles_belong_to_the_phrase() -> None:
    rule = CaptionRule(max_names=3, full_share=1.0, article_share=1.0)
    prompt, phrases = make_prompt(example_of("apple", "dog", absent=["cup"]), rule, random.Random(0))
    assert sorted(word for words in words_of(prompt) for word in words) == ["a cup", "a dog", "an apple"]
    assert [words_of(prompt)[phrase] for phrase in phrases] == [["an apple"], ["a dog"]]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        pytest.param("dog", "a dog", id="a consonant"),
        pytest.param("apple", "an apple", id="a vowel"),
        pytest.param("Orange", "an Orange", id="a capital vowel"),
    ],
)
def test_the_article_before(name: str, written: str) -> None:
    assert with_article(name) == written


@pytest.mark.parametrize("seed", SEEDS)
def test_a_picture_without_objects_asks_for_something_that_is_absent(seed: int) -> None:
    prompt, phrases = make_prompt(example_of(), PLAIN, random.Random(seed))
    assert phrases == []
    assert {phrase.text for phrase in prompt.phrases} <= set(ABSENT)
    assert len(prompt.phrases) >= 1


def test_a_picture_of_nothing_known_still_has_a_caption() -> None:
    prompt, phrases = make_prompt(example_of(absent=[]), PLAIN, random.Random(0))
    assert (prompt.caption, phrases) == ("object", [])


# --- sentences ---------------------------------------------------------------------------------------------------

BALL = "a red ball on a red sofa"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_sentence_stays_in_front_and_keeps_its_spans(seed: int) -> None:
    example = sentence(BALL, ((0, 10),), ((14, 24),), absent=ABSENT)
    prompt, phrases = make_prompt(example, PLAIN, random.Random(seed))
    assert prompt.caption == BALL or prompt.caption.startswith(f"{BALL}. ")
    assert [words_of(prompt)[phrase] for phrase in phrases] == [["a red ball"], ["a red sofa"]]
    assert len(prompt.phrases) == 2  # absent names have no phrase: nothing is to be found there


def test_absent_names_follow_a_sentence_sometimes() -> None:
    example = sentence(BALL, ((0, 10),), absent=["cup", "red_fox"])
    captions = {make_prompt(example, PLAIN, random.Random(seed))[0].caption for seed in SEEDS}
    assert BALL in captions
    assert f"{BALL}. cup. red fox" in captions
    assert all(caption.removeprefix(BALL).replace(". cup", "").replace(". red fox", "") == "" for caption in captions)


def test_boxes_of_one_phrase_share_it() -> None:
    example = sentence("two dogs and a cat", ((0, 8),), ((13, 18),), ((0, 8),))
    prompt, phrases = make_prompt(example, PLAIN, random.Random(0))
    assert phrases == [0, 1, 0]
    assert [phrase.text for phrase in prompt.phrases] == ["two dogs", "a cat"]


def test_a_phrase_in_pieces_keeps_its_pieces() -> None:
    prompt, _ = make_prompt(sentence(BALL, ((2, 5), (16, 19))), PLAIN, random.Random(0))
    assert words_of(prompt) == [["red", "red"]]


def test_a_sentence_without_boxes_has_no_phrase() -> None:
    assert make_prompt(sentence(BALL), PLAIN, random.Random(0)) == (Prompt(BALL, ()), [])


# --- mirror images -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caption", "swapped"),
    [
        pytest.param("the cat on the left", "the cat on the right", id="left"),
        pytest.param("the right hand", "the left hand", id="right"),
        pytest.param("left of right of left", "right of left of right", id="both"),
        pytest.param("Left and RIGHT", "Right and Left", id="capitals at the front are kept"),
        pytest.param("a bright leftover", "a bright leftover", id="not inside other words"),
        pytest.param("a cat", "a cat", id="no side"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_the_mirror_image_of(caption: str, swapped: str) -> None:
    assert swap_sides(sentence(caption)).caption == swapped


@pytest.mark.parametrize(
    ("phrase", "words"),
    [
        pytest.param("the left dog", "the right dog", id="a phrase round the word grows"),
        pytest.param("left", "right", id="the word itself"),
        pytest.param("a cat", "a cat", id="a phrase after it moves"),
        pytest.param("the right cup", "the left cup", id="a phrase round the other word shrinks"),
        pytest.param("see", "see", id="a phrase before it stays"),
    ],
)
def test_spans_follow_the_words(phrase: str, words: str) -> None:
    caption = "see the left dog, a cat and the right cup"
    start = caption.index(phrase)
    swapped = swap_sides(sentence(caption, ((start, start + len(phrase)),)))
    assert swapped.caption == "see the right dog, a cat and the left cup"
    (thing,) = swapped.objects
    ((start, end),) = thing.spans
    assert swapped.caption[start:end] == words
    assert thing.name == words


def test_swapping_twice_gives_the_example_again() -> None:
    example = sentence("the left dog and the right cat", ((0, 12),), ((17, 30),), ((4, 8), (21, 26)))
    assert swap_sides(swap_sides(example)) == example


def test_the_example_given_is_left_as_it_is() -> None:
    example = sentence("the left dog", ((0, 12),))
    swap_sides(example)
    assert example == sentence("the left dog", ((0, 12),))


def test_class_names_have_sides_too() -> None:
    swapped = swap_sides(example_of("left hand", "cup", absent=["right hand", "car"]))
    assert [thing.name for thing in swapped.objects] == ["right hand", "cup"]
    assert swapped.absent == ("left hand", "car")


@pytest.mark.parametrize(
    ("name", "swapped"),
    [
        pytest.param("left_hand", "right_hand", id="an underscore between words, which captions write as a space"),
        pytest.param("leftmost dog", "rightmost dog", id="leftmost"),
        pytest.param("rightmost dog", "leftmost dog", id="rightmost"),
    ],
)
def test_the_mirror_image_of_the_name_with(name: str, swapped: str) -> None:
    assert swap_sides(example_of(name)).objects[0].name == swapped


def test_a_span_inside_a_word_that_shrinks_keeps_a_letter() -> None:
    (thing,) = swap_sides(sentence("right dog", ((4, 5),))).objects
    assert thing.spans == ((3, 4),)


def test_absent_names_behind_a_sentence_that_ends_with_a_stop_need_no_second_one() -> None:
    example = Example(Path("a.png"), (4, 4), (), caption="A cat sleeps.", absent=("dog", "cup"))
    captions = {make_prompt(example, CaptionRule(max_names=9), random.Random(seed))[0].caption for seed in range(40)}
    assert "A cat sleeps. dog. cup" in captions
    assert not any(".." in caption for caption in captions)
