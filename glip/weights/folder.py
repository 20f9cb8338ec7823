"""Where models lie, and whether a folder is one that `save_pretrained` wrote.

Asked before transformers reads it, so that errors are sentences.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from glip.configuration import GlipConfig
from glip.errors import CheckpointError, FileError

DEFAULT_MODEL = "glip-nano"
SHIPPED = {DEFAULT_MODEL: Path(__file__).parents[1] / "pretrained" / "glip_nano"}

CONFIG, INDEX, WEIGHTS = "config.json", "model.safetensors.index.json", "model.safetensors"
PROCESSOR_FILES = ("processor_config.json", "tokenizer.json", "tokenizer_config.json")


def find_model(name_or_path: str | Path) -> Path:
    """The place of a shipped model by its name, or the path itself.

    Raises:
        FileError: there is no such model.
    """
    path = SHIPPED.get(str(name_or_path), Path(name_or_path))
    if not path.exists():
        raise FileError(
            f"no model {str(name_or_path)!r}: give {DEFAULT_MODEL!r}, a folder from save_pretrained, or a .pth file"
        )
    return path


def find_model_folder(name_or_path: str | Path) -> Path:
    """As `find_model`, where a file will not do.

    Raises:
        CheckpointError: it is a file.
        FileError: there is no such model.
    """
    folder = find_model(name_or_path)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: is a file; give a folder that save_pretrained wrote")
    return folder


def check_model_folder(folder: Path, *, kind: str = GlipConfig.model_type) -> None:
    """Refuse a folder without a config of this kind and readable weights.

    Args:
        folder: what `save_pretrained` is said to have written.
        kind: `model_type` of the config.

    Raises:
        CheckpointError: a file is missing, cut short, or of another kind of model.
    """
    found = model_kind(folder)
    if found != kind:
        raise CheckpointError(f"{folder}: config.json is of a {found!r} model, expected {kind!r}; give another folder")
    if (folder / INDEX).is_file() and not (folder / WEIGHTS).is_file():
        names = sorted(set(_read_json(folder / INDEX).get("weight_map", {}).values()))
    else:
        names = [WEIGHTS]
    for name in names:
        _check_weights(folder / name)


def model_kind(folder: Path) -> str | None:
    """The `model_type` that a folder's config names.

    Raises:
        CheckpointError: there is no config, or it is broken.
    """
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder}: no config.json in this folder; give one that save_pretrained wrote")
    kind: str | None = _read_json(folder / CONFIG).get("model_type")
    return kind


def check_processor_folder(folder: Path) -> None:
    """Refuse a folder without the settings of a processor and a tokenizer.

    Raises:
        CheckpointError: a file is missing or cut short.
    """
    for name in PROCESSOR_FILES:
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder}: no {name}, which the tokenizer and processor need; save the processor there"
            )
        _read_json(folder / name)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid JSON; is the file cut short?") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected an object, got a {type(content).__name__}")
    return content


def _check_weights(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path}: the weights are not there; copy the whole folder")
    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: the weights cannot be read; is the file cut short?") from error
