"""A checkpoint is whole or absent, whenever the machine stops."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from glip.engine.checkpoint import checkpoints_in, newest_checkpoint, read_checkpoint, save_checkpoint, write_checkpoint
from glip.errors import CheckpointError, FileError

CONTENT = {"step": 3, "model": {"weight": torch.tensor([1.0, 2.0])}}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint.pt", CONTENT)
    content = read_checkpoint(tmp_path / "checkpoint.pt")
    assert content["step"] == 3
    torch.testing.assert_close(content["model"]["weight"], torch.tensor([1.0, 2.0]))


def test_nothing_is_left_beside_it(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint.pt", CONTENT)
    write_checkpoint(tmp_path / "checkpoint.pt", {**CONTENT, "step": 4})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 4


def test_before_the_first_there_is_none(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    assert newest_checkpoint(tmp_path / "nowhere") is None


def test_the_newest_are_kept_and_the_last_is_read(tmp_path: Path) -> None:
    for step in (9, 10, 200, 1000):
        save_checkpoint(tmp_path, {**CONTENT, "step": step}, keep=2)
    assert [path.name for path in checkpoints_in(tmp_path)] == ["checkpoint-00000200.pt", "checkpoint-00001000.pt"]
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest[1]["step"] == 1000


def test_what_a_killed_run_left_half_written_is_cleaned_up(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, CONTENT, keep=1)
    (tmp_path / "checkpoint-00000004.partial").write_bytes(b"half")
    save_checkpoint(tmp_path, {**CONTENT, "step": 5}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000005.pt"]


def test_a_full_disk_is_said_and_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, CONTENT, keep=1)

    def fail(_content: object, _file: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(FileError, match=r"cannot be written .*No space left.*Make room"):
        save_checkpoint(tmp_path, {**CONTENT, "step": 4}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000003.pt"]


@pytest.mark.parametrize("written", [0, 100], ids=["before the first byte", "in the middle"])
def test_a_crash_while_writing_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    write_checkpoint(tmp_path / "checkpoint.pt", CONTENT)
    save = torch.save

    def crash(content: object, file: Any) -> None:
        save(content, file)
        file.truncate(written)
        raise OSError("the disk is full")

    monkeypatch.setattr(torch, "save", crash)
    with pytest.raises(FileError, match="is the disk full"):
        write_checkpoint(tmp_path / "checkpoint.pt", {"step": 4})
    monkeypatch.undo()
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 3


def test_a_crash_before_the_first_is_whole_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_content: object, file: Any) -> None:
        file.write(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(torch, "save", crash)
    with pytest.raises(FileError, match="is the disk full"):
        write_checkpoint(tmp_path / "checkpoint.pt", {"step": 4})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda whole: b"", id="no bytes"),
        pytest.param(lambda whole: whole[: len(whole) // 2], id="half of it"),
        pytest.param(lambda whole: b"Dear all, this is a letter.", id="text"),
        pytest.param(lambda whole: pickle.dumps(print, protocol=2), id="a program"),
    ],
)
def test_a_file_that_is(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, CONTENT)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: not a .*; choose another output folder"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [{}, {"model": {}}, [1, 2], 3])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of a training run"):
        read_checkpoint(tmp_path / "checkpoint.pt")


class WouldRun:
    """What a careless reader of the file would run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        """What unpickling runs."""
        return Path.touch, (self.mark,)


def test_a_program_inside_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    torch.save({"step": 3, "model": WouldRun(tmp_path / "was_run")}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        read_checkpoint(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "was_run").exists()


def test_it_is_on_the_disk_before_it_takes_the_place_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    there_at_fsync: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda _descriptor: there_at_fsync.append(path.exists()))
    write_checkpoint(path, CONTENT)
    assert there_at_fsync == [False]
    assert path.exists()
