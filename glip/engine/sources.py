"""The files that a run learns from: every format to examples, and how often each is drawn."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PIL import Image

from glip.data.examples import Example, GroundedObject
from glip.data.few_shot import select_shots
from glip.data.odvg import read_odvg
from glip.data.readers import read_detection_json, read_grounding_json
from glip.data.tsv import read_tsv
from glip.engine.config import FewShotConfig, SourceConfig
from glip.errors import ConfigError, DataError, FileError
from glip.evaluation.flickr30k import read_entities
from glip.evaluation.grounding import TruePhrase
from glip.evaluation.odinw import read_odinw_tasks
from glip.images import read_image


def read_sources(
    sources: tuple[SourceConfig, ...], few_shot: FewShotConfig | None = None
) -> tuple[list[Example], list[float]]:
    """All examples of a mixture, and how often each is drawn.

    Raises:
        FileError: a file is missing.
        DataError: a file is not of its format, or has no example.
    """
    examples: list[Example] = []
    weights: list[float] = []
    for source in sources:
        found = READERS[source.kind](source)
        if not found:
            raise DataError(f"{source.annotations}: no images in it; leave this source out")
        if few_shot is not None and few_shot.shots:
            found = select_shots(found, few_shot.shots, seed=few_shot.seed)
        examples += found if source.box_loss else [replace(example, box_loss=False) for example in found]
        weights += [source.weight / len(found)] * len(found)
    return examples, weights


def _read_flickr30k(source: SourceConfig) -> list[Example]:
    """Flickr30k Entities as it is published: each sentence is an example, each phrase with a box names it."""
    if source.images is None:
        raise ConfigError(f"{source.annotations}: a source of kind flickr30k needs images, the folder of its photos")
    sizes: dict[str, tuple[int, int]] = {}
    examples = []
    for sentence in read_entities(source.annotations, source.split or TRAIN).values():
        if sentence.image not in sizes:
            sizes[sentence.image] = _size_of(source.images / sentence.image)
        objects = tuple(thing for phrase in sentence.phrases for thing in _things(phrase))
        image, size = source.images / sentence.image, sizes[sentence.image]
        examples.append(Example(image, size, objects, caption=sentence.caption))
    return examples


def _things(phrase: TruePhrase) -> list[GroundedObject]:
    """A phrase's boxes that have an area."""
    boxes = [(x1, y1, x2, y2) for x1, y1, x2, y2 in phrase.boxes.tolist() if x2 > x1 and y2 > y1]
    return [GroundedObject(box, phrase.text, phrase.spans) for box in boxes]


def _size_of(image: Path) -> tuple[int, int]:
    """(height, width) of the upright picture; only the file's head is read where it lies upright."""
    if not image.is_file():
        raise FileError(f"{image}: no such picture")
    broken = contextlib.suppress(OSError, ValueError, SyntaxError, Image.DecompressionBombError)
    with broken, Image.open(image) as opened:
        if not opened.getexif().get(ORIENTATION):
            return opened.height, opened.width
    upright = read_image(image)  # which says what is wrong with it
    return upright.height, upright.width


def _read_odinw(source: SourceConfig) -> list[Example]:
    """A split of an ODinW task file, with the names that the file gives the classes."""
    if source.annotations.is_dir():
        raise ConfigError(f"{source.annotations}: a source of kind odinw is one task's YAML file, got a folder")
    (task,) = read_odinw_tasks([source.annotations], root=source.images or Path(), split=source.split or TRAIN)
    names = None if task.classes is None else dict(task.classes)
    return read_detection_json(task.annotations, images=task.images, names=names)


TRAIN = "train"  # the split, where a source names none
ORIENTATION = 0x0112  # EXIF's tag
READERS: dict[str, Callable[[SourceConfig], list[Example]]] = {
    "detection": lambda source: read_detection_json(source.annotations, images=source.images),
    "grounding": lambda source: read_grounding_json(source.annotations, images=source.images),
    "odvg": lambda source: read_odvg(source.annotations, images=source.images),
    "tsv": lambda source: read_tsv(source.annotations),
    "flickr30k": _read_flickr30k,
    "odinw": _read_odinw,
}
