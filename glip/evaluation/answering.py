"""Numbers of answers to questions: VQA's accuracy, and how often the answer's box is right."""

from collections import defaultdict
from collections.abc import Sequence

import torch

from glip.errors import ShapeError
from glip.structures.boxes import pairwise_iou
from glip.text.answers import agreement

SAME_BOX = 0.5  # IoU

Box = Sequence[float]


def vqa_accuracy(
    answers: Sequence[str], given: Sequence[Sequence[str]], kinds: Sequence[str] | None = None
) -> dict[str, float]:
    """VQA's accuracy (Antol et al. 2015): mean agreement with people, each left out once.

    Args:
        answers: one a question.
        given: of each question, what people said, at least four of them; an answer that is certain, repeated.
        kinds: of each question, a name under which it is counted once more; "" for none.

    Returns:
        "accuracy" in `[0, 1]`, 0 where there is no question, and "accuracy, <kind>" for each kind.

    Raises:
        ShapeError: there is not one answer, or not one kind, for each question.
        DataError: a question has fewer than four people's answers.
    """
    kinds = [""] * len(given) if kinds is None else kinds
    if not len(answers) == len(given) == len(kinds):
        raise ShapeError(
            f"each question needs one answer and one kind, got {len(answers)} answers and {len(kinds)} kinds of "
            f"{len(given)} questions"
        )
    by_kind: dict[str, list[float]] = defaultdict(list)
    for answer, people, kind in zip(answers, given, kinds, strict=True):
        by_kind[kind].append(agreement(answer, people))
    everything = [score for scores in by_kind.values() for score in scores]
    named = {f"accuracy, {kind}": _mean(scores) for kind, scores in sorted(by_kind.items()) if kind}
    return {"accuracy": _mean(everything)} | named


def answer_box_recall(found: Sequence[Box | None], truth: Sequence[Box | None]) -> float:
    """Recall@1 of grounded answers: how often the best box of an answer has IoU >= 0.5 with the true one.

    Args:
        found: of each question, the best box, xyxy pixels; None where nothing was found.
        truth: of each question, the answer's box, xyxy pixels; a question with None is not counted.

    Returns:
        A share in `[0, 1]`; 0 where no answer has a box.

    Raises:
        ShapeError: there are not as many found as true ones.
    """
    if len(found) != len(truth):
        raise ShapeError(f"each of {len(truth)} questions needs a found box or None, got {len(found)}")
    asked = [(one, other) for one, other in zip(found, truth, strict=True) if other is not None]
    return _mean([float(one is not None and _is_same(one, other)) for one, other in asked])


def _is_same(one: Box, other: Box) -> bool:
    boxes = torch.tensor([list(one), list(other)], dtype=torch.float64)
    return pairwise_iou(boxes[:1], boxes[1:]).item() >= SAME_BOX


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0
