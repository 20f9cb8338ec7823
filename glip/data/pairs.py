"""Pictures with a sentence each and no boxes: what a teacher is asked about."""

import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from glip.data.examples import PackedPicture
from glip.data.readers import read_any
from glip.data.tsv import TsvRow, read_tsv_rows
from glip.errors import DataError, FileError
from glip.images import list_images, read_image

PICTURE_COLUMNS = ("path", "image", "picture", "file", "filename", "file_name", "filepath")
CAPTION_COLUMNS = ("caption", "text", "title", "sentence")


@dataclass(frozen=True)
class Pair:
    """A picture and a sentence about it.

    Attributes:
        name: the picture as its file of pairs names it: relative to the folder of pictures, or a row's key.
        image: the picture's path, or where it lies in a TSV file.
        caption: the sentence; empty where a picture has none.
    """

    name: str
    image: Path | PackedPicture
    caption: str

    def read(self) -> Image.Image:
        """The decoded picture, RGB and upright.

        Raises:
            FileError: there is no such file.
            ImageError: it is no picture.
        """
        return self.image.read() if isinstance(self.image, PackedPicture) else read_image(self.image)


def read_pairs(path: str | Path, *, images: str | Path | None = None) -> list[Pair]:
    """Pairs of any form, told by the path. A picture with several captions gives as many pairs.

    - A folder: pictures, each with a text file beside it (`a.jpg` and `a.txt`), a caption a line.
    - `.csv` or `.tsv`: a table of paths and captions; a first line that names these columns is understood.
    - `.yaml`: a TSV data set with its pictures inside, whose labels hold captions.
    - `.json` or `.jsonl`: grounding files; their boxes are not looked at.

    Args:
        path: the file or folder.
        images: folder that the pictures' names are relative to; None for the file's own.

    Raises:
        FileError: there is no such path.
        DataError: it holds no captions, or is not of its form.
    """
    path = Path(path)
    if path.is_dir():
        pairs = list(_of_folder(path))
    elif not path.exists():
        raise FileError(f"{path}: no such file or folder of pictures and captions")
    elif path.suffix in (".csv", ".tsv"):
        pairs = list(_of_table(path, Path(images) if images is not None else path.parent))
    elif path.suffix in (".yaml", ".yml"):
        pairs = [pair for row in read_tsv_rows(path) for pair in _of_row(row)]
    elif path.suffix in (".json", ".jsonl"):
        pairs = list(_of_examples(path, images))
    else:
        raise DataError(
            f"{path}: pairs come as a folder, .csv, .tsv, .yaml, .json or .jsonl, got {path.suffix or 'no ending'!r}"
        )
    if not any(pair.caption.strip() for pair in pairs):
        raise DataError(f"{path}: no captions in it; each picture needs a sentence")
    return [replace(pair, caption=_writable(pair.caption)) for pair in pairs]


def fingerprint(pairs: Sequence[Pair]) -> str:
    """Sixteen hexadecimal digits that change with any name, caption or the order."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(f"{pair.name}\0{pair.caption}\0".encode())
    return digest.hexdigest()[:16]


def _writable(caption: str) -> str:
    """JSON can hold half a character, UTF-8 cannot: a question mark stands for it, and spans stay where they are."""
    return caption.encode("utf-8", errors="replace").decode("utf-8")


def _of_folder(folder: Path) -> Iterator[Pair]:
    for image in list_images(folder):
        beside = image.with_suffix(".txt")
        captions = [line.strip() for line in _text(beside).splitlines() if line.strip()] if beside.is_file() else []
        for caption in captions or [""]:
            yield Pair(image.name, image, caption)


def _of_table(path: Path, folder: Path) -> Iterator[Pair]:
    """A TSV table knows no quotes: captions may have any in them."""
    file = io.StringIO(_text(path), newline="")
    try:
        rows = list(
            csv.reader(file) if path.suffix == ".csv" else csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        )
    except csv.Error as error:
        raise DataError(f"{path}: no table that can be read ({error}); a caption with commas needs quotes") from error
    columns = _named_columns(rows[0]) if rows else None
    picture, caption = columns or (0, 1)
    for number, row in enumerate(rows, start=1):
        if not any(row) or (columns is not None and number == 1):
            continue
        if len(row) <= max(picture, caption) or (columns is None and len(row) != 2):
            raise DataError(
                f"{path}: row {number}: expected a path and a caption, got {len(row)} columns; put captions with "
                "commas in quotes, or name the columns in a first line, as in 'path,caption'"
            )
        yield Pair(row[picture].strip(), folder / row[picture].strip(), row[caption].strip())


def _named_columns(row: list[str]) -> tuple[int, int] | None:
    """Places of the picture's and the caption's column, if the row names both."""
    words = [word.strip().lower() for word in row]
    places = [
        next((words.index(name) for name in names if name in words), None)
        for names in (PICTURE_COLUMNS, CAPTION_COLUMNS)
    ]
    picture, caption = places
    return None if picture is None or caption is None else (picture, caption)


def _of_row(row: TsvRow) -> Iterator[Pair]:
    labels = row.label if isinstance(row.label, list) else [row.label]
    for label in labels:
        caption: Any = label.get("caption") if isinstance(label, dict) else label
        if not isinstance(caption, str):
            raise DataError(f"{row.where}: expected a caption or an object with 'caption', got {label!r:.60}")
        yield Pair(row.key, row.picture, caption)


def _of_examples(path: Path, images: str | Path | None) -> Iterator[Pair]:
    folder = Path(images) if images is not None else path.parent
    for example in read_any(path, images=images):
        image = example.image
        inside = isinstance(image, Path) and image.is_relative_to(folder)
        name = image.relative_to(folder).as_posix() if inside and isinstance(image, Path) else str(image)
        yield Pair(name, image, example.caption or "")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: it is no UTF-8 text; save it as UTF-8") from error
