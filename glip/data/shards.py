"""Tar shards in webdataset's layout: members of one name before the first dot are one sample (`a.jpg` and `a.txt`).

A shard must be a plain tar, as webdataset's usually are: pictures are read where they lie, in any order.
"""

import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from glip.data.examples import PackedPicture
from glip.data.pairs import Pair
from glip.errors import DataError, FileError, ImageError
from glip.images import SUFFIXES, read_image

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True)
class TarPicture(PackedPicture):
    """A picture in a plain tar file.

    Attributes:
        size: of the picture's file, in bytes.
    """

    size: int = 0

    def read(self) -> Image.Image:
        """The decoded picture, RGB and upright.

        Raises:
            ImageError: there is no picture at this place.
        """
        try:
            with self.file.open("rb") as shard:
                shard.seek(self.offset)
                content = shard.read(self.size)
            with Image.open(io.BytesIO(content)) as opened:
                return read_image(opened)
        except (OSError, Image.DecompressionBombError) as error:
            raise ImageError(f"{self}: the tar's member is no picture ({error})") from error


def read_shards(pattern: str | Path) -> list[Pair]:
    """Pairs of one or more shards; each line of a sample's `.txt` is a caption.

    Args:
        pattern: a tar file, a folder of them, or a path with one range, such as `shards/{0000..0127}.tar`.

    Raises:
        FileError: there is no such shard.
        DataError: one is no plain tar, or a picture has no text.
    """
    return [pair for shard in _shards(str(pattern)) for pair in _pairs_of(shard)]


def _shards(pattern: str) -> list[Path]:
    found = _RANGE.search(pattern)
    if found is not None:
        first, last = found.groups()
        numbers = range(int(first), int(last) + 1)
        shards = [Path(f"{pattern[: found.start()]}{n:0{len(first)}d}{pattern[found.end() :]}") for n in numbers]
    elif Path(pattern).is_dir():
        shards = sorted(Path(pattern).glob("*.tar"))
    else:
        shards = [Path(pattern)]
    missing = [shard for shard in shards if not shard.is_file()]
    if missing or not shards:
        raise FileError(f"{missing[0] if missing else pattern}: no tar file; give a .tar, a folder of them, or a range")
    return shards


def _pairs_of(shard: Path) -> Iterator[Pair]:
    pictures: dict[str, TarPicture] = {}
    texts: dict[str, str] = {}
    try:
        with tarfile.open(shard, "r:") as members:
            for member in members:
                folder, _, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                if not member.isfile():
                    continue
                if f".{ending.lower()}" in SUFFIXES:
                    pictures[key] = TarPicture(shard, member.offset_data, member.size)
                elif ending == "txt":
                    content = members.extractfile(member)
                    texts[key] = "" if content is None else content.read().decode("utf-8", errors="replace")
    except tarfile.TarError as error:
        raise DataError(f"{shard}: not a plain tar file ({error}); unpack a compressed one first") from error
    for key, picture in pictures.items():
        captions = [line.strip() for line in texts.get(key, "").splitlines() if line.strip()]
        if not captions:
            raise DataError(f"{shard}: the picture {key!r} has no text beside it; add {key}.txt with a caption a line")
        for caption in captions:
            yield Pair(key, picture, caption)
