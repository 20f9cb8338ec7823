"""BLEU counts right n-grams; CIDEr-D weighs them by how few images have them."""

import contextlib
import io
import math
import random

import pytest

from glip.errors import ShapeError
from glip.evaluation.captioning import bleu, caption_metrics, caption_words, cider_d

NOUNS = "cup dog star tree car bird".split()
FILLERS = "a the red blue big small on under near and with two".split()


def split(*captions: str) -> list[list[str]]:
    return [caption.split() for caption in captions]


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        pytest.param("A red cup, left of THE dog.", "a red cup left of the dog", id="punctuation and capitals go"),
        pytest.param('"Look!" (a well-known t-shirt)', "look a well-known t-shirt", id="hyphens stay"),
        pytest.param(
            "the dog's bowl isn't here; they're 3.5", "the dog 's bowl is n't here they 're 3.5", id="clitics"
        ),
        pytest.param("I cannot see; he can\u2019t", "i can not see he ca n't", id="cannot is two words"),
        pytest.param("_ -- ... ?!", "", id="nothing but punctuation"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_words_of(caption: str, words: str) -> None:
    assert caption_words(caption) == words.split()


def test_a_repeated_word_counts_as_often_as_a_reference_has_it() -> None:
    """The example of the paper: "the" seven times, twice in a reference."""
    references = [split("the cat is on the mat", "there is a cat on the mat")]
    assert bleu([["the"] * 7], references)[0] == pytest.approx(2 / 7)


def test_right_ngrams_are_multiplied_and_a_short_caption_pays() -> None:
    """Of "a b c d": 4 of 4 words, 3 of 3 pairs, 2 of 2, 1 of 1; the reference is one word longer."""
    assert bleu(split("a b c d"), [split("a b c d e")]) == pytest.approx([math.exp(1 - 5 / 4)] * 4)
    found = bleu(split("a b x d"), [split("a b c d")])
    assert found == pytest.approx([3 / 4, (3 / 4 * 1 / 3) ** 0.5, 0.0, 0.0])


def test_counts_are_summed_over_images_before_they_are_divided() -> None:
    captions, references = split("a", "a b c x y"), [split("a"), split("a b c d e")]
    assert bleu(captions, references)[0] == pytest.approx(4 / 6)  # not the mean of 1 and 3/5


def test_of_two_references_as_near_the_shorter_sets_the_length() -> None:
    assert bleu(split("a b c"), [split("a b c d", "a b")])[0] == pytest.approx(1.0)


def test_a_reference_itself_has_ten_if_no_other_image_has_its_words() -> None:
    captions = split("a red cup stands", "two dogs run fast")
    assert cider_d(captions, [[caption] for caption in captions]) == pytest.approx([10.0, 10.0])


def test_rare_words_weigh_more_and_words_of_all_images_nothing() -> None:
    """Single words only: "the" is in both images and weighs 0, "cup" and "red" weigh log 2 each."""
    references = [split("the cup red"), split("the")]
    found = cider_d(split("the cup", "the"), references)
    words = 1 / math.sqrt(2)  # cosine of (cup) with (cup, red)
    pairs = 1 / math.sqrt(2)  # of (the cup) with (the cup, cup red)
    assert found == pytest.approx([10 * (words + pairs) / 4 * math.exp(-1 / 72), 0.0])


def test_numbers_of_nothing_are_zero() -> None:
    assert caption_metrics([], []) == dict.fromkeys(["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "CIDEr-D"], 0.0)
    assert set(caption_metrics(["", "!"], [["a dog"], ["a cup"]]).values()) == {0.0}


def test_captions_and_images_must_be_as_many() -> None:
    with pytest.raises(ShapeError, match="got 1 captions of 2 images"):
        bleu(split("a"), [split("a"), split("b")])
    with pytest.raises(ShapeError, match="image 1 has none"):
        cider_d(split("a", "b"), [split("a"), []])


def test_numbers_equal_pycocoevalcap_on_200_captions() -> None:
    bleu_scorer = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu(4)
    cider_scorer = pytest.importorskip("pycocoevalcap.cider.cider").Cider()
    captions, references = synthetic(200)
    truth = dict(enumerate(references))
    made = {index: [caption] for index, caption in enumerate(captions)}
    with contextlib.redirect_stdout(io.StringIO()):
        their_bleu, _ = bleu_scorer.compute_score(truth, made)
        their_mean, their_cider = cider_scorer.compute_score(truth, made)
    words, image_words = split(*captions), [split(*image) for image in references]
    assert bleu(words, image_words) == pytest.approx(their_bleu, abs=1e-6)
    assert cider_d(words, image_words) == pytest.approx(list(their_cider), abs=1e-6)
    assert 0.1 < their_mean == pytest.approx(caption_metrics(captions, references)["CIDEr-D"], abs=1e-6)


def synthetic(count: int) -> tuple[list[str], list[list[str]]]:
    """Captions with repeated words and lengths from one word on, and one to five references each."""
    draw = random.Random(0)

    def sentence() -> list[str]:
        return [draw.choice(draw.choice((NOUNS, FILLERS))) for _ in range(draw.randint(1, 14))]

    captions, references = [], []
    for _ in range(count):
        image = [sentence() for _ in range(draw.randint(1, 5))]
        words = [word if draw.random() < 0.7 else draw.choice(FILLERS) for word in draw.choice(image)]
        captions.append(" ".join(words * draw.choice((1, 1, 1, 2))))
        references.append([" ".join(reference) for reference in image])
    return captions, references
