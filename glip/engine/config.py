"""A training experiment as a typed value; the YAML file is only what differs.

Unknown names and wrong types are refused by their full path.
"""

from collections.abc import Collection, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from glip.configuration import VARIANTS, complete_heads
from glip.data.captions import CaptionRule
from glip.data.packing import PackingRule
from glip.data.transforms import AugmentationRule
from glip.detection.losses import LossWeights
from glip.engine.head_losses import HeadLossWeights
from glip.engine.optimizer import OptimizerConfig, ScheduleConfig
from glip.engine.tuning import TuningConfig
from glip.errors import ConfigError
from glip.files import read_yaml

Experiment = TypeVar("Experiment", bound=BaseModel)


class SourceConfig(BaseModel, frozen=True, extra="forbid"):
    """One annotation file.

    Attributes:
        annotations: COCO or LVIS detection JSON, MDETR grounding JSON, ODVG (one record a line), the YAML of a TSV data
            set or of an ODinW task, or the folder of Flickr30k Entities.
        images: folder that the file's names are relative to; None for the annotation file's own. TSV files hold their
            pictures; an ODinW task's own paths start from here, or from where you are.
        kind: which of these.
        split: which part, of "flickr30k" and "odinw" only; None for "train".
        weight: share of this source in the mixture, relative to the others.
        box_loss: whether its boxes teach where edges are; False for pseudo boxes that are right about words but loose.
    """

    annotations: Path
    images: Path | None = None
    kind: Literal["detection", "grounding", "odvg", "tsv", "flickr30k", "odinw"]
    split: str | None = None
    weight: PositiveFloat = 1.0
    box_loss: bool = True

    @model_validator(mode="after")
    def _check_split(self) -> Self:
        if self.split is not None and self.kind not in ("flickr30k", "odinw"):
            raise ValueError(f"a file of kind {self.kind} has no splits; leave split out")
        return self


class FewShotConfig(BaseModel, frozen=True, extra="forbid"):
    """Some of the examples only: each class in at least `shots` pictures, where there are as many.

    Attributes:
        shots: pictures a class; 0 for all examples.
        seed: of the order in which pictures are looked at; None for the file's order, as published.
    """

    shots: NonNegativeInt = 0
    seed: int | None = None


class MeasureConfig(BaseModel, frozen=True, extra="forbid"):
    """When a run is measured, and how long it may bring nothing better.

    Attributes:
        every: steps between validations.
        patience: validations in a row that bring nothing better before the run stops; None to go on.
    """

    every: PositiveInt = 100
    patience: PositiveInt | None = None


class ValidationConfig(MeasureConfig, frozen=True, extra="forbid"):
    """A detection file whose AP is measured during the run, with the averaged weights.

    Attributes:
        annotations: COCO detection JSON.
        images: folder that the file's names are relative to; None for the annotation file's own.
        metric: which of COCO's numbers decides.
    """

    annotations: Path
    images: Path | None = None
    metric: Literal["AP", "AP50"] = "AP"


class RunConfig(BaseModel, frozen=True, extra="forbid"):
    """What every experiment has, whatever it learns.

    Attributes:
        start: the model that training starts from: a folder, or a shipped model's name.
        new_model: or a network with random weights, by its name in `networks`.
        output: folder for checkpoints, log and the trained model; an interrupted run there goes on.
        optimizer: rates and decays.
        schedule: the course of the learning rate.
        validation: what is measured during the run; None for nothing.
        steps: optimiser steps in all.
        batch_size: pictures a step, of all processes together.
        accumulate: parts that a process takes its share of a batch in, one after the other, to save memory.
        precision: of the forward pass; weights and losses stay float32.
        gradient_checkpointing: compute activations again in the backward pass, to save memory.
        compile: let torch.compile make the network faster, where a compiler is at hand; the first steps take minutes.
        ema_decay: of the averaged weights that are exported; 0 for the last weights.
        start_share: of the exported weights, the share of those that training started from, so that a handful of
            pictures makes the model forget less. It needs a trained model to start from. The factors of low-rank
            additions are mixed one by one, which is nearly that.
        seed: of all chance.
        workers: processes that read pictures.
        save_every: steps between checkpoints.
        keep_last: checkpoints that are kept.
        log_every: steps between lines of the log.
        trackers: of accelerate, such as "tensorboard" or "wandb", besides the JSONL log.
    """

    networks: ClassVar[Collection[str]] = ()

    start: Path | None = None
    new_model: str | None = None
    output: Path
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    validation: MeasureConfig | None = None
    steps: PositiveInt
    batch_size: PositiveInt = 8
    accumulate: PositiveInt = 1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    gradient_checkpointing: bool = False
    compile: bool = False
    ema_decay: float = Field(default=0.998, ge=0, lt=1)
    start_share: float = Field(default=0.0, ge=0, lt=1)
    seed: int = 0
    workers: NonNegativeInt = 1
    save_every: PositiveInt = 100
    keep_last: PositiveInt = 1
    log_every: PositiveInt = 10
    trackers: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check_start(self) -> Self:
        if (self.start is None) == (self.new_model is None):
            raise ValueError("give one of start (a trained model) and new_model (a network's name)")
        if self.new_model is not None and self.new_model not in self.networks:
            raise ValueError(f"new_model must be one of {sorted(self.networks)}, got {self.new_model!r}")
        if self.new_model is not None and self.start_share:
            raise ValueError(
                "start_share keeps what a trained model knew; give start instead of new_model, or leave it out"
            )
        return self


