"""What all files share: nothing is written over unasked, JSON is whole or absent, YAML is names and values."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glip.errors import ConfigError, FileError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def check_target(path: str | Path, *, overwrite: bool) -> Path:
    """Refuse, before any work, a file that could not be written afterwards.

    Returns:
        The path.

    Raises:
        FileError: the file exists, is a folder, or its folder does not exist.
    """
    path = Path(path)
    if path.is_dir():
        raise FileError(f"{path}: is a folder; give a file name")
    if path.exists() and not overwrite:
        raise FileError(f"{path}: exists already; choose another name, or ask to overwrite it (--overwrite)")
    if not path.parent.is_dir():
        raise FileError(f"{path}: there is no folder {path.parent}; make it first")
    return path


def check_picture(path: Path, *, option: str) -> None:
    """Refuse a name that says no picture format.

    Raises:
        FileError: it does.
    """
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise FileError(f"{option} {path}: end the name in one of {', '.join(PICTURE_SUFFIXES)}")


def write_json(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a file in one step: it is whole, or it is the one from before."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file in one step: it is whole, or it is the one from before."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def read_yaml(path: str | Path, *, what: str = "config") -> dict[str, Any]:
    """A YAML file of names and values.

    Args:
        path: the file.
        what: what it is, for errors.

    Raises:
        FileError: there is no such file.
        ConfigError: it is something else.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise FileError(f"{path}: no such {what} file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected names and values, got a {type(content).__name__}")
    return content
