"""`glip train`: an experiment's YAML file, or your own photos with boxes and no file at all."""

import copy
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glip.cli.options import ModelName
from glip.cli.startup import collect_as_usual
from glip.errors import ConfigError

if TYPE_CHECKING:
    from glip.engine.config import TrainConfig

PASSES, MIN_STEPS, MAX_STEPS = 12, 100, 2000  # over the photos; and what that may come to
BATCH_SIZE = 4
LEARNING_RATES = {"full": 2e-4, "linear": 2e-3, "prompt": 1e-2, "lora": 1e-3}
"""Of each way of tuning: the fewer parameters, the faster they may move. Measured by tools/finetune_table.py."""

Config = Annotated[Path | None, typer.Argument(help="An experiment (YAML); or leave it out and give --data.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, such as steps=500 or tuning.mode=linear.")]


def train(
    config: Config = None,
    overrides: Overrides = None,
    data: Annotated[Path | None, typer.Option(help="Your photos with boxes: COCO detection JSON.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the photos; the JSON file's own if left out.")] = None,
    dev: Annotated[
        Path | None,
        typer.Option(help="More photos with boxes, to measure on during the run; the best weights are kept."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A folder for what the run writes.")] = None,
    model: ModelName = "glip-nano",
) -> None:
    """Train or fine-tune. The same command goes on where an interrupted run stopped.

    Examples: glip train configs/mine.yaml steps=500. Or: glip train --data my.json --images photos --output runs/mine
    """
    from glip.engine.clip_config import is_clip_experiment, read_clip_config
    from glip.engine.clip_trainer import ClipTrainer
    from glip.engine.trainer import Trainer

    collect_as_usual()
    level = logging.WARNING if sys.stderr.isatty() else logging.INFO  # a terminal has a progress bar
    logging.basicConfig(level=level, format="%(asctime)s %(message)s")
    words = [word for word in ([str(config)] if config is not None else []) + (overrides or []) if word]
    if data is None:
        if words and "=" not in words[0] and is_clip_experiment(words[0]):
            ClipTrainer(read_clip_config(words[0], tuple(words[1:]))).train()
            return
        Trainer(_from_file(words)).train()
        return
    if output is None:
        raise ConfigError("--data needs --output FOLDER: where the trained model goes")
    Trainer(settings_from_data(data, images, dev, output, model, tuple(words))).train()


def _from_file(words: list[str]) -> "TrainConfig":
    from glip.engine.config import read_config

    if not words or "=" in words[0]:
        raise ConfigError("give an experiment, as in 'glip train configs/mine.yaml', or --data FILE.json")
    return read_config(words[0], tuple(words[1:]))


def settings_from_data(
    data: Path, images: Path | None, dev: Path | None, output: Path, model: str, overrides: tuple[str, ...]
) -> "TrainConfig":
    """Fine-tuning that works unedited: small steps from a trained model, a dozen passes over the photos."""
    from glip.engine.config import apply_overrides, build_config
    from glip.engine.sources import read_sources

    folder = None if images is None else str(images)
    content: dict[str, Any] = {
        "start": model,
        "output": str(output),
        "sources": [{"kind": "detection", "annotations": str(data), "images": folder}],
        "steps": MIN_STEPS,
        "batch_size": BATCH_SIZE,
    }
    if dev is not None:
        content["validation"] = {"annotations": str(dev), "images": folder}
    wanted = build_config("glip train", copy.deepcopy(content), overrides)
    changed: dict[str, Any] = {}
    apply_overrides(changed, overrides)
    if "steps" in changed:
        steps = wanted.steps
    else:
        examples, _ = read_sources(wanted.sources, wanted.few_shot)
        steps = min(max(PASSES * len(examples) // wanted.batch_size, MIN_STEPS), MAX_STEPS)
    tenth = max(steps // 10, 1)
    content |= {
        "steps": steps,
        "optimizer": {"learning_rate": LEARNING_RATES[wanted.tuning.mode], "backbone_factor": 0.1, "clip_norm": 5.0},
        "schedule": {"warmup_steps": max(steps // 20, 1)},
        "losses": {"l1": 0.5},
        "ema_decay": 0.99,
        "save_every": tenth,
    }
    if dev is not None:
        content["validation"]["every"] = tenth
    return build_config("glip train", content, overrides)
