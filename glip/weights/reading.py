"""Reading a checkpoint file as tensors, never as a program."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glip.errors import CheckpointError, FileError

DISTRIBUTED_PREFIX = "module."


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a `.pth` file: bare, or under `model` or `state_dict`; the prefix `module.` is taken off.

    Raises:
        FileError: there is no such file.
        CheckpointError: the file is no checkpoint, is cut short, or would have to be executed to be read.
    """
    content = _load(Path(path))
    for name in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
            break
    if not isinstance(content, dict) or not content or not all(isinstance(key, str) for key in content):
        raise CheckpointError(
            f"{path}: expected a dict of named tensors, or one under 'model', got {_describe(content)}"
        )
    state = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if len(state) != len(content):
        odd = next(name for name in content if name not in state)
        raise CheckpointError(f"{path}: {odd!r} must be a tensor, got {type(content[odd]).__name__}")
    if all(name.startswith(DISTRIBUTED_PREFIX) for name in state):
        state = {name.removeprefix(DISTRIBUTED_PREFIX): tensor for name, tensor in state.items()}
    return state


def _load(path: Path) -> Any:
    if not path.is_file():
        raise FileError(f"{path}: no such file; give the path of a .pth checkpoint")
    try:
        with warnings.catch_warnings():  # of pickle protocols; what matters ends in an error
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a readable checkpoint of plain tensors (cut short, another format, or holding code, "
            "which is never run); download it again or convert it on a machine that trusts it"
        ) from error


def _describe(content: Any) -> str:
    return "an empty dict" if content == {} else f"a {type(content).__name__}"
