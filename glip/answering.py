"""Questions about pictures to answers, and to the boxes of what the answers name (GLIPv2, section 3.1)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from glip.errors import ConfigError, PromptError, ShapeError
from glip.images import ImageInput, read_in_batches
from glip.models.heads.build import weigh_answers
from glip.searching import Search, head_of
from glip.structures.detections import CORNER_NAMES, Detections
from glip.structures.prompt import Phrase, Prompt
from glip.text.prompts import plain_question
from glip.text.tokens import TokenizedPrompts, tokenize_prompts

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Answer:
    """An answer to a question about a picture.

    Attributes:
        text: one of the answers that the network was trained with.
        score: in `[0, 1]`, how likely it is right; those of different answers need not sum to 1.
        box: xyxy pixels of the picture, where what the answer names is; None where nothing was found.
    """

    text: str
    score: float
    box: Box | None = None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: answer, score, and box with named corners or None."""
        box = None if self.box is None else dict(zip(CORNER_NAMES, self.box, strict=True))
        return {"answer": self.text, "score": self.score, "box": box}


@torch.inference_mode()
def answer_questions(
    search: Search,
    pictures: Sequence[ImageInput],
    questions: Sequence[str],
    *,
    top_k: int,
    choose: Callable[[Detections], Detections] | None,
) -> list[list[Answer]]:
    """The best answers to each picture's question, best first.

    Args:
        search: with a network that has the head.
        pictures: what `read_image` reads.
        questions: one for each.
        top_k: answers a question; fewer where the network knows fewer.
        choose: what is kept of an answer's detections, of which the best is its box; None to look for no boxes.

    Raises:
        ConfigError: the network has no head for questions, or top_k is below 1.
        PromptError: a question is empty or too long.
        ShapeError: there is not one question for each picture.
        ImageError: a picture cannot be read.
    """
    head_of(search.model, "vqa")
    if top_k < 1:
        raise ConfigError(f"top_k must be at least 1, got {top_k}")
    if len(questions) != len(pictures):
        raise ShapeError(f"each image needs its question, got {len(questions)} for {len(pictures)} images")
    asked = [_plain(question) for question in questions]
    words = _tokens(search, [Prompt(question, ()) for question in asked])
    answers: list[list[Answer]] = [[] for _ in pictures]
    for places, read in read_in_batches(pictures, search.batch_size):
        levels, sizes, originals = search.encode(read)
        best = _best_answers(search, levels, sizes, words.rows(places), top_k)
        for row, (place, found) in enumerate(zip(places, best, strict=True)):
            boxes: list[Box | None] = [None] * len(found)
            if choose is not None:
                of_picture = [level[row : row + 1] for level in levels]
                texts = [text for text, _ in found]
                boxes = _find(search, of_picture, sizes[row], originals[row], asked[place], texts, choose)
            answers[place] = [Answer(*answer, box) for answer, box in zip(found, boxes, strict=True)]
    return answers


def grounded_prompt(question: str, answer: str) -> Prompt:
    """The sentence "question answer", in which the answer is looked for."""
    start = len(question) + 1
    return Prompt(f"{question} {answer}", (Phrase(answer, ((start, start + len(answer)),), 0),))


def _plain(question: str) -> str:
    plain = plain_question(question) if isinstance(question, str) else ""
    if not plain:
        raise PromptError(f"the question must be a few words, such as 'what colour is the cup?', got {question!r}")
    return plain


def _tokens(search: Search, prompts: Sequence[Prompt]) -> TokenizedPrompts:
    return tokenize_prompts(prompts, search.processor.tokenizer, max_tokens=search.processor.max_tokens)


def _best_answers(
    search: Search, levels: Sequence[Tensor], sizes: Tensor, words: TokenizedPrompts, top_k: int
) -> list[list[tuple[str, float]]]:
    numbers = search.model.config.heads["vqa"]
    output = search.ask(levels, sizes, words, output_features=True)
    assert output.features is not None
    logits = weigh_answers(head_of(search.model, "vqa"), output.features, output.attention_mask, numbers["stride"])
    known: list[str] = numbers["answers"]
    best = logits.float().sigmoid().topk(min(top_k, len(known)), dim=1)
    return [
        [(known[index], score) for index, score in zip(indices, scores, strict=True)]
        for indices, scores in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _find(
    search: Search,
    levels: Sequence[Tensor],
    size: Tensor,
    original: tuple[int, int],
    question: str,
    texts: Sequence[str],
    choose: Callable[[Detections], Detections],
) -> list[Box | None]:
    """The best box of each answer to one picture's question."""
    prompts = [grounded_prompt(question, text) for text in texts]
    count = len(prompts)
    found = search.decode(levels, size.expand(count, 2), [original] * count, prompts, _tokens(search, prompts))
    return [_best_box(choose(one)) for one in found]


def _best_box(found: Detections) -> Box | None:
    if not len(found):
        return None
    left, top, right, bottom = found.boxes[0].tolist()
    return left, top, right, bottom
