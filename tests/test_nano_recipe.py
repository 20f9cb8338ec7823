"""The tools that glip-nano is made and judged with."""

import random
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from glip.data.compositional import Pair
from glip.data.describe import COLOURS, Words
from glip.data.usual_places import UsualPlaces
from glip.errors import FileError
from glip.models.cues import PALETTE
from glip.predictor import Predictor
from tools.evaluate_dev import threshold_of
from tools.evaluate_pipeline import TwoModels, paired_interval
from tools.evaluate_scenes import answers
from tools.nano_parts import PART, BeyondCoco, gather, part_chances
from tools.nano_phrases import CORNERS, RELATIONS, SIDES, Drawn, Phrases
from tools.nano_places import LEAST_FIT, LIKELY, Places, cue_factors, subject_share
from tools.nano_words import cue_loss
from tools.unpack_cutouts import resource_entries, write_cutouts

# --- phrases -----------------------------------------------------------------------------------------------------

WORDS = Words(
    same={"dog": ["hound"], "cup": ["glass"], "bottle": ["glass"]},
    wider={"animal": ["dog", "cat"]},
    adjectives=["red"],
    person_adjectives=["tall"],
)
CLASSES = ("person", "dog", "cat", "cup", "bottle")


def likeness(names: Sequence[str]) -> Tensor:
    """Everything unknown is mostly a bottle."""
    return torch.tensor([[0.0, 0.1, 0.1, 0.1, 0.7]] * len(names))


@pytest.fixture(scope="module")
def phrases() -> Phrases:
    return Phrases(CLASSES, WORDS, ["teapot", "dog"], likeness)


@pytest.mark.parametrize(
    ("form", "shares"),
    [
        ("dog", [0, 1, 0, 0, 0]),
        ("hound", [0, 1, 0, 0, 0]),
        ("dogs", [0, 1, 0, 0, 0]),
        ("glass", [0, 0, 0, 1, 1]),
        ("animal", [0, 1, 1, 0, 0]),
        ("teapot", [0, 0.1, 0.1, 0.1, 0.7]),
    ],
    ids=["a name", "another word", "a plural", "a word of two classes", "a wider word", "a name that no class has"],
)
def test_what_a_phrase_means(phrases: Phrases, form: str, shares: list[float]) -> None:
    torch.testing.assert_close(phrases.shares[form], torch.tensor(shares, dtype=torch.float32))


@pytest.mark.parametrize("seed", range(20))
def test_a_caption_holds_its_phrases_where_the_spans_say(phrases: Phrases, seed: int) -> None:
    prompt, drawn = phrases.caption([1], random.Random(seed))
    assert len(prompt.phrases) == len(drawn) >= 1
    for phrase, meant in zip(prompt.phrases, drawn, strict=True):
        assert [prompt.caption[start:end] for start, end in phrase.spans] == [phrase.text] == [meant.text]


def test_a_phrase_means_the_colour_that_it_names(phrases: Phrases) -> None:
    draw = random.Random(0)
    drawn = [phrases.draw([], draw) for _ in range(200)]
    coloured = [phrase for phrase in drawn if set(phrase.cues) & set(COLOURS)]
    assert coloured
    for phrase in coloured:
        assert all(cue in phrase.text.split() for cue in phrase.cues if cue in COLOURS)


