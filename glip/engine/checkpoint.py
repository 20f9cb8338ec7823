"""Checkpoints that are whole or absent: written beside, flushed to the disk, then renamed.

Each has its step in its name; the newest is the one that a run goes on from.
"""

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from glip.errors import CheckpointError, FileError

PREFIX = "checkpoint-"


def save_checkpoint(folder: Path, content: dict[str, Any], *, keep: int) -> None:
    """Write the checkpoint of `content["step"]`, then delete all but the newest `keep`.

    A crash at any moment leaves the old ones or the new one, too.
    """
    for unfinished in folder.glob(f"{PREFIX}*.partial"):
        unfinished.unlink()  # of a run that was killed while it wrote
    write_checkpoint(folder / f"{PREFIX}{content['step']:08d}.pt", content)
    for old in checkpoints_in(folder)[:-keep]:
        old.unlink()


def checkpoints_in(folder: Path) -> list[Path]:
    """A run's checkpoints, oldest first."""
    return sorted(folder.glob(f"{PREFIX}*.pt"))


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint to go on from; None if there is none yet.

    Raises:
        CheckpointError: the file is not a checkpoint of a training run.
    """
    found = checkpoints_in(folder)
    return (found[-1], read_checkpoint(found[-1])) if found else None


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Replace a file; a crash at any moment leaves the old or the new one.

    Raises:
        FileError: it cannot be written, as on a full disk; the old one stays.
    """
    beside = path.with_suffix(".partial")
    try:
        _write(beside, content)
    except (OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError where the disk is full
        beside.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) else "torch could not write it all"
        raise FileError(
            f"{path}: the checkpoint cannot be written ({reason or error}); is the disk full? Make room and start the "
            "run again, it goes on from the checkpoint before"
        ) from error
    beside.replace(path)


def _write(beside: Path, content: dict[str, Any]) -> None:
    with beside.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content.

    Raises:
        CheckpointError: the file is not a checkpoint of a training run.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint; choose another output folder") from error
    if not isinstance(content, dict) or "step" not in content:
        raise CheckpointError(f"{path}: not a checkpoint of a training run; choose another output folder")
    return content
