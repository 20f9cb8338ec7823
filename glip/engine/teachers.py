"""Who finds pseudo boxes: a grounding model, or a plain detector that knows a list of classes."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from glip.annotations import Record
from glip.data.describe import plural
from glip.engine.evaluation import model_settings
from glip.errors import ConfigError, ShapeError
from glip.predictor import Predictor
from glip.structures.detections import Detections
from glip.structures.prompt import Prompt

Detect = Callable[[Image.Image], tuple[Tensor, Tensor]]
"""A picture to boxes `(N, 4)`, xyxy pixels of it, and scores `(N, K)` in `[0, 1]` of K classes."""

_WORD = re.compile(r"[^\W_]+(?:['\u2019\-][^\W_]+)*")
_IRREGULAR = {
    "men": "man",
    "women": "woman",
    "people": "person",
    "children": "child",
    "mice": "mouse",
    "knives": "knife",
}


class Teacher(Protocol):
    """Anything that finds the phrases of captions."""

    def knows(self, phrase: str) -> bool:
        """Whether the teacher can look for a phrase at all."""

    def __call__(self, pictures: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Detections]:
        """All boxes of each picture's own prompt; `labels` in them index its phrases."""

    def settings(self) -> Record:
        """What its boxes depend on, for JSON: an unfinished run goes on only with the same."""


class PredictorTeacher:
    """A grounding model. It reads the whole caption, so that other words of it help.

    Args:
        predictor: the model; its `batch_size` is used.
        model: its name, for the settings.
    """

    def __init__(self, predictor: Predictor, model: str) -> None:
        self.predictor = predictor
        self.model = model

    def knows(self, phrase: str) -> bool:
        """Always: any words can be looked for."""
        return True

    def __call__(self, pictures: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Detections]:
        """All candidates, best first; phrases beyond the model's longest caption find nothing."""
        return self.predictor.find(pictures, prompts, truncate=True)

    def settings(self) -> Record:
        """Weights, sizes, rules and versions."""
        return model_settings(self.predictor, self.model)


class DetectorTeacher:
    """A plain detector. A phrase means the classes whose name, or other word, is its ending.

    "two small black dogs" ends in "dogs" and means dog; "a hot dog" means hot dog, as the longest ending counts. Where
    a word stands for several classes ("a vehicle"), a box's score is the best of theirs.

    Args:
        detect: the detector.
        names: its K class names.
        words: other words for a class, by its name; a word may stand at several classes.
        name: the detector's name, for the settings.

    Raises:
        ConfigError: there are no names, or `words` has a class that is none of them.
    """

    def __init__(
        self, detect: Detect, names: Sequence[str], *, words: Mapping[str, Sequence[str]] | None = None, name: str
    ) -> None:
        unknown = sorted(set(words or {}) - {*names})
        if not names or unknown:
            what = f"other words for {unknown[0]!r}, which is no class" if unknown else "no class names"
            raise ConfigError(f"a detector needs the names of its classes, and words for these only, got {what}")
        self.detect = detect
        self.names = tuple(names)
        self.name = name
        self.words = {key: tuple(others) for key, others in (words or {}).items()}
        self.classes: dict[tuple[str, ...], list[int]] = {}
        for index, class_name in enumerate(self.names):
            for text in {class_name: None, **dict.fromkeys(self.words.get(class_name, ()))}:
                for spelling in {text: None, plural(text): None}:
                    known = self.classes.setdefault(_words(spelling), [])
                    known += [] if index in known else [index]

    def knows(self, phrase: str) -> bool:
        """Whether the phrase ends in a word for a class."""
        return bool(self.classes_of(phrase))

    def classes_of(self, phrase: str) -> list[int]:
        """The classes that a phrase means, as indices into the names; empty if none."""
        words = _words(phrase)
        endings = (words[start:] for start in range(len(words)))
        return next((self.classes[ending] for ending in endings if ending in self.classes), [])

    def __call__(self, pictures: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Detections]:
        """Every box for every phrase that means one of its classes, best first.

        Raises:
            ShapeError: the detector's boxes are not `(N, 4)`, or its scores not `(N, K)`.
        """
        return [self._find(picture, prompt) for picture, prompt in zip(pictures, prompts, strict=True)]

    def _find(self, picture: Image.Image, prompt: Prompt) -> Detections:
        boxes, scores = self.detect(picture)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != (len(boxes), len(self.names)):
            raise ShapeError(
                f"a detector of {len(self.names)} classes must give boxes (N, 4) and scores (N, {len(self.names)}), "
                f"got {tuple(boxes.shape)} and {tuple(scores.shape)}"
            )
        texts = tuple(phrase.text for phrase in prompt.phrases)
        meant = [(label, classes) for label, text in enumerate(texts) if (classes := self.classes_of(text))]
        if not meant or not len(boxes):
            return Detections.empty(texts)
        all_scores = torch.cat([scores[:, classes].amax(dim=1) for _, classes in meant])
        labels = torch.tensor([label for label, _ in meant]).repeat_interleave(len(boxes))
        found = Detections(boxes.repeat(len(meant), 1), all_scores, labels, texts)
        return found[all_scores.argsort(descending=True, stable=True)]

    def settings(self) -> Record:
        """Names and words; the detector itself is known by its name only."""
        return {"detector": self.name, "names": list(self.names), "words": {k: list(v) for k, v in self.words.items()}}


def _words(text: str) -> tuple[str, ...]:
    """Lower-case words; the last one's irregular plural as its singular."""
    words = _WORD.findall(text.lower())
    return tuple(words[:-1] + [_IRREGULAR.get(word, word) for word in words[-1:]])