@pytest.mark.parametrize("seed", range(40))
def test_a_phrase_says_at_most_one_side_or_corner(phrases: Phrases, seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(20):
        drawn = phrases.draw([], draw)
        sides = set(drawn.cues) & set(SIDES)
        assert len(sides) <= 1 or tuple(cue for cue in drawn.cues if cue in SIDES) in CORNERS


def test_a_relation_makes_one_side_likely(phrases: Phrases) -> None:
    draw = random.Random(0)
    found = {cue: phrase.text for phrase in (phrases.draw([], draw) for _ in range(400)) for cue in phrase.cues}
    for cue, forms in RELATIONS.items():
        assert any(f" {form} " in found[cue] for form in forms)


# --- parts of things ---------------------------------------------------------------------------------------------

RULES = """
parts:
  - {names: [handle], of: [cup], boxes: [[0.0, 0.0, 0.2, 1.0], [0.8, 0.0, 1.0, 1.0]]}
like:
  - {names: [pot, kettle], classes: [cup, bottle]}
  - {names: [pot], classes: [dog]}
"""
PEOPLE = UsualPlaces({"coat": (0.0, 0.2, 1.0, 0.6)}, {"coat": (0.0, 0.5, 1.0, 1.0)}, {})


@pytest.fixture
def beyond(tmp_path: Path) -> BeyondCoco:
    (tmp_path / "rules.yaml").write_text(RULES)
    return BeyondCoco(CLASSES, tmp_path / "rules.yaml", PEOPLE)


def test_a_likeness_is_half_as_sure_as_a_name_and_a_part_is_no_class(beyond: BeyondCoco) -> None:
    shares = beyond.shares()
    assert shares["kettle"].tolist() == [0, 0, 0, 0.5, 0.5]
    assert shares["pot"].tolist() == [0, 0.5, 0, 0.5, 0.5]
    assert shares["handle"].tolist() == shares["coat"].tolist() == [0] * 5


def test_parts_are_where_a_position_draws_a_box_at_their_place(beyond: BeyondCoco) -> None:
    cup, left, right, coat, person = (
        [0, 0, 100, 50],
        [0, 0, 20, 50],
        [80, 0, 100, 50],
        [200, 20, 250, 60],
        [200, 0, 250, 100],
    )
    probabilities = torch.zeros(5, 5)
    probabilities[0, 3], probabilities[4, 0] = 0.8, 0.9
    found = beyond.evidence(torch.tensor([cup, left, right, coat, person]).float(), probabilities, 400)
    assert found["handle"].tolist() == pytest.approx([0, PART * 0.8, PART * 0.8, 0, 0])
    assert found["coat"].tolist() == pytest.approx([0, 0, 0, PART * 0.9, 0])


@pytest.mark.parametrize("probability", [0.0, 0.3], ids=["nothing", "an unsure thing"])
def test_no_parts_have(beyond: BeyondCoco, probability: float) -> None:
    assert beyond.evidence(torch.tensor([[0.0, 0.0, 100.0, 50.0]]), torch.full((1, 5), probability), 400) == {}


def test_specks_are_no_parts(beyond: BeyondCoco) -> None:
    probabilities = torch.tensor([[0.0, 0.0, 0.0, 0.8, 0.0]])
    assert beyond.evidence(torch.tensor([[0.0, 0.0, 20.0, 20.0]]), probabilities, 400) == {}  # handles of 4 pixels


def test_every_part_is_drawn_as_often_as_another() -> None:
    pictures = [{"lid": torch.tensor([0.5, 0.5])}, {}, {"lid": torch.tensor([1.0]), "ear": torch.tensor([0.2])}]
    chances = part_chances(pictures, [2, 3, 1])
    torch.testing.assert_close(chances, torch.tensor([0.125, 0.125, 0.0, 0.0, 0.0, 0.25 + 0.5]))
    gathered = gather(pictures, [2, 3, 1], torch.tensor([1, 5]))
    assert gathered["lid"].tolist() == [0.5, 1.0]
    assert gathered["ear"].tolist() == pytest.approx([0.0, 0.2])


def test_pictures_without_parts_have_no_chances() -> None:
    assert part_chances([{}, {}], [1, 2]).tolist() == [0, 0, 0]
    assert gather([{}], [4], torch.tensor([0])) == {}


def test_names_beyond_the_classes_mean_what_the_rules_say() -> None:
    phrases = Phrases(
        CLASSES, WORDS, ["teapot", "spade"], likeness, beyond={"teapot": torch.tensor([0.0, 0.0, 0.0, 0.5, 0.0])}
    )
    assert phrases.shares["teapot"].tolist() == [0, 0, 0, 0.5, 0]
    draw = random.Random(0)
    assert sum(phrases.draw([], draw).noun == "teapot" for _ in range(400)) == pytest.approx(80, abs=30)


# --- the words' start --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cue", "fits", "not_"),
    [
        ("left", (0.0, 0.4, 0.3, 0.6), (0.7, 0.4, 1.0, 0.6)),
        ("right", (0.7, 0.4, 1.0, 0.6), (0.0, 0.4, 0.3, 0.6)),
        ("top", (0.4, 0.0, 0.6, 0.3), (0.4, 0.7, 0.6, 1.0)),
        ("bottom", (0.4, 0.7, 0.6, 1.0), (0.4, 0.0, 0.6, 0.3)),
        ("middle", (0.4, 0.4, 0.6, 0.6), (0.0, 0.4, 0.2, 0.6)),
        ("small", (0.4, 0.4, 0.45, 0.45), (0.1, 0.1, 0.9, 0.9)),
        ("big", (0.1, 0.1, 0.9, 0.9), (0.4, 0.4, 0.45, 0.45)),
        ("front", (0.2, 0.4, 0.9, 1.0), (0.4, 0.3, 0.5, 0.4)),
        ("back", (0.4, 0.3, 0.5, 0.4), (0.2, 0.4, 0.9, 1.0)),
    ],
)
def test_a_box_where_a_cue_says_fits_it(cue: str, fits: Sequence[float], not_: Sequence[float]) -> None:
    factors = cue_factors(torch.tensor([fits, not_]), torch.zeros(2, PALETTE))[cue]
    assert factors[0] > 0.8
    assert factors[1] < 0.4


