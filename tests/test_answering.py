"""`Predictor.answer`: a picture and a question in, answers out, best first; each with the box of what it names.

The box is what the detector finds for the answer's words in the sentence "question answer".
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerBase

from glip.answering import Answer, grounded_prompt
from glip.errors import ConfigError, PromptError, ShapeError
from glip.images import read_image
from glip.predictor import Predictor
from glip.structures.prompt import Phrase, Prompt
from glip.structures.tasks import TaskInputs
from tests.reference.tiny_predictor import ANSWERS, tiny_predictor

QUESTION = "what is on the table"


@pytest.fixture(scope="module")
def headed(tokenizer: PreTrainedTokenizerBase) -> Predictor:
    """A tiny network that answers."""
    return tiny_predictor(tokenizer)


@pytest.fixture(scope="module")
def cat(photos: Path) -> Image.Image:
    return read_image(photos / "chelsea.jpg")


def assert_same(found: Sequence[Answer], expected: Sequence[Answer]) -> None:
    assert [one.text for one in found] == [one.text for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert (one.box is None) == (other.box is None)
        if one.box is not None:
            assert one.box == pytest.approx(other.box, abs=0.1)


def test_the_likeliest_answer_comes_alone_unless_more_are_asked_for(headed: Predictor, cat: Image.Image) -> None:
    every = headed.answer(cat, QUESTION, top_k=9)
    assert sorted(one.text for one in every) == sorted(ANSWERS)  # there are no more
    scores = [one.score for one in every]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert_same(headed.answer(cat, QUESTION), every[:1])
    assert_same(headed.answer(cat, QUESTION, top_k=2), every[:2])


def test_scores_are_the_heads_probabilities(headed: Predictor, cat: Image.Image) -> None:
    inputs = headed.processor.image_processor(cat)
    ids = torch.tensor([headed.processor.tokenizer.encode(QUESTION)])
    with torch.inference_mode():
        output = headed.model(inputs["pixel_values"], ids, image_sizes=inputs["image_sizes"], tasks=TaskInputs())
    logits = output.tasks.answer_logits[0]
    found = {one.text: one.score for one in headed.answer(cat, QUESTION, top_k=3)}
    assert [found[text] for text in ANSWERS] == pytest.approx(logits.sigmoid().tolist(), abs=1e-4)


def test_a_question_mark_and_spaces_round_the_question_change_nothing(headed: Predictor, cat: Image.Image) -> None:
    assert_same(headed.answer(cat, f"  {QUESTION} ? "), headed.answer(cat, QUESTION))


def test_a_list_of_pictures_gives_a_list_with_one_question_for_all_or_one_each(
    headed: Predictor, cat: Image.Image, tokenizer: PreTrainedTokenizerBase
) -> None:
    pictures = [cat, cat.crop((0, 0, 150, 300))]
    together = tiny_predictor(tokenizer, batch_size=2).answer(pictures, QUESTION)
    each = headed.answer(pictures, [QUESTION, QUESTION])
    assert len(together) == 2
    for picture, found, other in zip(pictures, together, each, strict=True):
        assert_same(other, headed.answer(picture, QUESTION))
        assert [one.text for one in found] == [one.text for one in other]
    assert len(headed.answer([cat], QUESTION)) == 1
    assert headed.answer([], QUESTION) == []


def test_the_answer_is_looked_for_behind_the_question() -> None:
    assert grounded_prompt("what is it", "red cup") == Prompt(
        "what is it red cup", (Phrase("red cup", ((11, 18),), 0),)
    )


def test_an_answers_box_is_the_best_one_of_its_words_behind_the_question(headed: Predictor, cat: Image.Image) -> None:
    for one in headed.answer(cat, QUESTION, top_k=3):
        found = headed.ground(cat, f"{QUESTION} {one.text}", [one.text])
        assert one.box == pytest.approx(found.boxes[0].tolist(), abs=0.1)


@pytest.mark.parametrize("asked", [{"threshold": 1.0}, {"boxes": False}], ids=["it is not found", "none is wanted"])
def test_there_is_no_box_where(asked: dict[str, Any], headed: Predictor, cat: Image.Image) -> None:
    assert [one.box for one in headed.answer(cat, QUESTION, top_k=3, **asked)] == [None] * 3


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(
            Answer("cup", 0.5, (1.0, 2.0, 3.0, 4.0)),
            {"answer": "cup", "score": 0.5, "box": {"xmin": 1.0, "ymin": 2.0, "xmax": 3.0, "ymax": 4.0}},
            id="a box",
        ),
        pytest.param(Answer("2", 0.25), {"answer": "2", "score": 0.25, "box": None}, id="none"),
    ],
)
def test_json_of_an_answer_with(answer: Answer, expected: dict[str, Any]) -> None:
    assert answer.to_dict() == expected


@pytest.mark.parametrize(
    ("question", "error", "message"),
    [
        pytest.param("", PromptError, "the question must be a few words", id="an empty question"),
        pytest.param(" ? ", PromptError, "the question must be a few words", id="a question mark alone"),
        pytest.param(None, PromptError, "the question must be a few words.*got None", id="nothing"),
        pytest.param("what " * 300, PromptError, "at most 256 fit", id="a question of 300 words"),
        pytest.param([QUESTION] * 2, ShapeError, "each image needs its question, got 2 for 1", id="two for a picture"),
    ],
)
def test_a_question_is_refused_that_is(
    question: Any, error: type[Exception], message: str, headed: Predictor, cat: Image.Image
) -> None:
    with pytest.raises(error, match=message):
        headed.answer([cat], question)


def test_no_answer_at_all_and_a_network_without_the_head_are_refused(
    headed: Predictor, cat: Image.Image, tokenizer: PreTrainedTokenizerBase
) -> None:
    with pytest.raises(ConfigError, match="top_k must be at least 1, got 0"):
        headed.answer(cat, QUESTION, top_k=0)
    with pytest.raises(ConfigError, match="this model has no question answering head; load one that has"):
        tiny_predictor(tokenizer, heads={}).answer(cat, QUESTION)
