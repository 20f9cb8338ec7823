"""A box stays if the teacher is sure, no better box covers it, and it is among the best few; the rest is counted."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from PIL import Image

from glip.engine.pseudo_labels import (
    COVERED,
    KEPT,
    NOTHING_FOUND,
    REFUSED,
    SURPLUS,
    TAKEN,
    UNKNOWN_WORD,
    UNSURE,
    PseudoLabelRule,
    SecondOpinion,
    judge,
    to_record,
)
from glip.errors import ConfigError, ShapeError
from glip.structures.detections import Detections
from glip.text.prompts import prompt_from_caption

PICTURE = Image.new("RGB", (100, 60), "grey")
PHRASES = ("a cat", "a dog")
LEFT, SHIFTED, RIGHT = (
    [0.0, 0.0, 40.0, 40.0],
    [0.0, 0.0, 40.0, 36.0],
    [50.0, 10.0, 90.0, 50.0],
)  # IoU of the first two: 0.9


def found(*candidates: tuple[list[float], float, int]) -> Detections:
    boxes = torch.tensor([box for box, _, _ in candidates]).view(-1, 4)
    scores = torch.tensor([score for _, score, _ in candidates])
    return Detections(boxes, scores, torch.tensor([label for _, _, label in candidates], dtype=torch.int64), PHRASES)


def fates(*candidates: tuple[list[float], float, int], **rule: Any) -> list[str]:
    return list(judge(found(*candidates), PICTURE, PseudoLabelRule(**rule)).reasons)


def opinion(*scores: float) -> SecondOpinion:
    return SecondOpinion(lambda crops, phrases: list(scores), "by hand")


@pytest.mark.parametrize(
    ("candidates", "rule", "expected"),
    [
        pytest.param([], {}, [], id="nothing"),
        pytest.param([(LEFT, 0.5, 0), (RIGHT, 0.49, 0)], {}, [KEPT, UNSURE], id="sure from the confidence on"),
        pytest.param([(LEFT, 0.6, 0), (RIGHT, 0.9, 0)], {}, [KEPT, KEPT], id="two apart"),
        pytest.param([(LEFT, 0.9, 0), (SHIFTED, 0.8, 0)], {}, [KEPT, COVERED], id="one on the other"),
        pytest.param([(LEFT, 0.9, 0), (SHIFTED, 0.8, 0)], {"nms_threshold": 0.91}, [KEPT, KEPT], id="a looser NMS"),
        pytest.param([(LEFT, 0.9, 0), (SHIFTED, 0.8, 1)], {}, [KEPT, KEPT], id="of two phrases"),
        pytest.param([(LEFT, 0.9, 0), (SHIFTED, 0.8, 1)], {"rival_threshold": 0.8}, [KEPT, TAKEN], id="of two rivals"),
        pytest.param(
            [(LEFT, 0.9, 0), (RIGHT, 0.8, 0), (RIGHT, 0.7, 1)],
            {"max_boxes": 1},
            [KEPT, SURPLUS, KEPT],
            id="one a phrase at most",
        ),
        pytest.param([(LEFT, 0.9, 0), ([5.0, 5.0, 5.5, 30.0], 0.9, 0)], {}, [KEPT], id="a box thinner than a pixel"),
        pytest.param([(LEFT, 0.9, 0), ([101.0, 5.0, 130.0, 30.0], 0.9, 0)], {}, [KEPT], id="a box off the picture"),
    ],
)
def test_each_candidate_has_a_fate(
    candidates: list[tuple[list[float], float, int]], rule: dict[str, Any], expected: list[str]
) -> None:
    assert fates(*candidates, **rule) == expected


def test_candidates_come_best_first_and_inside_the_picture() -> None:
    judgement = judge(found((LEFT, 0.6, 0), ([50.0, 10.0, 120.0, 80.0], 0.9, 1)), PICTURE, PseudoLabelRule())
    assert judgement.detections.labels.tolist() == [1, 0]
    assert judgement.detections.boxes.tolist() == [[50.0, 10.0, 100.0, 60.0], LEFT]


def test_a_second_opinion_counts_as_much_as_the_first() -> None:
    judgement = judge(found((LEFT, 0.8, 0), (RIGHT, 0.45, 1)), PICTURE, PseudoLabelRule(), opinion(0.2, 0.8))
    assert judgement.detections.scores.tolist() == pytest.approx([0.6, 0.4])  # sqrt(0.45 x 0.8), sqrt(0.8 x 0.2)
    assert judgement.detections.labels.tolist() == [1, 0]
    assert judgement.reasons == (KEPT, REFUSED)


def test_only_boxes_that_it_can_save_get_a_second_opinion() -> None:
    asked: list[tuple[tuple[int, int], str]] = []

    def score(crops: Sequence[Image.Image], phrases: Sequence[str]) -> list[float]:
        asked.extend((crop.size, phrase) for crop, phrase in zip(crops, phrases, strict=True))
        return [1.0] * len(crops)

    candidates = found((LEFT, 0.9, 0), ([50.5, 10.2, 89.5, 49.9], 0.26, 1), (RIGHT, 0.24, 0))
    judgement = judge(candidates, PICTURE, PseudoLabelRule(), SecondOpinion(score, "yes to all"))
    assert asked == [((40, 40), "a cat"), ((40, 40), "a dog")]  # sqrt(0.24 x 1) is below 0.5
    assert judgement.reasons == (KEPT, KEPT, UNSURE)


def test_a_second_opinion_on_nothing_is_not_asked_for() -> None:
    assert judge(found(), PICTURE, PseudoLabelRule(), opinion(1.0)).reasons == ()


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        pytest.param((0.5,), r"must be 2 scores in \[0, 1\], got \(1,\)", id="too few"),
        pytest.param((0.5, 1.5), "from 0.5 to 1.5", id="beyond 1"),
        pytest.param((0.5, float("nan")), r"must be 2 scores in \[0, 1\]", id="not a number"),
    ],
)
def test_a_wrong_second_opinion_is_refused(scores: tuple[float, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        judge(found((LEFT, 0.9, 0), (RIGHT, 0.9, 0)), PICTURE, PseudoLabelRule(), opinion(*scores))


def test_a_record_has_each_phrase_with_its_boxes_or_why_there_are_none() -> None:
    prompt = prompt_from_caption("a cat, a dog, a flumph and a ball")
    candidates = Detections(
        torch.tensor([[1.234, 2.0, 30.0, 40.0], RIGHT]),
        torch.tensor([0.91239, 0.3]),
        torch.tensor([0, 1]),
        tuple(phrase.text for phrase in prompt.phrases),
    )
    record = to_record(judge(candidates, PICTURE, PseudoLabelRule()), prompt, lambda phrase: phrase != "a flumph")
    cat, dog, flumph, ball = record["phrases"]
    box = [1.23, 2.0, 30.0, 40.0]
    assert cat == {"span": [0, 5], "reason": KEPT, "boxes": [box], "scores": [0.9124], "best": [box, 0.9124]}
    assert dog == {"span": [7, 12], "reason": UNSURE, "boxes": [], "scores": [], "best": [RIGHT, 0.3]}
    assert (flumph["reason"], ball["reason"]) == (UNKNOWN_WORD, NOTHING_FOUND)
    assert record["boxes"] == {KEPT: 1, UNSURE: 1}


def test_a_caption_becomes_a_prompt_of_its_noun_phrases() -> None:
    rule = PseudoLabelRule()
    prompt = rule.prompt_of("a cat sits near a dog and a cat")
    assert [(phrase.text, phrase.spans) for phrase in prompt.phrases] == [
        ("a cat", ((0, 5),)),
        ("a dog", ((16, 21),)),
        ("a cat", ((26, 31),)),
    ]
    assert rule.prompt_of("").phrases == rule.prompt_of("it is").phrases == ()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        pytest.param({"confidence": 1.1}, r"confidence must be in \[0, 1\], got 1\.1", id="confidence"),
        pytest.param({"nms_threshold": -0.1}, r"nms_threshold must be in \[0, 1\]", id="NMS"),
        pytest.param({"rival_threshold": float("nan")}, r"rival_threshold must be in \[0, 1\]", id="rivals"),
        pytest.param({"max_boxes": 0}, "max_boxes must be at least 1", id="no boxes"),
        pytest.param({"parser": "nltk"}, "parser must be 'rules' or 'spacy', got 'nltk'", id="another parser"),
    ],
)
def test_impossible_rules_are_refused(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PseudoLabelRule(**rule)
