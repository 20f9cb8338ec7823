"""From raw predictions to labelled boxes (ATSS head; GLIP, section 3.1)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeGuard

import torch
from torch import Tensor

from glip.detection.anchors import make_anchors
from glip.detection.box_coder import LEGACY_PIXEL, decode_boxes
from glip.detection.nms import suppress
from glip.errors import ConfigError
from glip.structures.boxes import clip_boxes, scale_boxes
from glip.structures.detections import Detections
from glip.structures.output import GlipOutput
from glip.structures.prompt import Prompt

Aggregation = Literal["mean", "max"] | float
"""How a phrase's score comes from its tokens' probabilities; a number p is their power mean: 1 the mean, more and more
the best."""
MAX_CONTRAST = 10  # more makes certainties of scores, which nothing tells apart
MAX_LENGTH_GAIN = 3  # likewise
Candidates = tuple[Tensor, Tensor, Tensor]
"""boxes `(N, 4)` xyxy pixels of the network's image, scores `(N,)`, labels `(N,)`."""


@dataclass(frozen=True)
class PostProcessor:
    """Thresholds and rules that turn scores into detections. The defaults are the published models'.

    Attributes:
        candidate_threshold: on a phrase's score, by all rules but centerness; what is lower is never a candidate.
        aggregation: a phrase's score is the mean, the best, or a power mean of its tokens' probabilities.
        competition: how much a phrase's score at a position suffers where another phrase of the caption has a higher
            one: it is multiplied by its share of that one, to this power. 0, the published rule, for not at all.
        candidates_per_level: the best so many of each pyramid level go on.
        nms_threshold: on IoU; above it the lower score goes.
        class_agnostic: whether boxes of other phrases suppress too.
        legacy_iou: whether NMS counts sides one pixel longer, as the published models do.
        max_detections: of one image and one caption.
        contrast: what a word with an opposite adds to an expression's logit is added so many times more, at most
            `MAX_CONTRAST` (`glip.detection.contrast`); 0, the published rule, adds nothing. Of expressions only: what
            `refer` is asked, and RefCOCO.
        length_gain: how much the score of a phrase of several tokens rises, for it is harder to be sure of more words:
            its odds are multiplied by the number of tokens to this power, at most `MAX_LENGTH_GAIN`. 0, the published
            rule, for not at all. Of phrases, not of expressions.
    """

    candidate_threshold: float = 0.05
    aggregation: Aggregation = "mean"
    competition: float = 0.0
    candidates_per_level: int = 1000
    nms_threshold: float = 0.6
    class_agnostic: bool = False
    legacy_iou: bool = True
    max_detections: int = 100
    contrast: float = 0.0
    length_gain: float = 0.0

    def __post_init__(self) -> None:
        """Refuse impossible rules."""
        if self.aggregation not in ("mean", "max") and not (_is_number(self.aggregation) and self.aggregation >= 1):
            raise ConfigError(
                f"aggregation must be 'mean', 'max', or the power of a mean, at least 1, got {self.aggregation!r}"
            )
        for name in ("candidate_threshold", "nms_threshold"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value <= 1:
                raise ConfigError(f"{name} must be in [0, 1], got {value!r}")
        if not _is_number(self.competition) or self.competition < 0:
            raise ConfigError(f"competition must be a number, at least 0, got {self.competition!r}")
        for name, most in (("contrast", MAX_CONTRAST), ("length_gain", MAX_LENGTH_GAIN)):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value <= most:
                raise ConfigError(f"{name} must be a number from 0 to {most}, got {value!r}")
        for name in ("candidates_per_level", "max_detections"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"{name} must be a whole number, at least 1, got {value!r}")

    def for_expressions(self) -> "PostProcessor":
        """The same for words that all describe one thing: every box is kept, and every token counts alike.

        "Left" tells one man from the other, whatever the rules make of a phrase's best tokens.
        """
        return replace(self, candidate_threshold=0.0, aggregation="mean", length_gain=0.0)

    def __call__(
        self,
        output: GlipOutput,
        prompts: Sequence[Prompt],
        token_maps: Sequence[Tensor],
        original_sizes: Sequence[tuple[int, int]],
        *,
        threshold: float | Mapping[str, float] = 0.0,
    ) -> list[Detections]:
        """Decode a batch.

        Args:
            output: of the network, for B images.
            prompts: one for each image.
            token_maps: of each prompt, `(P, L)` bool.
            original_sizes: `(height, width)` of each image before it was resized.
            threshold: lowest final score, of all phrases or by the phrase's text (phrases not named: 0).

        Returns:
            One `Detections` an image, best first, boxes in pixels of the original image.
        """
        sizes = [(int(height), int(width)) for height, width in output.image_sizes.tolist()]
        detections = []
        for index, prompt in enumerate(prompts):
            boxes, scores, labels = self.decode(output, index, token_maps[index])
            boxes = scale_boxes(boxes, sizes[index], original_sizes[index])
            detections.append(apply_threshold(_detections(boxes, scores, labels, prompt), threshold))
        return detections

    def from_scores(
        self, output: GlipOutput, phrase_scores: Tensor, prompt: Prompt, original_size: tuple[int, int]
    ) -> Detections:
        """The first image's detections by scores that were made elsewhere.

        Args:
            output: of the network.
            phrase_scores: `(A, P)` in `[0, 1]`.
            prompt: of the first image.
            original_size: its (height, width) before it was resized.

        Returns:
            All of them, best first, boxes in pixels of the original image.
        """
        height, width = output.image_sizes[0].tolist()
        boxes, scores, labels = self._decode(output, 0, phrase_scores)
        return _detections(scale_boxes(boxes, (height, width), original_size), scores, labels, prompt)

    def decode(self, output: GlipOutput, index: int, token_map: Tensor) -> Candidates:
        """The detections of one image, in the network's image frame.

        Args:
            output: of the network.
            index: which image of the batch.
            token_map: `(P, L)` bool.

        Returns:
            boxes `(N, 4)` xyxy pixels, scores `(N,)`, labels `(N,)` as rows of the token map; best first.
        """
        phrase_scores = aggregate_scores(output.alignment_logits[index].float(), token_map, self.aggregation)
        phrase_scores = compete(phrase_scores, self.competition)
        return self._decode(output, index, favour_length(phrase_scores, token_map, self.length_gain))

    def _decode(self, output: GlipOutput, index: int, phrase_scores: Tensor) -> Candidates:
        anchors = make_anchors(output.level_shapes, output.strides, device=output.box_deltas.device)
        centerness = output.centerness_logits[index].float().sigmoid()
        deltas = output.box_deltas[index].float()
        size = (int(output.image_sizes[index, 0]), int(output.image_sizes[index, 1]))
        levels = [
            self._level_candidates(phrase_scores[level], centerness[level], deltas[level], anchors[level], size)
            for level in output.levels
        ]
        boxes, scores, labels = (torch.cat(parts) for parts in zip(*levels, strict=True))
        kept = suppress(
            boxes,
            scores,
            labels,
            threshold=self.nms_threshold,
            class_agnostic=self.class_agnostic,
            legacy=self.legacy_iou,
        )[: self.max_detections]
        return boxes[kept], scores[kept], labels[kept]

    def _level_candidates(
        self, phrase_scores: Tensor, centerness: Tensor, deltas: Tensor, anchors: Tensor, size: tuple[int, int]
    ) -> Candidates:
        """The best (position, phrase) pairs of one level; one position may answer to several phrases."""
        position, label = (phrase_scores > self.candidate_threshold).nonzero(as_tuple=True)
        products = phrase_scores[position, label] * centerness[position]
        best = products.argsort(descending=True, stable=True)[: self.candidates_per_level]
        position, label = position[best], label[best]
        boxes = clip_boxes(decode_boxes(deltas[position], anchors[position]), size, pixel=LEGACY_PIXEL)
        return boxes, products[best].sqrt(), label


def aggregate_scores(logits: Tensor, token_map: Tensor, aggregation: Aggregation) -> Tensor:
    """Probability of each phrase at each anchor, from its tokens' probabilities.

    Args:
        logits: `(A, L)`.
        token_map: `(P, L)` bool, True where a token names the phrase.
        aggregation: mean, max, or power mean over a phrase's tokens.

    Returns:
        `(A, P)` in `[0, 1]`; 0 for a phrase without tokens.
    """
    token_map = token_map.to(logits.device)
    probabilities = logits.sigmoid()
    if aggregation == "max":
        scores = probabilities.new_zeros(len(logits), len(token_map))
        for phrase, tokens in enumerate(token_map):
            if tokens.any():
                scores[:, phrase] = probabilities[:, tokens].amax(dim=1)
        return scores
    weights = token_map.to(logits.dtype)
    shares = (weights / weights.sum(dim=1, keepdim=True).clamp(min=1)).T
    if aggregation == "mean":
        return probabilities @ shares
    return (probabilities**aggregation @ shares) ** (1 / aggregation)


def compete(scores: Tensor, strength: float) -> Tensor:
    """Lower each phrase's score where another phrase of the caption answers better.

    Args:
        scores: `(A, P)` in `[0, 1]`.
        strength: the power of a score's share of the position's best one; 0 changes nothing.

    Returns:
        `(A, P)`; the best phrase of each position keeps its score.
    """
    if strength == 0 or scores.shape[1] < 2:
        return scores
    best = scores.amax(dim=1, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)
    lowered: Tensor = scores * (scores / best) ** strength
    return lowered


def favour_length(scores: Tensor, token_map: Tensor, strength: float) -> Tensor:
    """Raise the scores of phrases of several tokens, so that one threshold serves short and long ones.

    Args:
        scores: `(A, P)` in `[0, 1]`.
        token_map: `(P, L)` bool.
        strength: the power of the number of tokens that a score's odds are multiplied by; 0 changes nothing.

    Returns:
        `(A, P)` in `[0, 1]`; a phrase's positions keep their order.
    """
    if strength == 0:
        return scores
    gains = token_map.sum(dim=1).clamp(min=1).to(scores) ** strength
    raised: Tensor = scores * gains / (1 + scores * (gains - 1))
    return raised


def _is_number(value: object) -> TypeGuard[float]:
    """Whether a rule, which may have been read from a file, is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def apply_threshold(detections: Detections, threshold: float | Mapping[str, float]) -> Detections:
    """Detections whose score reaches the threshold of their phrase."""
    if isinstance(threshold, Mapping):
        unknown = [name for name in threshold if name not in detections.phrases]
        if unknown:
            raise ConfigError(f"a threshold for {unknown[0]!r}, which is not looked for; phrases: {detections.phrases}")
        limits = torch.tensor([_share(threshold.get(text, 0.0)) for text in detections.phrases])
        return detections[detections.scores >= limits[detections.labels]]
    return detections[detections.scores >= _share(threshold)]


def _share(threshold: float) -> float:
    if not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise ConfigError(f"a threshold must be a number from 0 to 1, got {threshold!r}")
    return float(threshold)


def _detections(boxes: Tensor, scores: Tensor, labels: Tensor, prompt: Prompt) -> Detections:
    return Detections(
        boxes.cpu(),
        scores.cpu(),
        torch.tensor(prompt.labels, dtype=torch.int64)[labels.cpu()],
        _indexable_texts(prompt),
        _indexable_spans(prompt),
    )


def _indexable_texts(prompt: Prompt) -> tuple[str, ...]:
    """The caller's list up to this prompt's last label; places of other chunks stay empty."""
    texts = dict(zip(prompt.labels, (phrase.text for phrase in prompt.phrases), strict=True))
    return tuple(texts.get(label, "") for label in range(max(texts, default=-1) + 1))


def _indexable_spans(prompt: Prompt) -> tuple[tuple[tuple[int, int], ...], ...]:
    spans = dict(zip(prompt.labels, (phrase.spans for phrase in prompt.phrases), strict=True))
    return tuple(spans.get(label, ()) for label in range(max(spans, default=-1) + 1))