@pytest.mark.parametrize(
    ("cue", "order"),
    [
        pytest.param("leftward", [0, 1, 2], id="left of something is likelier the more left"),
        pytest.param("rightward", [2, 1, 0], id="right of something is likelier the more right"),
        pytest.param("upward", [0, 1, 2], id="above something is likelier the higher"),
        pytest.param("downward", [2, 1, 0], id="below something is likelier the lower"),
    ],
)
def test_what_a_relation_makes_likely(cue: str, order: list[int]) -> None:
    along = torch.tensor([[0.1, 0.1, 0.2, 0.2], [0.45, 0.45, 0.55, 0.55], [0.8, 0.8, 0.9, 0.9]])
    factors = cue_factors(along, torch.zeros(3, PALETTE))[cue]
    assert factors.argsort(descending=True).tolist() == order
    assert factors.min() > LIKELY  # it may be anywhere all the same


def test_a_third_of_red_swatches_makes_a_thing_red_and_nothing_else() -> None:
    colours = torch.zeros(1, PALETTE)
    colours[0, 1] = 0.35  # the second swatch of red
    factors = cue_factors(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), colours)
    assert factors["red"] == 1
    assert factors["blue"] == pytest.approx(LEAST_FIT)


def test_the_subject_of_a_labelled_photo_is_the_surest_box_that_is_not_small() -> None:
    boxes = torch.tensor([[0.1, 0.1, 0.9, 0.9], [0.1, 0.1, 0.9, 0.8], [0.6, 0.6, 1.0, 1.0], [0.5, 0.5, 0.52, 0.52]])
    shares = subject_share(boxes, torch.tensor([0.5, 0.1, 0.2, 0.9]))  # the surest is a speck
    torch.testing.assert_close(shares, torch.tensor([1.0, 1.0, 0.0, 0.0]))


def test_a_label_is_where_its_photos_subject_is_whatever_its_likeness_says() -> None:
    places = Places(
        torch.ones(2, 3),
        torch.tensor([[0.1], [0.6]]),
        {"red": torch.tensor([0.5, 0.5])},
        {"okapi": torch.tensor([0.8, 0.0])},
    )
    okapi, red = Drawn("an okapi", torch.ones(1), noun="okapi"), Drawn("red okapi", torch.ones(1), ("red",), "okapi")
    truth = places.truth(slice(None), [okapi, red])
    torch.testing.assert_close(truth, torch.tensor([[0.8, 0.6], [0.4, 0.3]]))


def test_a_goals_truth_is_the_classes_probability_times_the_cues_fit() -> None:
    places = Places(torch.ones(2, 3), torch.tensor([[0.5, 0.25], [0.0, 1.0]]), {"red": torch.tensor([1.0, 0.2])})
    either = torch.tensor([1.0, 1.0])
    truth = places.truth(slice(None), [Drawn("thing", either), Drawn("red thing", either, ("red",))])
    torch.testing.assert_close(truth, torch.tensor([[0.75, 1.0], [0.75, 0.2]]))


FITS = torch.tensor([[0.2, 1.0, 0.5, 0.25], [1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])  # a cue, none, no phrase
NOUNS = torch.tensor([[0.2, 0.4, 0.6, 0.8], [0.5, 0.5, 0.1, 0.1]])


@pytest.mark.parametrize(
    ("own", "other", "loss"),
    [
        pytest.param(1.0, 0.0, 0.0, id="tokens that say all of their own cues"),
        pytest.param(0.0, 0.0, 1.0, id="tokens that say nothing of their cues"),
        pytest.param(0.5, 0.0, 0.25, id="tokens that say half of their cues"),
        pytest.param(-1.0, 0.0, 4.0, id="tokens that say the opposite"),
        pytest.param(1.0, 1.0, 1.0, id="tokens that say another phrase's cues"),
    ],
)
def test_a_cue_is_learnt_when_logits_follow_its_logarithm(own: float, other: float, loss: float) -> None:
    logits = NOUNS.logit() + torch.tensor([[own], [other]]) * FITS[0].log() + 3.0
    found = cue_loss(logits, NOUNS, FITS, torch.tensor([0, 1]))
    torch.testing.assert_close(found, torch.tensor(loss))


def test_a_caption_without_cues_has_no_cue_loss() -> None:
    logits = torch.zeros(2, 4, requires_grad=True)
    loss = cue_loss(logits, NOUNS, torch.ones(3, 4), torch.tensor([0, 1]))
    assert loss == 0
    loss.backward()


def test_the_pipelines_best_box_depends_on_the_words(predictor: Predictor) -> None:
    """The detector is surest of its first box, a person; the word is nearer to what the second one shows."""
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [5.0, 5.0, 9.0, 9.0]])
    scores = torch.tensor([[0.9, 0.0], [0.0, 0.5]])
    near = {"a man": [0.9, 0.1], "a pup": [0.2, 0.8]}
    pipeline = TwoModels(
        lambda _: (boxes, scores), lambda names: torch.tensor([near[name] for name in names]), predictor.processor
    )
    found = pipeline.ground(Path("photo.jpg"), "a man and a pup", [(0, 5), (10, 15)], threshold=0.0)
    assert found[found.labels == 0].boxes[0].tolist() == boxes[0].tolist()
    assert found[found.labels == 1].boxes[0].tolist() == boxes[1].tolist()
    assert found[found.labels == 1].scores.tolist() == pytest.approx([0.4, 0.18])
    assert pipeline.refer(Path("photo.jpg"), "a pup").boxes.tolist() == [boxes[1].tolist()]


