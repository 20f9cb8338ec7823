"""The answers to a benchmark's questions, written as they come by one or more processes.

A run that was interrupted goes on where it stopped, also with another number of processes: batches are cut before they
are shared out, so that the same pictures meet in a batch whoever answers it. Answers so far lie in `NAME.partial/`; the
whole file appears in one step when nothing is missing.
"""

import copy
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from glip.annotations import read_object
from glip.engine.loading import raising
from glip.errors import ConfigError, DataError, FileError, GlipError
from glip.evaluation.benchmark import Benchmark, Key, Question, Record, Vocabulary
from glip.files import write_json, write_text
from glip.images import read_image
from glip.predictor import Predictor
from glip.structures.detections import Detections
from glip.structures.prompt import Prompt

Item = TypeVar("Item")
Batch = tuple[Question, ...]


@dataclass(frozen=True)
class Processes:
    """This process among those that share a run.

    Attributes:
        rank: which one, from 0.
        count: how many there are.
        wait: returns when all have come to it.
    """

    rank: int = 0
    count: int = 1
    wait: Callable[[], None] = lambda: None

    @property
    def is_first(self) -> bool:
        """Whether this one merges, scores and prints."""
        return self.rank == 0

    @classmethod
    def launched(cls, device: torch.device) -> "Processes":
        """As `torchrun` or `accelerate launch` started this program; one alone without them.

        Args:
            device: where the network runs.

        Raises:
            ConfigError: accelerate is not installed.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        try:
            from accelerate import PartialState
        except ImportError as error:
            raise ConfigError("several processes need accelerate: pip install 'glip-for-everyone[train]'") from error
        state = PartialState(cpu=device.type == "cpu")
        return cls(state.process_index, state.num_processes, state.wait_for_everyone)


@dataclass(frozen=True)
class AnswerRun:
    """One benchmark, answered by one or more processes."""

    benchmark: Benchmark
    predictor: Predictor
    target: Path
    settings: Record
    workers: int
    processes: Processes

    @property
    def folder(self) -> Path:
        """Answers so far, and the settings that they were made with."""
        return self.target.with_suffix(".partial")

    def answer_all(self) -> list[Record] | None:
        """All predictions in the order of the questions; None in all processes but the first."""
        questions = self.benchmark.questions()
        if self.processes.is_first:
            self._open_folder()
        self.processes.wait()
        done = self._answers()
        batches = cut(questions, self.predictor.batch_size)
        batches = [batch for batch in batches if any(question.key not in done for question in batch)]
        part = self.folder / f"{len(list(self.folder.glob('*.jsonl'))):03d}-{self.processes.rank}.jsonl"
        self.processes.wait()  # everybody has seen the same answers before anybody writes new ones
        self._answer(batches[self.processes.rank :: self.processes.count], done.keys(), part)
        self.processes.wait()
        if not self.processes.is_first:
            return None
        answers = self._answers()
        lines = [answers[question.key] for question in questions]
        write_text(self.target, "".join(json.dumps(line) + "\n" for line in lines))
        return lines

    def forget_parts(self) -> None:
        """Delete the parts; before the results are written a run can still go on from them."""
        shutil.rmtree(self.folder)

    def _open_folder(self) -> None:
        known = self.folder / "settings.json"
        if not known.is_file():
            self.folder.mkdir(exist_ok=True)
            write_json(known, self.settings)
            return
        changed = difference(read_object(known), self.settings)
        if changed:
            raise FileError(
                f"{self.folder}: holds an unfinished run with {changed}; run it as before, choose another output, or "
                "delete the folder"
            )

    def _answers(self) -> dict[Key, Record]:
        """What the parts hold; a last line that was cut off is asked again."""
        answers: dict[Key, Record] = {}
        for part in sorted(self.folder.glob("*.jsonl")):
            for line in part.read_text(encoding="utf-8").split("\n"):
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                answers[tuple(record[name] for name in self.benchmark.key_fields)] = record
        return answers

    def _answer(self, batches: Sequence[Batch], done: Any, part: Path) -> None:
        bar = with_progress_bar if self.processes.is_first else _silent
        with part.open("w", encoding="utf-8") as file:
            for batch, pictures in bar(_with_pictures(batches, self.workers), len(batches)):
                answers = ask(self.predictor, batch, pictures, expressions=self.benchmark.expressions)
                for question, found in zip(batch, answers, strict=True):
                    if question.key not in done:
                        file.write(json.dumps(self.benchmark.answer(question, found)) + "\n")
                file.flush()


def ask(
    predictor: Predictor, batch: Batch, pictures: Sequence[Image.Image], *, expressions: bool = False
) -> list[Detections]:
    """A model's answers to questions of one kind.

    Args:
        predictor: the model.
        batch: questions with one vocabulary, or with a prompt each, or with nothing to ask.
        pictures: one for each.
        expressions: whether prompts are words that all describe one thing.
    """
    words = batch[0].words
    if words is None:
        return [Detections.empty()] * len(batch)
    if isinstance(words, Vocabulary):
        return predictor.detect(
            list(pictures), words.labels, threshold=0.0, chunk_size=words.chunk_size, affixes=words.affixes
        )
    prompts = [question.words for question in batch if isinstance(question.words, Prompt)]
    return predictor.find(pictures, prompts, truncate=True, expressions=expressions)


def with_rules_of(predictor: Predictor, benchmark: Benchmark) -> Predictor:
    """The model with the benchmark's own rules in place of its own."""
    rules = predictor.rules
    if benchmark.expressions:
        rules = rules.for_expressions()
    if benchmark.max_detections is not None:
        rules = replace(rules, max_detections=benchmark.max_detections)
    ruled = copy.copy(predictor)
    ruled.rules = rules
    return ruled


