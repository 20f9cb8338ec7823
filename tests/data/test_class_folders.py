"""A folder for each class; names in order, labels index them."""

from pathlib import Path

import pytest
from PIL import Image

from glip.data.class_folders import read_class_folders
from glip.errors import DataError, FileError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, count in (("dog", 1), ("big cat", 2)):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.new("RGB", (2, 2)).save(tmp_path / name / f"{number}.png")
    (tmp_path / "note.txt").write_text("not a class")
    return tmp_path


def test_every_folder_is_a_class(root: Path) -> None:
    found = read_class_folders(root)
    assert found.names == ("big cat", "dog")
    assert found.labels == (0, 0, 1)
    assert [image.name for image in found.images] == ["0.png", "1.png", "0.png"]


def test_some_classes_can_be_chosen_in_an_order(root: Path) -> None:
    found = read_class_folders(root, names=["dog"])
    assert (found.names, found.labels) == (("dog",), (0,))


def test_a_folder_without_folders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="each class needs a folder"):
        read_class_folders(tmp_path)


def test_a_class_without_pictures_is_refused(root: Path) -> None:
    (root / "fish").mkdir()
    with pytest.raises(FileError, match="fish: no pictures"):
        read_class_folders(root)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such folder"):
        read_class_folders(tmp_path / "gone")
