"""A teacher finds phrases: any words by a grounding model, words for its own classes by a plain detector."""

import pytest
import torch
from PIL import Image
from torch import Tensor

from glip.engine.teachers import DetectorTeacher, PredictorTeacher
from glip.errors import ConfigError, ShapeError
from glip.predictor import Predictor
from glip.text.prompts import prompt_from_caption
from tests.cli.quick import quick_predictor

PICTURE = Image.new("RGB", (80, 60), "grey")
BOXES = torch.tensor([[0.0, 0.0, 20.0, 20.0], [30.0, 10.0, 70.0, 50.0]])
SCORES = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.3, 0.8]])
WORDS = {"car": ["vehicle", "automobile"], "dog": ["puppy"], "hot dog": ["frankfurter"]}


def detect(_: Image.Image) -> tuple[Tensor, Tensor]:
    return BOXES, SCORES


def detector() -> DetectorTeacher:
    return DetectorTeacher(detect, ["car", "dog", "hot dog"], words=WORDS, name="by hand")


@pytest.mark.parametrize(
    ("phrase", "classes"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param("a sky", [], id="a word for no class"),
        pytest.param("a car", [0], id="the name"),
        pytest.param("Two small black Dogs", [1], id="a plural with adjectives"),
        pytest.param("a hot dog", [2], id="the longest ending"),
        pytest.param("the old puppies", [1], id="the plural of another word"),
        pytest.param("a car door", [], id="the name, but not at the end"),
        pytest.param("a scar", [], id="the name inside a word"),
    ],
)
def test_a_phrase_means_the_classes_that_it_ends_in(phrase: str, classes: list[int]) -> None:
    assert detector().classes_of(phrase) == classes
    assert detector().knows(phrase) is bool(classes)


def test_a_word_for_several_classes_means_them_all() -> None:
    teacher = DetectorTeacher(detect, ["car", "bus", "dog"], words={"car": ["vehicle"], "bus": ["vehicle"]}, name="two")
    assert teacher.classes_of("a vehicle") == [0, 1]
    (found,) = teacher([PICTURE], [prompt_from_caption("a vehicle", ["a vehicle"])])
    assert found.scores.tolist() == pytest.approx([0.9, 0.3])


def test_irregular_plurals_are_known() -> None:
    teacher = DetectorTeacher(detect, ["person", "dog", "man"], name="people")
    assert teacher.classes_of("several people") == [0]
    assert teacher.classes_of("two men") == [2]


def test_every_box_is_scored_for_every_known_phrase() -> None:
    (found,) = detector()([PICTURE], [prompt_from_caption("a puppy and a hot dog under the sky")])
    assert found.phrases == ("a puppy", "a hot dog", "the sky")
    assert found.labels.tolist() == [1, 0, 0, 1]
    assert found.scores.tolist() == pytest.approx([0.8, 0.3, 0.1, 0.0])
    assert found.boxes.tolist() == [BOXES[index].tolist() for index in (1, 1, 0, 0)]


def test_a_detector_that_finds_nothing_gives_nothing() -> None:
    teacher = DetectorTeacher(lambda _: (torch.zeros(0, 4), torch.zeros(0, 1)), ["cat"], name="blind")
    (found,) = teacher([PICTURE], [prompt_from_caption("a cat")])
    assert (len(found), found.phrases) == (0, ("a cat",))
    assert teacher([], []) == []


def test_a_detector_of_other_shapes_is_refused() -> None:
    teacher = DetectorTeacher(detect, ["cat", "dog"], name="wrong")
    with pytest.raises(ShapeError, match=r"scores \(N, 2\), got \(2, 4\) and \(2, 3\)"):
        teacher([PICTURE], [prompt_from_caption("a cat")])


@pytest.mark.parametrize(
    ("names", "words", "message"),
    [
        pytest.param([], None, "got no class names", id="no names"),
        pytest.param(["cat"], {"dog": ["puppy"]}, "'dog', which is no class", id="words for a class that is none"),
    ],
)
def test_names_and_words_must_fit(names: list[str], words: dict[str, list[str]] | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DetectorTeacher(detect, names, words=words, name="wrong")


def test_a_grounding_model_knows_any_words_and_cuts_what_is_too_long(predictor: Predictor, photos: object) -> None:
    teacher = PredictorTeacher(quick_predictor(predictor, max_tokens=8), "small")
    assert teacher.knows("a flumph")
    prompt = prompt_from_caption("a cat on a very very very very old sofa", ["a cat", "sofa"])
    (found,) = teacher([Image.open(f"{photos}/chelsea.jpg")], [prompt])
    assert found.phrases == ("a cat", "sofa")
    assert set(found.labels.tolist()) == {0}
    assert teacher.settings()["model"] == "small"