def local_device(device: str) -> str:
    """The device of this process: where several share a run, "cuda" means one each."""
    rank = os.environ.get("LOCAL_RANK")
    return f"cuda:{rank}" if device == "cuda" and rank is not None else device


def cut(questions: Sequence[Question], size: int) -> list[Batch]:
    """Questions in batches, in order; a batch has one vocabulary, or prompts only, or nothing to ask.

    Raises:
        DataError: two questions have the same key.
    """
    seen: set[Key] = set()
    batches: list[list[Question]] = []
    for question in questions:
        if question.key in seen:
            raise DataError(f"two questions have the key {question.key}; ids must be unique in the annotation file")
        seen.add(question.key)
        if batches and len(batches[-1]) < size and _alike(batches[-1][0], question):
            batches[-1].append(question)
        else:
            batches.append([question])
    return [tuple(batch) for batch in batches]


def _alike(one: Question, other: Question) -> bool:
    if isinstance(one.words, Prompt):
        return isinstance(other.words, Prompt)
    return one.words == other.words


Pictures = tuple[Batch, list[Image.Image]]


class _Pictures(Dataset[Pictures | GlipError]):
    """The decoded pictures of each batch, or the error that stands in their place."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Pictures | GlipError:
        batch = self.batches[index]
        try:
            return batch, [] if batch[0].words is None else [read_image(question.image) for question in batch]
        except GlipError as error:
            return error


def _with_pictures(batches: Sequence[Batch], workers: int) -> Iterator[Pictures]:
    return raising(DataLoader(_Pictures(batches), batch_size=None, num_workers=workers))


def _silent(items: Iterator[Item], _: int) -> Iterator[Item]:
    return items


def with_progress_bar(items: Iterator[Item], total: int) -> Iterator[Item]:
    """The items, under a progress bar where somebody is looking."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, description="batches", total=total, console=Console(stderr=True))


def difference(before: Record, now: Record) -> str | None:
    """The first setting that is not as it was, in words."""
    now = json.loads(json.dumps(now))
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            return f"another {name} ({before.get(name)!r}, now {now.get(name)!r})"
    return None
