"""What every benchmark has: questions to a model, a form for the answers, and a score."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from glip.annotations import read_predictions
from glip.errors import FileError
from glip.structures.detections import Detections
from glip.structures.prompt import Prompt
from glip.text.prompts import Affix

Record = dict[str, Any]
Key = tuple[int | str, ...]


@dataclass(frozen=True)
class Vocabulary:
    """A class list, as `Predictor.detect` takes it.

    Attributes:
        labels: class names in the benchmark's order.
        ids: what predictions call each of them.
        affixes: (prefix, name, suffix) of each class, a manual prompt; None for the names alone.
        chunk_size: most names in a caption; None for as many as fit.
    """

    labels: tuple[str, ...]
    ids: tuple[int, ...]
    affixes: tuple[Affix, ...] | None = None
    chunk_size: int | None = None


@dataclass(frozen=True)
class Question:
    """What a model is asked about one picture.

    Attributes:
        key: tells its answer from others; the values of the benchmark's `key_fields`.
        image: the picture.
        words: what to look for; None where nothing is asked, so that the answer is empty.
    """

    key: Key
    image: Path
    words: Vocabulary | Prompt | None


class Benchmark(ABC):
    """A data set with its protocol.

    Attributes:
        name: of the benchmark, as results name it.
        key_fields: what identifies a prediction.
        fields: what a prediction must have.
        expressions: whether each question is words that all describe one thing, to be looked for as `refer` does.
        max_detections: of one caption; None for the model's own number.
    """

    name: ClassVar[str]
    key_fields: ClassVar[tuple[str, ...]] = ("image_id",)
    fields: ClassVar[tuple[str, ...]]
    expressions: ClassVar[bool] = False
    max_detections: ClassVar[int | None] = None

    @abstractmethod
    def settings(self) -> Record:
        """Everything that the numbers depend on, except the model; JSON-ready."""

    @abstractmethod
    def questions(self) -> list[Question]:
        """One for each prediction, in the file's order."""

    @abstractmethod
    def answer(self, question: Question, found: Detections) -> Record:
        """The prediction that says what was found."""

    def read(self, path: Path) -> list[Record]:
        """A predictions file.

        Raises:
            FileError: there is no such file.
            DataError: a record is not of the benchmark's form.
        """
        return read_predictions(path, self.fields)

    def coco_results(self, predictions: Sequence[Record]) -> list[Record] | None:
        """The predictions as records of a COCO results file, for benchmarks that have such a file."""
        return None

    @abstractmethod
    def score(self, predictions: Sequence[Record]) -> Record:
        """The benchmark's numbers; fractions in `[0, 1]`, -1 where undefined.

        Raises:
            DataError: a prediction does not belong to the benchmark.
        """


def scored_boxes(found: Detections) -> Record:
    """Boxes xyxy pixels and scores as lists, best first."""
    return {"boxes": found.boxes.tolist(), "scores": found.scores.tolist()}


def labelled_boxes(question: Question, found: Detections) -> Record:
    """Image id, boxes, scores, and the vocabulary's ids as labels."""
    assert isinstance(question.words, Vocabulary)
    ids = question.words.ids
    return {
        "image_id": question.key[0],
        **scored_boxes(found),
        "labels": [ids[label] for label in found.labels.tolist()],
    }


def is_results_file(records: Sequence[Record]) -> bool:
    """Whether these are records of a COCO results file: one a box, xywh."""
    return bool(records) and "bbox" in records[0]


def fingerprint(*paths: Path) -> str:
    """A hash of files' contents, so that results are not taken for those of other files.

    Raises:
        FileError: one is missing.
    """
    digest = hashlib.sha256()
    for path in paths:
        if not path.is_file():
            raise FileError(f"{path}: no such annotation file")
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def folder_of(annotations: Path, images: Path | None) -> Path:
    """Where a file's pictures lie: where the caller says, else beside the file."""
    return images if images is not None else annotations.parent
