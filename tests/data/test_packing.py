"""A sentence among captions of other pictures: the spans follow it, and all of it fits into 256 tokens."""

import random
from pathlib import Path

import pytest

from glip.data.examples import Example
from glip.data.packing import PackingRule, foreign_captions, pack
from glip.errors import ConfigError
from glip.structures.prompt import Phrase, Prompt

SEEDS = range(30)
CAT = Prompt("a cat on a mat", (Phrase("a cat", ((0, 5),), 0), Phrase("a mat", ((9, 14),), 1)))


def count_words(text: str) -> int:
    return len(text.split())


def spoken(prompt: Prompt) -> list[str]:
    return [prompt.caption[start:end] for phrase in prompt.phrases for start, end in phrase.spans]


def example(name: str, caption: str | None) -> Example:
    return Example(Path(name), (8, 8), (), caption=caption)


@pytest.mark.parametrize("seed", SEEDS)
def test_phrases_keep_their_words_wherever_the_sentence_lands(seed: int) -> None:
    packed = pack(CAT, ["two dogs run", "a red car."], count_words, random.Random(seed))
    assert spoken(packed) == ["a cat", "a mat"]
    assert sorted(packed.caption.split(". ")) != [packed.caption]
    assert all(f"{caption}." in packed.caption for caption in ("a cat on a mat", "two dogs run", "a red car"))
    assert ".." not in packed.caption


def test_the_sentence_lands_in_every_place() -> None:
    places = {pack(CAT, ["x", "y"], count_words, random.Random(seed)).caption.index("a cat") for seed in SEEDS}
    assert places == {0, 3, 6}


def test_no_foreign_caption_leaves_the_sentence_as_it_is() -> None:
    assert pack(CAT, [], count_words, random.Random(0)) == CAT


def test_captions_are_taken_for_as_long_as_they_fit() -> None:
    long = " ".join(["word"] * 200)
    packed = pack(CAT, ["two dogs", long, "a car " * 30], count_words, random.Random(0))
    assert count_words(packed.caption) == 5 + 2 + 200
    assert spoken(packed) == ["a cat", "a mat"]


def test_a_sentence_that_fills_the_caption_alone_stays_alone() -> None:
    full = Prompt(" ".join(["cat"] * 254), (Phrase("cat", ((0, 3),), 0),))
    assert pack(full, ["a dog"], count_words, random.Random(0)) == full


@pytest.mark.parametrize("seed", SEEDS)
def test_captions_of_the_same_picture_and_pictures_without_one_are_not_foreign(seed: int) -> None:
    mine = example("1.jpg", "a cat")
    others = [mine, example("1.jpg", "an animal"), example("2.jpg", "a dog"), example("3.jpg", None)]
    assert set(foreign_captions(mine, others, 4, random.Random(seed))) == {"a dog"}


def test_no_more_captions_are_drawn_than_there_are() -> None:
    assert foreign_captions(example("1.jpg", "a cat"), [], 5, random.Random(0)) == []


def test_the_published_shares_of_how_many_captions() -> None:
    draw = random.Random(0)
    counts = [PackingRule(captions=20).wanted(draw) for _ in range(20_000)]
    assert sum(count == 20 for count in counts) / len(counts) == pytest.approx(0.6 * 0.5, abs=0.01)
    assert sum(count == 0 for count in counts) / len(counts) == pytest.approx(0.4 + 0.6 * 0.5 / 20, abs=0.01)
    assert set(counts) == set(range(21))


def test_without_packing_nothing_is_wanted() -> None:
    assert PackingRule().wanted(random.Random(0)) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"captions": -1}, "packing.captions must be at least 0, got -1", id="fewer than none"),
        pytest.param({"none_share": 1.5}, "packing.none_share must be in", id="a share over 1"),
    ],
)
def test_impossible_rules_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PackingRule(**settings)  # type: ignore[arg-type]
