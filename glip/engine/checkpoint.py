"""Checkpoints that are whole or absent: written beside, flushed to the disk, then renamed."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from glip.errors import CheckpointError


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Replace the checkpoint; a crash at any moment leaves the old or the new one."""
    beside = path.with_suffix(".partial")
    with beside.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """The checkpoint's content; None if there is none yet.

    Raises:
        CheckpointError: the file is not a checkpoint of a training run.
    """
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint; choose another output folder") from error
    if not isinstance(content, dict) or "step" not in content:
        raise CheckpointError(f"{path}: not a checkpoint of a training run; choose another output folder")
    return content
