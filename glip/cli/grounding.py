"""Pictures in; what was found to the terminal, to a drawn picture and to JSON."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from glip.cli.startup import collect_as_usual
from glip.errors import ConfigError, FileError, GlipError, ImageError, PromptError
from glip.files import check_picture
from glip.structures.detections import Detections

if TYPE_CHECKING:
    from PIL import Image

    from glip.predictor import Predictor

Result = TypeVar("Result")


@dataclass(frozen=True)
class Report(Generic[Result]):
    """How what was found in one picture is shown.

    Attributes:
        lines: for the terminal.
        record: for JSON.
        draw: a copy of the picture with it; None where there is nothing to draw.
    """

    lines: Callable[[Result], list[str]]
    record: Callable[[Result], Any]
    draw: Callable[[Result, "Image.Image"], "Image.Image"] | None = None


@dataclass(frozen=True)
class Sinks:
    """Where results go.

    Attributes:
        picture: file of the drawn picture, or a folder where there are several; None for none.
        records: JSON file; None for none.
        overwrite: whether existing files are replaced.
    """

    picture: Path | None
    records: Path | None
    overwrite: bool

    def check(self, images: Sequence[Path]) -> None:
        """Refuse, before any work, what could not be written afterwards.

        Raises:
            FileError: a target exists, has no folder, or is a file where a folder is needed.
        """
        targets = [] if self.picture is None else [self.picture_of(image, images) for image in images]
        if self.picture is not None and len(images) == 1:
            check_picture(targets[0], option="--output")
        if self.picture is not None and len(images) > 1 and self.picture.suffix:
            raise FileError(f"--output {self.picture}: several pictures need a folder, not a file name")
        targets += [] if self.records is None else [self.records]
        for target in targets:
            if target.is_dir():
                raise FileError(f"{target}: is a folder; give a file name")
            if target.exists() and not self.overwrite:
                raise FileError(f"{target}: exists already; choose another name or add --overwrite")
            if target.parent != self.picture and not target.parent.is_dir():
                raise FileError(f"{target}: there is no folder {target.parent}; make it first")
        if len(set(targets)) < len(targets):
            raise FileError("two pictures would be written to one file: their names are equal; do them one by one")

    def picture_of(self, image: Path, images: Sequence[Path]) -> Path:
        """Where the drawn copy of a picture goes."""
        assert self.picture is not None
        return self.picture if len(images) == 1 else self.picture / f"{image.stem}.png"


@dataclass(frozen=True)
class Job:
    """One search over pictures.

    Attributes:
        paths: pictures, or folders of them.
        sinks: where results go.
        model: what `Predictor.from_pretrained` takes.
        device: where the network runs.
        calibrator: a fitted calibrator's file, or None.
    """

    paths: Sequence[Path]
    sinks: Sinks
    model: str
    device: str
    calibrator: Path | None = None

    def run(self, search: "Callable[[Predictor, Image.Image], Result]", report: Report[Result]) -> None:
        """Search every picture; one that cannot be read is reported, and the others are still done.

        Args:
            search: what is done with each picture.
            report: how the results are shown.

        Raises:
            GlipError: nothing could be done, or at least one picture failed.
        """
        from glip.images import list_images, read_ahead

        images = [image for path in self.paths for image in list_images(path)]
        self.sinks.check(images)
        predictor = load_predictor(self.model, self.device, calibrator=self.calibrator)
        results: dict[str, Any] = {}
        failures: list[GlipError] = []
        for image, picture in zip(_progress(images), read_ahead(_picture_or_error, images), strict=True):
            if isinstance(picture, GlipError):
                failures.append(picture)
                continue
            found = search(predictor, picture)
            results[str(image)] = report.record(found)
            prefix = f"{image}\t" if len(images) > 1 else ""
            for line in report.lines(found):
                print(f"{prefix}{line}")
            if report.draw is not None and self.sinks.picture is not None:
                self._save(image, images, report.draw(found, picture))
        self._write(results, several=len(images) > 1)
        if failures:
            for failure in failures[:-1]:
                sys.stderr.write(f"error: {failure}\n")
            raise failures[-1]

    def _save(self, image: Path, images: Sequence[Path], drawn: "Image.Image") -> None:
        target = self.sinks.picture_of(image, images)
        if len(images) > 1:
            target.parent.mkdir(exist_ok=True)
        drawn.save(target)

    def _write(self, results: dict[str, Any], *, several: bool) -> None:
        if self.sinks.records is None or not results:
            return
        content = results if several else next(iter(results.values()))
        self.sinks.records.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _picture_or_error(image: Path) -> "Image.Image | GlipError":
    from glip.images import read_image

    try:
        return read_image(image)
    except (ImageError, FileError) as error:
        return error


def parse_labels(text: str) -> list[str]:
    """Names between commas, without spaces round them.

    Raises:
        PromptError: there is no name, or an empty one.
    """
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise PromptError(f"names must stand between commas, as in 'cat, remote control', got {text!r}")
    return names


def parse_threshold(text: str | None) -> float | dict[str, float] | None:
    """A number, or `name=number` between commas.

    Raises:
        ConfigError: a number is missing, or not in [0, 1].
    """
    if text is None:
        return None
    if "=" not in text:
        return _share(text)
    pairs = [part.partition("=") for part in text.split(",")]
    return {name.strip(): _share(number) for name, _, number in pairs}


def _share(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise ConfigError(f"a threshold must be a number from 0 to 1, as in 0.4 or 'cat=0.4', got {text.strip()!r}")
    return number


def load_predictor(model: str, device: str, *, batch_size: int = 1, calibrator: Path | None = None) -> "Predictor":
    """A model, without transformers' own progress bars and warnings."""
    from transformers.utils import logging

    from glip.predictor import Predictor

    logging.disable_progress_bar()  # ours is the only one on the terminal
    logging.set_verbosity_error()  # what is wrong with a model ends in one sentence of ours
    predictor = Predictor.from_pretrained(model, device=device, batch_size=batch_size, calibrator=calibrator)
    collect_as_usual()
    return predictor


def _progress(images: Sequence[Path]) -> Iterator[Path]:
    """The pictures, under a progress bar where there are several and somebody is looking."""
    if len(images) == 1 or not sys.stderr.isatty():
        yield from images
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(images, description="pictures", console=Console(stderr=True))


def _lines(found: Detections) -> list[str]:
    """One for each box."""
    if not len(found):
        return ["nothing found; a lower --threshold shows less certain boxes"]
    return [
        f"{record['label']}\t{record['score']:.2f}\t{corners_of(record['box'].values())}" for record in found.to_dicts()
    ]


def corners_of(box: Iterable[float]) -> str:
    """A box as the terminal shows it: x1 y1 x2 y2."""
    return " ".join(f"{edge:.0f}" for edge in box)


BOXES = Report(_lines, Detections.to_dicts, Detections.draw)
