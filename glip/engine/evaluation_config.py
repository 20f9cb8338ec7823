"""A list of benchmarks for one model, as a YAML file."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError

from glip.engine.config import apply_overrides, read_mapping
from glip.errors import ConfigError
from glip.evaluation.benchmark import Benchmark
from glip.evaluation.coco import CocoBenchmark, CocoJsonBenchmark
from glip.evaluation.flickr30k import Flickr30kBenchmark
from glip.evaluation.grounding import GroundingBenchmark
from glip.evaluation.lvis_benchmark import LvisBenchmark
from glip.evaluation.refcoco import RefCocoBenchmark
from glip.weights.folder import DEFAULT_MODEL

KINDS: dict[str, type[Benchmark]] = {
    kind.name: kind
    for kind in (
        CocoBenchmark,
        CocoJsonBenchmark,
        Flickr30kBenchmark,
        GroundingBenchmark,
        LvisBenchmark,
        RefCocoBenchmark,
    )
}


class EvaluationConfig(BaseModel, frozen=True, extra="forbid"):
    """What is evaluated.

    Attributes:
        output: folder of the results, one file a benchmark.
        benchmarks: by the name of their results; `kind` is what `glip evaluate` calls it, the rest its fields.
        model: what `Predictor.from_pretrained` takes.
        device: where the network runs.
        batch_size: pictures that go through it together.
        workers: processes that read pictures.
    """

    output: Path
    benchmarks: dict[str, dict[str, Any]] = Field(min_length=1)
    model: str = DEFAULT_MODEL
    device: str = "cpu"
    batch_size: PositiveInt = 1
    workers: NonNegativeInt = 0

    def build(self) -> dict[str, Benchmark]:
        """The benchmarks by their names.

        Raises:
            ConfigError: a kind or a field is unknown, or a value impossible.
        """
        return {name: build_benchmark(name, options) for name, options in self.benchmarks.items()}


def read_evaluation_config(path: str | Path, overrides: tuple[str, ...] = ()) -> EvaluationConfig:
    """Read a list of benchmarks.

    Args:
        path: a YAML file.
        overrides: `key=value` or `group.key=value`, values in YAML's notation.

    Raises:
        FileError: there is no such file.
        ConfigError: a name is unknown or a value impossible; the message names it.
    """
    content = read_mapping(Path(path))
    apply_overrides(content, overrides)
    try:
        return EvaluationConfig(**content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_problem(error)}") from error


def build_benchmark(name: str, options: Mapping[str, Any]) -> Benchmark:
    """A benchmark from its fields and its `kind`.

    Raises:
        ConfigError: the kind or a field is unknown, missing or impossible.
    """
    given = dict(options)
    kind = given.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigError(f"benchmarks.{name}.kind must be one of {sorted(KINDS)}, got {kind!r}")
    known = {field.name for field in fields(KINDS[kind])}  # type: ignore[arg-type]  # every kind is a dataclass
    unknown = sorted(given.keys() - known)
    if unknown:
        raise ConfigError(f"benchmarks.{name}: no field {unknown[0]!r}; known are {sorted(known)}")
    try:
        return TypeAdapter(KINDS[kind]).validate_python(given)
    except ValidationError as error:
        raise ConfigError(f"benchmarks.{name}: {_first_problem(error)}") from error


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}, got {first['input']!r}"
