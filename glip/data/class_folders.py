"""A folder for each class, with its pictures: the plainest data set of a classifier."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glip.errors import DataError, FileError
from glip.images import list_images


@dataclass(frozen=True)
class LabelledPictures:
    """Pictures and which class each shows.

    Attributes:
        images: the pictures' paths.
        labels: for each picture, an index into `names`.
        names: the classes.
    """

    images: tuple[Path, ...]
    labels: tuple[int, ...]
    names: tuple[str, ...]


def read_class_folders(root: str | Path, *, names: Sequence[str] | None = None) -> LabelledPictures:
    """The pictures of `ROOT/CLASS/*.jpg`; a class's name is its folder's.

    Args:
        root: the folder of folders.
        names: the folders to read, in this order; None for all, sorted.

    Raises:
        FileError: there is no such folder, or a class has no picture.
        DataError: there is no class folder in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileError(f"{root}: no such folder; give one that has a folder of pictures for each class")
    found = sorted(path.name for path in root.iterdir() if path.is_dir()) if names is None else list(names)
    if not found:
        raise DataError(f"{root}: no folders in it; each class needs a folder of its own, named as the class")
    images: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(found):
        own = list_images(root / name)
        images += own
        labels += [label] * len(own)
    return LabelledPictures(tuple(images), tuple(labels), tuple(found))