class TrainConfig(RunConfig, frozen=True, extra="forbid"):
    """A whole experiment on boxes and words.

    Attributes:
        towers: a CLIP model's folder whose image and text encoder the network starts with instead of its own.
        sources: the mixture.
        captions: how class lists are drawn.
        packing: how sentences are packed among captions of other pictures.
        augmentation: what may happen to pictures.
        losses: what each term is multiplied with.
        heads: heads of GLIPv2 that the network gets at the start, each with its numbers (`HEAD_FIELDS` of
            `glip.configuration`); those that it has already, and that are not named, stay.
        head_losses: what each head's loss is multiplied with.
        tuning: what is trained.
        few_shot: how many examples of the sources are used.
        sharded: whether several processes share weights, gradients and optimiser states (FSDP) or copy them (DDP).
    """

    networks: ClassVar[Collection[str]] = VARIANTS

    towers: Path | None = None
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    captions: CaptionRule = CaptionRule()
    packing: PackingRule = PackingRule()
    augmentation: AugmentationRule = AugmentationRule()
    losses: LossWeights = LossWeights()
    heads: dict[str, dict[str, Any]] = Field(default_factory=dict)
    head_losses: HeadLossWeights = HeadLossWeights()
    tuning: TuningConfig = TuningConfig()
    few_shot: FewShotConfig = FewShotConfig()
    validation: ValidationConfig | None = None
    sharded: bool = False

    @field_validator("heads")
    @classmethod
    def _check_heads(cls, heads: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        complete_heads("experiment", heads)
        return heads

    @model_validator(mode="after")
    def _check_share(self) -> Self:
        if self.heads and self.start_share:
            raise ValueError("start_share would mix new heads with random weights; leave out heads or start_share")
        return self


def read_config(path: str | Path, overrides: tuple[str, ...] = ()) -> TrainConfig:
    """Read an experiment.

    Args:
        path: a YAML file.
        overrides: `key=value` or `group.key=value`, values in YAML's notation.

    Raises:
        FileError: there is no such file.
        ConfigError: a name is unknown or a value impossible; the message names it.
    """
    return build_config(str(path), read_mapping(Path(path)), overrides)


def build_config(source: str, content: dict[str, Any], overrides: tuple[str, ...] = ()) -> TrainConfig:
    """An experiment from its settings.

    Args:
        source: where they come from, for errors.
        content: names and values.
        overrides: as `read_config` takes them.

    Raises:
        ConfigError: a name is unknown or a value impossible; the message names it.
    """
    apply_overrides(content, overrides)
    return validated(TrainConfig, source, content, _GROUPS)


def validated(kind: type[Experiment], source: str, content: dict[str, Any], groups: Mapping[Any, Any]) -> Experiment:
    """Settings as a typed value.

    Args:
        kind: the experiment's type.
        source: where the settings come from, for errors.
        content: names and values.
        groups: the type of each group of settings by its name, so that an error can say the known names.

    Raises:
        ConfigError: a name is unknown or a value impossible; the message names it.
    """
    try:
        return kind(**content)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # said of the whole
            raise ConfigError(f"{source}: {first['msg']}") from error
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{source}: {place}: {first['msg']}, got {first['input']!r}{_known(first, kind, groups)}"
        ) from error


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file of settings, whose names are words.

    Raises:
        FileError: there is no such file.
        ConfigError: it is something else.
    """
    content = read_yaml(path)
    numbers = [name for name in content if not isinstance(name, str)]
    if numbers:
        raise ConfigError(f"{path}: names of settings must be words, got {numbers[0]!r}")
    return content


def _known(error: Mapping[str, Any], kind: type[BaseModel], groups: Mapping[Any, Any]) -> str:
    """The names that may stand where an unknown one stands; nothing for other errors."""
    if error["type"] not in ("extra_forbidden", "unexpected_keyword_argument"):
        return ""
    group: Any = kind
    for part in error["loc"][:-1]:
        if not isinstance(part, int):
            group = groups[part]
    return f"; known fields are {_fields(group)}"


def _fields(group: Any) -> list[str]:
    fields = group.__dataclass_fields__ if is_dataclass(group) else group.model_fields
    return list(fields)


_GROUPS: dict[Any, Any] = {
    "sources": SourceConfig,
    "captions": CaptionRule,
    "packing": PackingRule,
    "augmentation": AugmentationRule,
    "optimizer": OptimizerConfig,
    "schedule": ScheduleConfig,
    "tuning": TuningConfig,
    "few_shot": FewShotConfig,
    "validation": ValidationConfig,
    "losses": LossWeights,
    "head_losses": HeadLossWeights,
}


def apply_overrides(content: dict[str, Any], overrides: tuple[str, ...]) -> None:
    """Change settings in place.

    Args:
        content: of a config file.
        overrides: `key=value` or `group.key=value`, values in YAML's notation.

    Raises:
        ConfigError: one is of another form, or names no group of settings.
    """
    for override in overrides:
        _apply(content, override)


def _apply(content: dict[str, Any], override: str) -> None:
    name, equals, value = override.partition("=")
    if not equals:
        raise ConfigError(f"an override must be key=value, got {override!r}")
    *groups, last = name.split(".")
    for group in groups:
        content = content.setdefault(group, {})
        if not isinstance(content, dict):
            raise ConfigError(f"override {override!r}: {group!r} is no group of settings")
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"the override {override!r} has no valid YAML behind the =") from error
