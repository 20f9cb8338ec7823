"""Self-training's first half: a teacher's boxes for the phrases of captions, as training data for a student.

Each caption's noun phrases are looked for. A box stays if the teacher is sure of it, if no better box of its phrase (or
of another phrase, where that is asked for) covers it, and if it is among the best few. A second opinion may be asked
about each box's pixels. What is dropped is counted.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from glip.annotations import Record
from glip.detection.nms import suppress
from glip.errors import ConfigError, ShapeError
from glip.structures.boxes import clip_boxes
from glip.structures.detections import Detections
from glip.structures.prompt import Phrase, Prompt
from glip.text.noun_phrases import find_noun_phrases

KEPT = "kept"
UNKNOWN_WORD, NOTHING_FOUND, UNSURE, REFUSED = "unknown word", "nothing found", "unsure", "refused by second opinion"
COVERED, TAKEN, SURPLUS = "covered by a better box", "taken by another phrase", "beyond the most boxes of a phrase"
MIN_SIDE = 1.0  # pixels; a thinner box is none
BOX_DIGITS, SCORE_DIGITS = 2, 4  # hundredths of a pixel; files stay small and equal on any machine's last bit


@dataclass(frozen=True)
class SecondOpinion:
    """Another model's view of each box, such as CLIP's.

    Attributes:
        score: crops and the phrases they were found for to as many scores in `[0, 1]`.
        name: which model it is, for the settings.
    """

    score: Callable[[Sequence[Image.Image], Sequence[str]], Sequence[float]]
    name: str


@dataclass(frozen=True)
class PseudoLabelRule:
    """Which boxes stay.

    Attributes:
        confidence: lowest score of a box, in `[0, 1]`. With a second opinion the score is `sqrt(teacher's x its)`.
        nms_threshold: on IoU; above it the lower score of a phrase goes.
        rival_threshold: on IoU with a better box of another phrase; above it a box goes. 1 for never; published: 0.9.
        max_boxes: most boxes of a phrase.
        parser: how noun phrases are found.
    """

    confidence: float = 0.5
    nms_threshold: float = 0.5
    rival_threshold: float = 1.0
    max_boxes: int = 20
    parser: Literal["rules", "spacy"] = "rules"

    def __post_init__(self) -> None:
        """Refuse impossible rules."""
        for name in ("confidence", "nms_threshold", "rival_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.max_boxes < 1:
            raise ConfigError(f"max_boxes must be at least 1, got {self.max_boxes}")
        if self.parser not in ("rules", "spacy"):
            raise ConfigError(f"parser must be 'rules' or 'spacy', got {self.parser!r}")

    def prompt_of(self, caption: str) -> Prompt:
        """The caption with its noun phrases, perhaps none."""
        spans = find_noun_phrases(caption, engine=self.parser)
        phrases = [Phrase(caption[start:end], ((start, end),), label) for label, (start, end) in enumerate(spans)]
        return Prompt(caption, tuple(phrases))


@dataclass(frozen=True, eq=False)
class Judgement:
    """What became of one picture's candidates.

    Attributes:
        detections: all candidates, best first; with a second opinion, scored by both.
        reasons: of each candidate, `KEPT` or why it was dropped; length N.
    """

    detections: Detections
    reasons: tuple[str, ...]


def judge(
    found: Detections, picture: Image.Image, rule: PseudoLabelRule, second_opinion: SecondOpinion | None = None
) -> Judgement:
    """Decide about each of a teacher's boxes.

    Args:
        found: all that the teacher found, boxes in pixels of the picture.
        picture: RGB and upright.
        rule: what stays.
        second_opinion: another model's view of each box; None for none.

    Raises:
        ShapeError: the second opinion does not give one score in [0, 1] for each crop.
    """
    boxes = clip_boxes(found.boxes.detach().cpu().float(), (picture.height, picture.width))
    is_box = (boxes[:, 2:] - boxes[:, :2]).amin(dim=1) >= MIN_SIDE
    scores = found.scores.detach().cpu().float()
    candidates = Detections(boxes, scores, found.labels.cpu(), found.phrases)[is_box]
    candidates = candidates[candidates.scores.argsort(descending=True, stable=True)]
    reasons = [UNSURE] * len(candidates)
    if second_opinion is not None:
        candidates, reasons = _with_second_opinion(candidates, picture, rule.confidence, second_opinion)
    sure = (candidates.scores >= rule.confidence).nonzero()[:, 0]
    apart = sure[_apart(candidates[sure], rule.nms_threshold)]
    won = apart[_apart(candidates[apart], rule.rival_threshold, between_phrases=True)]
    for fate, which in ((COVERED, sure), (TAKEN, apart)):
        for index in which.tolist():
            reasons[index] = fate
    count: Counter[int] = Counter()
    labels = candidates.labels.tolist()
    for index in won.tolist():
        count[labels[index]] += 1
        reasons[index] = KEPT if count[labels[index]] <= rule.max_boxes else SURPLUS
    return Judgement(candidates, tuple(reasons))


def to_record(judgement: Judgement, prompt: Prompt, knows: Callable[[str], bool]) -> Record:
    """A judgement as JSON: each phrase with its span, its kept boxes and, if none is kept, why and its best candidate.

    Args:
        judgement: about the prompt's picture.
        prompt: whose phrases the labels index.
        knows: whether the teacher could look for a phrase at all.

    Returns:
        `phrases`, each with `span`, `reason`, `boxes` (xyxy pixels), `scores` and `best` (box and score, or null); and
        `boxes`, how many candidates had which fate.
    """
    boxes = [[round(edge, BOX_DIGITS) for edge in box] for box in judgement.detections.boxes.tolist()]
    scores = [round(score, SCORE_DIGITS) for score in judgement.detections.scores.tolist()]
    labels = judgement.detections.labels.tolist()
    phrases = []
    for phrase in prompt.phrases:
        mine = [index for index, label in enumerate(labels) if label == phrase.label]
        kept = [index for index in mine if judgement.reasons[index] == KEPT]
        nothing = NOTHING_FOUND if knows(phrase.text) else UNKNOWN_WORD
        reason = KEPT if kept else judgement.reasons[mine[0]] if mine else nothing
        phrases.append(
            {
                "span": list(phrase.spans[0]),
                "reason": reason,
                "boxes": [boxes[index] for index in kept],
                "scores": [scores[index] for index in kept],
                "best": [boxes[mine[0]], scores[mine[0]]] if mine else None,
            }
        )
    fates = {fate: judgement.reasons.count(fate) for fate in dict.fromkeys(judgement.reasons)}
    return {"phrases": phrases, "boxes": fates}


def _with_second_opinion(
    candidates: Detections, picture: Image.Image, confidence: float, second_opinion: SecondOpinion
) -> tuple[Detections, list[str]]:
    """Candidates scored by both, best first. Boxes that no second opinion could save are not asked about."""
    reasons = [REFUSED if is_sure else UNSURE for is_sure in (candidates.scores >= confidence).tolist()]
    asked = (candidates.scores >= confidence**2).nonzero()[:, 0].tolist()
    scores = candidates.scores.clone()
    if asked:
        crops = [_crop(picture, box) for box in candidates.boxes[asked].tolist()]
        texts = [candidates.phrases[label] for label in candidates.labels[asked].tolist()]
        scores[asked] = (scores[asked] * _checked(second_opinion.score(crops, texts), len(asked))).sqrt()
    scores[candidates.scores < confidence**2] = 0.0
    order = scores.argsort(descending=True, stable=True)
    both = Detections(candidates.boxes, scores, candidates.labels, candidates.phrases)
    return both[order], [reasons[index] for index in order.tolist()]


def _checked(scores: Sequence[float], count: int) -> Tensor:
    values = torch.as_tensor(scores, dtype=torch.float32)
    if values.shape != (count,) or not bool(((values >= 0) & (values <= 1)).all()):
        raise ShapeError(
            f"a second opinion on {count} crops must be {count} scores in [0, 1], got {tuple(values.shape)}"
            + (f" from {values.min().item():g} to {values.max().item():g}" if values.numel() else "")
        )
    return values


def _crop(picture: Image.Image, box: Sequence[float]) -> Image.Image:
    """All pixels that the box touches."""
    x1, y1, x2, y2 = box
    return picture.crop((math.floor(x1), math.floor(y1), math.ceil(x2), math.ceil(y2)))


def _apart(candidates: Detections, threshold: float, *, between_phrases: bool = False) -> Tensor:
    """Indices of the boxes that no better box of their phrase, or of any, covers; best first."""
    return suppress(
        candidates.boxes,
        candidates.scores,
        candidates.labels,
        threshold=threshold,
        class_agnostic=between_phrases,
        legacy=False,
    )
