"""ODinW, object detection in the wild (Li et al. 2022): many small detection sets, each a task of the official YAML.

Of a task file the evaluation reads DATASETS.REGISTER (annotation file and folder of each split), DATASETS.TEST (which
split), DATASETS.OVERRIDE_CATEGORY (other names) and DATASETS.CAPTION_PROMPT (prefix, name and suffix of each class).
"""

import ast
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from glip.annotations import category_names, is_id, read_object
from glip.errors import ConfigError, DataError, FileError
from glip.evaluation.benchmark import Record
from glip.evaluation.coco import CocoBenchmark
from glip.files import read_yaml
from glip.text.prompts import Affix

LEFT_OUT = "plantdoc_100x100"  # of the official 36 task files; the official list of 35 leaves it out
SUMMARY = "summary"  # the name of the file that a suite's average goes to; no task may have it


@dataclass(frozen=True, kw_only=True)
class OdinwTask(CocoBenchmark):
    """One of ODinW's detection sets.

    Attributes:
        task: its name, the task file's.
    """

    name: ClassVar[str] = "odinw"

    task: str

    def settings(self) -> Record:
        """The task, beside what every detection file has."""
        return {"task": self.task, **super().settings()}


def read_odinw_tasks(
    paths: Sequence[Path], *, root: Path, split: str | None = None, use_prompts: bool = True, plus_one: bool = False
) -> list[OdinwTask]:
    """Tasks of YAML files, by name.

    Args:
        paths: task files, or folders of them.
        root: folder that the files' own paths start from.
        split: which part to evaluate; None for what DATASETS.TEST says.
        use_prompts: whether CAPTION_PROMPT and OVERRIDE_CATEGORY are followed.
        plus_one: as `CocoBenchmark` has it.

    Raises:
        FileError: there is no such file, or a folder has none.
        ConfigError: a file lacks a key, or holds something else in it.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(f for f in path.glob("*.y*ml") if not f.stem.startswith("_") and LEFT_OUT not in f.stem)
            if not inside:
                raise FileError(f"{path}: no task files (.yaml) in this folder")
            files += inside
        else:
            files.append(path)
    tasks = [_read_task(file, root, split, use_prompts=use_prompts, plus_one=plus_one) for file in files]
    names = [task.task for task in tasks]
    twice = [name for name in names if names.count(name) > 1 or name == SUMMARY]
    if twice:
        raise ConfigError(f"a task file may not be named {twice[0]!r}: results are kept by name, and this one is taken")
    return tasks


def summarize(metrics: Mapping[str, Mapping[str, Any]]) -> Record:
    """Average and median AP over tasks, and each task's numbers.

    Args:
        metrics: COCO's numbers by task.

    Raises:
        DataError: there is no task, or one has no boxes.
    """
    if not metrics:
        raise DataError("ODinW's average needs at least one task, got none")
    values = {name: float(numbers["AP"]) for name, numbers in metrics.items()}
    undefined = sorted(name for name, value in values.items() if value < 0)
    if undefined:
        raise DataError(f"ODinW's average needs boxes in every task, but {undefined[0]!r} has none in this split")
    return {
        "number of tasks": f"{len(values)}",
        "average AP": statistics.fmean(values.values()),
        "median AP": statistics.median(values.values()),
        "tasks": {name: dict(numbers) for name, numbers in metrics.items()},
    }


def _read_task(path: Path, root: Path, split: str | None, *, use_prompts: bool, plus_one: bool) -> OdinwTask:
    sets = _datasets(path)
    split = split or _test_split(path, sets)
    register = sets.get("REGISTER") or {}
    if not isinstance(register, dict) or split not in register:
        known = sorted(map(str, register)) if isinstance(register, dict) else register
        raise ConfigError(f"{path}: DATASETS.REGISTER has no split {split!r}; it has {known}")
    entry = register[split]
    for name in ("ann_file", "img_dir"):
        if not isinstance(entry, dict) or not isinstance(entry.get(name), str):
            raise ConfigError(f"{path}: DATASETS.REGISTER.{split}: {name!r} must be a path, got {entry!r}")
    annotations = root / entry["ann_file"]
    return OdinwTask(
        task=path.stem,
        annotations=annotations,
        images=root / entry["img_dir"],
        classes=_classes(path, sets.get("OVERRIDE_CATEGORY"), annotations) if use_prompts else None,
        affixes=_affixes(path, sets.get("CAPTION_PROMPT")) if use_prompts else None,
        plus_one=plus_one,
    )


def _datasets(path: Path) -> dict[str, Any]:
    sets = read_yaml(path, what="task").get("DATASETS")
    if not isinstance(sets, dict):
        raise ConfigError(f"{path}: expected an ODinW task with DATASETS, got {type(sets).__name__}")
    return sets


def _test_split(path: Path, sets: Mapping[str, Any]) -> str:
    """The split that the official command evaluates; YAML has it as a list, or as a Python tuple in a string."""
    value = sets.get("TEST")
    given = _literal(path, "TEST", value) if isinstance(value, str) and value.startswith("(") else value
    names = [given] if isinstance(given, str) else list(given) if isinstance(given, list | tuple) else []
    if len(names) != 1 or not isinstance(names[0], str):
        raise ConfigError(f"{path}: DATASETS.TEST must name one split, got {value!r}; or choose one with --split")
    return names[0]


def _classes(path: Path, given: Any, annotations: Path) -> tuple[tuple[int | str, str], ...] | None:
    """What stands in the annotation file's place of categories: ids and names, in the override's order."""
    if given in (None, ""):
        return None
    known = category_names(annotations, read_object(annotations))
    classes = []
    for record in _records(path, "OVERRIDE_CATEGORY", given, ("id", "name")):
        if not is_id(record["id"]) or record["id"] not in known:
            raise ConfigError(
                f"{path}: DATASETS.OVERRIDE_CATEGORY: {record['id']!r} is no category id of {annotations}"
            )
        classes.append((record["id"], str(record["name"])))
    return tuple(classes)


def _affixes(path: Path, given: Any) -> tuple[Affix, ...] | None:
    """A manual prompt: a list, or the path of a YAML file that holds one."""
    if given in (None, ""):
        return None
    if isinstance(given, str) and given.strip().endswith((".yaml", ".yml")):
        import yaml

        file = path.parent / given.strip()
        if not file.is_file():
            raise FileError(f"{path}: DATASETS.CAPTION_PROMPT: no such file {file}")
        given = yaml.safe_load(file.read_text(encoding="utf-8"))
    records = _records(path, "CAPTION_PROMPT", given, ("prefix", "name", "suffix"))
    return tuple((str(r["prefix"]), str(r["name"]), str(r["suffix"])) for r in records)


def _records(path: Path, key: str, given: Any, fields: Sequence[str]) -> list[dict[str, Any]]:
    records = _literal(path, key, given) if isinstance(given, str) else given
    if not isinstance(records, list) or not all(isinstance(r, dict) and set(fields) <= r.keys() for r in records):
        raise ConfigError(f"{path}: DATASETS.{key} must be a list of objects with {list(fields)}, got {given!r}")
    return records


def _literal(path: Path, key: str, text: str) -> Any:
    """A Python literal, as the official files write lists; it is never run."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ConfigError(f"{path}: DATASETS.{key} is no list that can be read: {text[:60]!r}") from error
