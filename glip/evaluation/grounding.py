"""Phrase grounding: sentences, the phrases in them, and the boxes that each phrase may mean.

The truth is read from MDETR's grounding JSON (one image record a sentence); `glip.evaluation.flickr30k` reads Flickr30k
Entities' own files into the same form.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from glip.annotations import (
    annotations_by_image,
    checked_spans,
    field,
    read_object,
    section,
    spans_of,
    xywh_of,
)
from glip.errors import DataError
from glip.evaluation.benchmark import Benchmark, Key, Question, Record, fingerprint, folder_of, scored_boxes
from glip.evaluation.recall import Query, RecallReport, count_hits
from glip.structures.boxes import xywh_to_xyxy
from glip.structures.detections import Detections
from glip.structures.prompt import Span
from glip.text.prompts import prompt_from_caption

Protocol = Literal["any-box", "merged-box"]


@dataclass(frozen=True, eq=False)
class TruePhrase:
    """A phrase of a sentence and what it means.

    Attributes:
        text: the words.
        spans: half-open character spans in the sentence.
        boxes: `(M, 4)` xyxy pixels; one of them is enough ("any-box").
        kinds: groups that it counts in, such as "people"; several are possible.
        entity: its entity's id, where the data set has one.
    """

    text: str
    spans: tuple[Span, ...]
    boxes: Tensor
    kinds: tuple[str, ...] = ()
    entity: str | None = None


@dataclass(frozen=True, eq=False)
class TrueSentence:
    """A sentence about a picture.

    Attributes:
        image: the picture, relative to the folder of pictures.
        caption: the sentence.
        phrases: those that are evaluated, in sentence order; may be none.
    """

    image: str
    caption: str
    phrases: tuple[TruePhrase, ...]


def read_grounding_truth(
    path: str | Path, *, keys: Sequence[str] = ("id",), group_by: str | None = None
) -> dict[Key, TrueSentence]:
    """The sentences of an MDETR grounding file.

    Evaluated phrases are an image record's `tokens_positive_eval`, each with the boxes of the annotations that share
    a span with it; without that field, each different `tokens_positive` of the annotations is a phrase.

    Args:
        path: the JSON file.
        keys: fields of an image record that identify its sentence.
        group_by: an annotation's field whose value is the phrase's kind.

    Returns:
        Sentences by the values of these fields.

    Raises:
        FileError: there is no such file.
        DataError: a record is not of this form.
    """
    content = read_object(path)
    by_image = annotations_by_image(path, content)
    sentences: dict[Key, TrueSentence] = {}
    for record in section(path, content, "images"):
        number = field(path, record, "images", "id")
        key: Key = tuple(field(path, record, "images", name) for name in keys)
        if key in sentences:
            raise DataError(f"{path}: {_named(key, keys)} stands there twice; give each sentence its own")
        caption = str(field(path, record, "images", "caption"))
        phrases = _phrases(path, record, caption, by_image[number], group_by)
        sentences[key] = TrueSentence(str(field(path, record, "images", "file_name")), caption, phrases)
    return sentences


def score_grounding(
    sentences: Mapping[Key, TrueSentence],
    predictions: Iterable[Mapping[str, Any]],
    *,
    key_fields: Sequence[str] = ("image_id",),
    protocol: Protocol = "any-box",
) -> RecallReport:
    """Recall@1, 5, 10 and the upper bound, in all and by kind.

    Args:
        sentences: the truth.
        predictions: records with the key fields and `phrases: [{boxes, scores}]`, one for each evaluated phrase in
            order, boxes xyxy pixels in any order; the first record of a sentence counts, later ones are ignored.
        key_fields: which fields of a record say whose it is.
        protocol: "any-box": one box of the phrase is enough (GLIP's numbers); "merged-box": the one box round all of
            them must be met.

    Raises:
        DataError: a sentence is missing, or its phrases are not those of the truth.
    """
    found: dict[tuple[str, ...], Sequence[Mapping[str, Any]]] = {}
    for record in predictions:  # ids are compared as words: "7" is 7
        found.setdefault(tuple(str(record[name]) for name in key_fields), record["phrases"])
    strangers = found.keys() - {tuple(map(str, key)) for key in sentences}
    if strangers:
        raise DataError(f"predictions: {_named(min(strangers), key_fields)} is not in the annotations")
    queries = []
    for key, sentence in sentences.items():
        written = tuple(map(str, key))
        answers = found.get(written, [])
        if written not in found and sentence.phrases:
            raise DataError(f"predictions: {_named(key, key_fields)} is missing; predict every sentence")
        if len(answers) != len(sentence.phrases):
            raise DataError(
                f"predictions: {_named(key, key_fields)} has {len(sentence.phrases)} evaluated phrases, "
                f"got {len(answers)}"
            )
        queries += [_query(phrase, answer, protocol) for phrase, answer in zip(sentence.phrases, answers, strict=True)]
    return count_hits(queries)


@dataclass(frozen=True, kw_only=True)
class GroundingBenchmark(Benchmark):
    """Sentences of an MDETR grounding file.

    Attributes:
        annotations: the JSON file.
        images: folder of the pictures; None for the file's own.
        protocol: which boxes of a phrase must be met.
        group_by: an annotation's field whose value is the phrase's kind.
        truth_keys: fields of an image record whose values are a prediction's key.
    """

    name: ClassVar[str] = "grounding-json"
    fields: ClassVar[tuple[str, ...]] = ("image_id", "phrases")
    truth_keys: ClassVar[tuple[str, ...]] = ("id",)

    annotations: Path
    images: Path | None = None
    protocol: Protocol = "any-box"
    group_by: str | None = None

    def settings(self) -> Record:
        """The file and the protocol."""
        return {
            "annotations": str(self.annotations),
            "annotations_hash": fingerprint(*self._files()),
            "images": str(folder_of(self.annotations, self.images)),
            "protocol": self.protocol,
            "group_by": self.group_by,
        }

    def _files(self) -> list[Path]:
        """What the truth is read from."""
        return [self.annotations]

    @cached_property
    def truth(self) -> dict[Key, TrueSentence]:
        """The sentences by their keys; they are read once."""
        return self._read_truth()

    def _read_truth(self) -> dict[Key, TrueSentence]:
        return read_grounding_truth(self.annotations, keys=self.truth_keys, group_by=self.group_by)

    def questions(self) -> list[Question]:
        """One a sentence; nothing is asked where no phrase is evaluated."""
        folder = folder_of(self.annotations, self.images)
        return [
            Question(
                key,
                folder / sentence.image,
                prompt_from_caption(sentence.caption, [phrase.spans for phrase in sentence.phrases])
                if sentence.phrases
                else None,
            )
            for key, sentence in self.truth.items()
        ]

    def answer(self, question: Question, found: Detections) -> Record:
        """Key, and for each phrase its boxes and scores."""
        phrases = [
            {"phrase": text, **scored_boxes(found[found.labels == label])} for label, text in enumerate(found.phrases)
        ]
        return {**dict(zip(self.key_fields, question.key, strict=True)), "phrases": phrases}

    def score(self, predictions: Sequence[Record]) -> Record:
        """Recalls, hits and totals, in all and by kind."""
        report = score_grounding(self.truth, predictions, key_fields=self.key_fields, protocol=self.protocol)
        return {**report.recall, "hits": report.hits, "totals": report.totals}


def _phrases(
    path: str | Path, record: Record, caption: str, annotations: Sequence[Record], group_by: str | None
) -> tuple[TruePhrase, ...]:
    spans_of_annotation = [tuple(sorted(spans_of(path, annotation, caption))) for annotation in annotations]
    given = record.get("tokens_positive_eval")
    where = f"{path}: images record {record['id']}: tokens_positive_eval"
    if given is None:
        wanted = sorted(set(spans_of_annotation))
    else:
        entries = given if isinstance(given, list) else [given]
        wanted = [checked_spans(where, spans, caption) for spans in entries]
    phrases = []
    for spans in wanted:
        members = [
            annotation
            for annotation, other in zip(annotations, spans_of_annotation, strict=True)
            if (other == spans if given is None else set(other) & set(spans))
        ]
        if not members:
            raise DataError(f"{where}: no annotation has the span {list(spans)}; evaluated phrases need a box")
        boxes = torch.tensor([xywh_of(path, annotation) for annotation in members], dtype=torch.float64)
        kinds = [str(field(path, annotation, "annotations", group_by)) for annotation in members] if group_by else []
        text = " ".join(caption[start:end] for start, end in spans)
        phrases.append(TruePhrase(text, spans, xywh_to_xyxy(boxes), tuple(dict.fromkeys(kinds))))
    return tuple(phrases)


def _query(phrase: TruePhrase, answer: Mapping[str, Any], protocol: Protocol) -> Query:
    targets = phrase.boxes
    if protocol == "merged-box" and len(targets):
        targets = torch.cat([targets[:, :2].amin(dim=0), targets[:, 2:].amax(dim=0)]).unsqueeze(0)
    boxes = torch.tensor(answer["boxes"], dtype=torch.float64).view(-1, 4)
    return Query(boxes, torch.tensor(answer["scores"], dtype=torch.float64), targets, phrase.kinds)


def _named(key: Sequence[int | str], key_fields: Sequence[str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(key_fields, key, strict=True))
