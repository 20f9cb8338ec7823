"""One picture with the boxes and words that are known of it."""

import base64
import binascii
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from glip.data.instance_masks import InstanceMask
from glip.errors import ImageError
from glip.images import read_image
from glip.structures.prompt import Span


@dataclass(frozen=True)
class PackedPicture:
    """A picture in a TSV file: the last column of a row, in base64.

    Attributes:
        file: the TSV file.
        offset: the byte that the row starts at.
    """

    file: Path
    offset: int

    def __str__(self) -> str:
        """The file and the byte, for errors."""
        return f"{self.file}@{self.offset}"

    def column(self) -> bytes:
        """The picture's file in base64, as it stands."""
        with self.file.open("rb") as rows:
            rows.seek(self.offset)
            return rows.readline().rstrip(b"\r\n").split(b"\t")[-1]

    def read(self) -> Image.Image:
        """The decoded picture, RGB and upright.

        Raises:
            ImageError: the row holds no picture.
        """
        try:
            with Image.open(io.BytesIO(base64.b64decode(self.column(), validate=True))) as opened:
                return read_image(opened)
        except (OSError, binascii.Error, Image.DecompressionBombError) as error:
            raise ImageError(f"{self}: the row's last column is no picture in base64 ({error})") from error


@dataclass(frozen=True)
class GroundedObject:
    """A box and the words that name it.

    Attributes:
        box: xyxy pixels of the picture on disk.
        name: the class name, or the phrase.
        spans: where the phrase stands in the example's caption; empty for a class name.
        mask: which pixels of the picture on disk are it; None where that is not known.
    """

    box: tuple[float, float, float, float]
    name: str
    spans: tuple[Span, ...] = ()
    mask: InstanceMask | None = None


@dataclass(frozen=True)
class Example:
    """A picture for training or evaluation.

    Attributes:
        image: the picture's path, or where it lies in a TSV file.
        size: `(height, width)` in pixels.
        objects: what is in it; may be empty.
        caption: the sentence that `spans` point into; None for detection, whose caption is made from class names.
        absent: class names known not to be in the picture; what a made caption may add.
        box_loss: whether its boxes teach where edges are; else only which places belong to which words.
        description: a sentence about the whole picture, to be written by a captioning head; None for none.
        question: what is asked of the picture; it is then the text that the network reads, and boxes are not learnt.
        answers: to the question, each with how right it is, in [0, 1].
    """

    image: Path | PackedPicture
    size: tuple[int, int]
    objects: tuple[GroundedObject, ...]
    caption: str | None = None
    absent: tuple[str, ...] = ()
    box_loss: bool = True
    description: str | None = None
    question: str | None = None
    answers: tuple[tuple[str, float], ...] = ()

    @property
    def is_told(self) -> bool:
        """Whether words speak of the whole picture, so that a part of it, or other colours, may make them wrong."""
        return self.description is not None or self.question is not None

    def read(self) -> Image.Image:
        """The decoded picture, RGB and upright.

        Raises:
            FileError: there is no such file.
            ImageError: it is no picture.
        """
        return self.image.read() if isinstance(self.image, PackedPicture) else read_image(self.image)