# --- pipeline and scenes -----------------------------------------------------------------------------------------


def test_the_paired_difference_and_its_interval() -> None:
    report = paired_interval([True, True, True, False], [False, True, False, False], ["a", "a", "b", "b"])
    assert report["difference"] == 0.5
    assert report["95 % interval"] == [0.5, 0.5]  # both photos differ by one of two
    assert report["share of draws in which ours is better"] == 1.0


def pair(kind: str) -> Pair:
    return Pair(Image.new("RGB", (4, 4)), kind, ("one", "other"), ((0, 0, 1, 1), (2, 2, 3, 3)))


@pytest.mark.parametrize(
    ("kind", "scores", "expected"),
    [
        ("colour", [(0.9, 0.1), (0.2, 0.3)], [1.0, 1.0]),
        ("colour", [(0.9, 0.1), (0.9, 0.1)], [1.0, 0.0]),
        ("colour", [(0.0, 0.0), (0.0, 0.0)], [0.5, 0.5]),
        ("none", [(0.9, 0.1), (0.2, 0.95)], [1.0]),
        ("none", [(0.3, 0.1), (0.4, 0.0)], [0.0]),
    ],
    ids=["both right", "blind to words", "nothing found", "the false phrase is lower", "the false phrase is higher"],
)
def test_answers_to_a_pair(kind: str, scores: list[tuple[float, float]], expected: list[float]) -> None:
    assert answers(pair(kind), scores) == expected


# --- unpacking ---------------------------------------------------------------------------------------------------


def qt_resources(name: str, content: bytes, *, is_deflated: bool) -> bytes:
    """A Qt resource archive, version 1, with one file in its root."""
    packed = struct.pack(">I", len(content)) + zlib.compress(content) if is_deflated else content
    names = struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    root = struct.pack(">IHII", 0, 2, 1, 1)
    file = struct.pack(">IHHHI", 0, int(is_deflated), 0, 0, 0)
    body = struct.pack(">I", len(packed)) + packed
    start = 20
    tree, data = start, start + len(root) + len(file)
    header = b"qres" + struct.pack(">4I", 1, tree, data, data + len(body))
    return header + root + file + body + names


@pytest.mark.parametrize("is_deflated", [False, True], ids=["plain", "deflated"])
def test_a_qt_resource_archive_is_read(is_deflated: bool) -> None:
    archive = qt_resources("tower.webp", b"pixels", is_deflated=is_deflated)
    assert list(resource_entries(archive)) == [("/tower.webp", b"pixels")]


def test_another_file_is_refused() -> None:
    with pytest.raises(FileError, match="Qt resource file"):
        list(resource_entries(b"PK\x03\x04"))


def test_cutouts_without_anything_opaque_or_large_are_left_out(tmp_path: Path) -> None:
    clear, small = Image.new("RGBA", (90, 90)), Image.new("RGBA", (20, 20), (9, 9, 9, 255))
    large = Image.new("RGBA", (90, 90))
    large.paste((200, 0, 0, 255), (10, 20, 70, 80))
    assert write_cutouts(iter([("air", clear), ("pea", small), ("ball", large)]), tmp_path / "out") == 1
    assert '"bbox": [\n   10,\n   20,\n   70,\n   80\n  ]' in (tmp_path / "out" / "index.json").read_text()


# --- what is shown of absent things ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "shown"),
    [
        pytest.param([score / 20 for score in range(20)], 3, id="three of twenty"),
        pytest.param([0.5] * 20, 0, id="none of equal ones, which all or none are shown"),
        pytest.param([0.7], 0, id="none of one"),
    ],
)
def test_the_threshold_shows_at_most_fifteen_in_a_hundred_absent_phrases(scores: list[float], shown: int) -> None:
    threshold = threshold_of(scores)
    assert sum(score >= threshold for score in scores) == shown
