"""One picture with the boxes and words that are known of it."""

from dataclasses import dataclass
from pathlib import Path

from glip.structures.prompt import Span


@dataclass(frozen=True)
class GroundedObject:
    """A box and the words that name it.

    Attributes:
        box: xyxy pixels of the picture on disk.
        name: the class name, or the phrase.
        spans: where the phrase stands in the example's caption; empty for a class name.
    """

    box: tuple[float, float, float, float]
    name: str
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Example:
    """A picture for training or evaluation.

    Attributes:
        image: the picture's path.
        size: `(height, width)` in pixels.
        objects: what is in it; may be empty.
        caption: the sentence that `spans` point into; None for detection, whose caption is made from class names.
        absent: class names known not to be in the picture; what a made caption may add.
    """

    image: Path
    size: tuple[int, int]
    objects: tuple[GroundedObject, ...]
    caption: str | None = None
    absent: tuple[str, ...] = ()
