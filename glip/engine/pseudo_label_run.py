"""A run of a teacher over pairs: shared out, interrupted and gone on with at will, the file in the end is the same.

Answers so far lie in `NAME.partial/`, a line a pair. Batches are cut before anything else, so the same pictures meet in
a batch in every run. The files appear when no pair is missing.
"""

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from PIL import Image

from glip.annotations import Record, read_object
from glip.data.contact_sheet import draw_contact_sheet
from glip.data.pairs import Pair, fingerprint
from glip.data.pseudo_boxes import (
    PseudoExample,
    ScoredPhrase,
    TsvVersion,
    check_pictures,
    files_of,
    write_pseudo_boxes,
)
from glip.engine.answers import difference, with_progress_bar
from glip.engine.pseudo_label_report import NO_PHRASE, NO_PICTURE, describe_run
from glip.engine.pseudo_labels import PseudoLabelRule, SecondOpinion, judge, to_record
from glip.engine.teachers import Teacher
from glip.errors import ConfigError, FileError, GlipError
from glip.files import check_target, write_json
from glip.images import read_ahead

Batch = Sequence[tuple[int, Pair]]
Read = tuple[Batch, list[Image.Image | GlipError]]
SETTINGS = "settings.json"  # of an unfinished run


@dataclass(frozen=True)
class Shard:
    """One share of the pairs: a run of whole batches, so that the shards' lines, one after the other, are the whole's.

    Attributes:
        number: which one, from 1.
        count: how many there are.
    """

    number: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        """Refuse a share of nothing."""
        if not 1 <= self.number <= self.count:
            raise ConfigError(f"a shard must be from 1/N to N/N, got {self.number}/{self.count}")

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """From words such as "2/4".

        Raises:
            ConfigError: it is none.
        """
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if match is None:
            raise ConfigError(f"a shard must be NUMBER/COUNT, as in 1/4, got {text!r}")
        return cls(int(match[1]), int(match[2]))

    def name(self, output: Path) -> Path:
        """The shard's own file name: `pseudo.2-of-4.jsonl`; unchanged where there is one shard."""
        return output if self.count == 1 else output.with_stem(f"{output.stem}.{self.number}-of-{self.count}")

    def share(self, batches: Sequence[Batch]) -> Sequence[Batch]:
        """This shard's batches."""
        start, end = ((shard * len(batches)) // self.count for shard in (self.number - 1, self.number))
        return batches[start:end]


@dataclass(frozen=True)
class PseudoLabelOptions:
    """How a run is made.

    Attributes:
        rule: which boxes stay.
        second_opinion: another model's view of each box; None for none.
        shard: which share of the pairs.
        batch_size: pictures that the teacher gets together.
        tsv_version: form of a TSV data set's labels.
        overwrite: whether finished files are replaced; an unfinished run always goes on.
    """

    rule: PseudoLabelRule = field(default_factory=PseudoLabelRule)
    second_opinion: SecondOpinion | None = None
    shard: Shard = field(default_factory=Shard)
    batch_size: int = 1
    tsv_version: TsvVersion = "v2"
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse impossible runs."""
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.tsv_version not in ("v1", "v2"):
            raise ConfigError(f"tsv_version must be 'v1' or 'v2', got {self.tsv_version!r}")


def pseudo_label(
    pairs: Sequence[Pair], teacher: Teacher, output: Path, options: PseudoLabelOptions | None = None
) -> Record:
    """Let a teacher find the noun phrases of captions, and write what it is sure of as training data.

    Pictures that cannot be read, captions without noun phrases and pairs without a kept box are left out and counted.

    Args:
        pairs: pictures and captions.
        teacher: finds boxes.
        output: `NAME.jsonl` (ODVG), `NAME.json` (MDETR) or `NAME.yaml` (a TSV data set). Beside it go
            `NAME.report.json`, `NAME.kept.jpg` (some pictures with their boxes) and `NAME.dropped.jpg` (phrases that
            were dropped, with the best box that was not good enough).
        options: how the run is made.

    Returns:
        The report, as written.

    Raises:
        FileError: a finished file exists, or an unfinished run has other settings.
        ConfigError: the name's ending says no format, or one that cannot hold these pictures.
    """
    run = _Run(pairs, teacher, output, options or PseudoLabelOptions())
    run.open()
    records = run.answer_all()
    report = run.write(records)
    shutil.rmtree(run.folder)
    return report


def check_output(output: Path, pairs: Sequence[Pair], *, overwrite: bool) -> None:
    """Refuse, before a teacher is loaded, what could not be written afterwards; an unfinished run may go on.

    Args:
        output: as `pseudo_label` takes it.
        pairs: pictures and captions.
        overwrite: whether finished files are replaced.

    Raises:
        FileError: a finished file exists, or there is no such folder.
        ConfigError: the name's ending says no format, or one that cannot hold these pictures.
    """
    targets = (*files_of(output), output.with_suffix(".report.json"), *_sheets_of(output))
    check_pictures(output, pairs)
    if not (_folder_of(output) / SETTINGS).is_file():
        for target in targets:
            check_target(target, overwrite=overwrite)


def _folder_of(output: Path) -> Path:
    return output.with_suffix(".partial")


def _sheets_of(output: Path) -> tuple[Path, Path]:
    return output.with_suffix(".kept.jpg"), output.with_suffix(".dropped.jpg")


@dataclass(frozen=True)
class _Run:
    pairs: Sequence[Pair]
    teacher: Teacher
    output: Path
    options: PseudoLabelOptions

    @property
    def folder(self) -> Path:
        return _folder_of(self.output)

    @property
    def answers(self) -> Path:
        return self.folder / "answers.jsonl"

    def open(self) -> None:
        """Go on with an unfinished run of the same settings, or begin one."""
        check_output(self.output, self.pairs, overwrite=self.options.overwrite)
        known = self.folder / SETTINGS
        settings = self.settings()
        if known.is_file():
            changed = difference(read_object(known), settings)
            if changed:
                raise FileError(
                    f"{self.folder}: holds an unfinished run with {changed}; run it as before, choose another output, "
                    "or delete the folder"
                )
            return
        if self.folder.exists():  # a kill left it without the settings that its answers were made with
            shutil.rmtree(self.folder)
        self.folder.mkdir()
        write_json(known, settings)

    def settings(self) -> Record:
        second = self.options.second_opinion
        return {
            "output": self.output.name,
            "pairs": len(self.pairs),
            "pairs_fingerprint": fingerprint(self.pairs),
            "shard": f"{self.options.shard.number}/{self.options.shard.count}",
            "batch_size": self.options.batch_size,
            "rule": asdict(self.options.rule),
            "second_opinion": None if second is None else second.name,
            "tsv_version": self.options.tsv_version if self.output.suffix == ".yaml" else None,
            "teacher": self.teacher.settings(),
        }

    def answer_all(self) -> list[Record]:
        """A record for each pair of the shard, in order."""
        size = self.options.batch_size
        numbered = list(enumerate(self.pairs))
        batches = self.options.shard.share([numbered[start : start + size] for start in range(0, len(numbered), size)])
        done = self._whole_batches(batches)
        coming = batches[done:]
        with self.answers.open("ab") as file:
            for batch, pictures in with_progress_bar(iter(_with_pictures(coming)), len(coming)):
                lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in self._answer(batch, pictures)]
                file.write("".join(lines).encode())
                file.flush()
        return [json.loads(line) for line in self.answers.read_bytes().splitlines()]

    def _whole_batches(self, batches: Sequence[Batch]) -> int:
        """How many batches are answered; a batch that was cut off by a kill is forgotten and asked again."""
        if not self.answers.is_file():
            return 0
        lines = self.answers.read_bytes().split(b"\n")[:-1]
        done = lines_done = 0
        for batch in batches:
            if lines_done + len(batch) > len(lines):
                break
            done, lines_done = done + 1, lines_done + len(batch)
        with self.answers.open("r+b") as file:
            file.truncate(sum(len(line) + 1 for line in lines[:lines_done]))
        return done

    def _answer(self, batch: Batch, pictures: Sequence[Image.Image | GlipError]) -> Iterator[Record]:
        """A record for each pair of a batch; the teacher is asked about those with a picture and a noun phrase."""
        prompts = [self.options.rule.prompt_of(pair.caption) for _, pair in batch]
        asked = [
            (index, picture)
            for index, picture in enumerate(pictures)
            if not isinstance(picture, GlipError) and prompts[index].phrases
        ]
        found = self.teacher([picture for _, picture in asked], [prompts[index] for index, _ in asked]) if asked else []
        judged = {
            index: judge(detections, picture, self.options.rule, self.options.second_opinion)
            for (index, picture), detections in zip(asked, found, strict=True)
        }
        for index, (number, _) in enumerate(batch):
            picture = pictures[index]
            if isinstance(picture, GlipError):
                yield {"number": number, "problem": NO_PICTURE, "message": str(picture)}
            elif index not in judged:
                yield {"number": number, "problem": NO_PHRASE}
            else:
                size = [picture.height, picture.width]
                record = to_record(judged[index], prompts[index], self.teacher.knows)
                yield {"number": number, "problem": None, "size": size, **record}

    def write(self, records: Sequence[Record]) -> Record:
        """Sheets, report, and last the boxes."""
        examples = [self._example(record, boxes="boxes") for record in records if record["problem"] is None]
        kept = [example for example in examples if example.phrases]
        dropped = [self._example(record, boxes="best") for record in records if record["problem"] is None]
        for sheet, shown in zip(_sheets_of(self.output), (kept, [one for one in dropped if one.phrases]), strict=True):
            unfinished = sheet.with_stem(sheet.stem + ".unfinished")
            draw_contact_sheet([example.to_example() for example in shown]).save(unfinished)
            unfinished.replace(sheet)
        captions = {number: pair.caption for number, pair in enumerate(self.pairs)}
        report = {**describe_run(records, captions), "settings": self.settings()}
        write_json(self.output.with_suffix(".report.json"), report)
        write_pseudo_boxes(self.output, kept, tsv_version=self.options.tsv_version)
        return report

    def _example(self, record: Record, *, boxes: str) -> PseudoExample:
        """A pair with its kept boxes, or ("best") with the best box of each dropped phrase."""
        phrases = []
        for phrase in record["phrases"]:
            found, scores = phrase["boxes"], phrase["scores"]
            if boxes == "best":
                box, score = phrase["best"] or (None, None)
                found, scores = ([box], [score]) if not found and box is not None else ([], [])
            if found:
                corners = tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in found)
                phrases.append(ScoredPhrase(((phrase["span"][0], phrase["span"][1]),), corners, tuple(scores)))
        height, width = record["size"]
        return PseudoExample(record["number"], self.pairs[record["number"]], (height, width), tuple(phrases))


def _with_pictures(batches: Sequence[Batch]) -> Iterator[Read]:
    """Each batch with its pictures, or the errors that stand in their places; one batch is read ahead."""
    return zip(batches, read_ahead(lambda batch: [_picture(pair) for _, pair in batch], batches), strict=True)


def _picture(pair: Pair) -> Image.Image | GlipError:
    try:
        return pair.read()
    except GlipError as error:
        return error
