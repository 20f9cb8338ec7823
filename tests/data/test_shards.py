"""Tar shards are read where they lie: one sample for each name, one pair for each line of its text."""

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from glip.data.shards import TarPicture, read_shards
from glip.errors import DataError, FileError, ImageError


def png(colour: str) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(content, "PNG")
    return content.getvalue()


def write_shard(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as shard:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
    return path


RED = {"a.png": png("red"), "a.txt": b"a red picture\n\nred all over\n", "a.json": b"{}"}
BLUE = {"in/b.c.png": png("green"), "in/b.png": png("blue"), "in/b.txt": "a blue picture, très bleu".encode()}


def test_each_line_of_a_text_is_a_pair(tmp_path: Path) -> None:
    pairs = read_shards(write_shard(tmp_path / "0.tar", RED | BLUE))
    assert [(pair.name, pair.caption) for pair in pairs] == [
        ("a", "a red picture"),
        ("a", "red all over"),
        ("in/b", "a blue picture, très bleu"),
    ]
    assert [pair.read().getpixel((0, 0)) for pair in pairs] == [(255, 0, 0), (255, 0, 0), (0, 0, 255)]


@pytest.mark.parametrize("pattern", ["", "{00..01}.tar"], ids=["a folder", "a range"])
def test_several_shards_come_one_after_the_other_from(pattern: str, tmp_path: Path) -> None:
    write_shard(tmp_path / "00.tar", RED)
    write_shard(tmp_path / "01.tar", BLUE)
    assert [pair.name for pair in read_shards(tmp_path / pattern)] == ["a", "a", "in/b"]


def test_an_empty_shard_has_no_pair(tmp_path: Path) -> None:
    assert read_shards(write_shard(tmp_path / "0.tar", {})) == []


@pytest.mark.parametrize("pattern", ["gone.tar", "{0..1}.tar", "."], ids=["a file", "a range", "an empty folder"])
def test_shards_that_are_not_there_are_refused(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no tar file"):
        read_shards(tmp_path / pattern)


def test_a_picture_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'a' has no text .* add a\.txt"):
        read_shards(write_shard(tmp_path / "0.tar", {"a.png": png("red"), "a.txt": b" \n"}))


def test_a_compressed_shard_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unpack a compressed one first"):
        read_shards(write_shard(tmp_path / "0.tar", RED, "w:gz"))


def test_a_member_that_is_no_picture_is_refused_by_its_place(tmp_path: Path) -> None:
    (pair,) = read_shards(write_shard(tmp_path / "0.tar", {"a.png": b"no", "a.txt": b"a"}))
    assert isinstance(pair.image, TarPicture)
    with pytest.raises(ImageError, match=r"0\.tar@512: the tar's member is no picture"):
        pair.read()
