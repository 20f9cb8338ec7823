"""A contrastive experiment as a typed value; the YAML file is only what differs."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, model_validator

from glip.clip_configuration import CLIP_VARIANTS
from glip.contrastive.losses import InfoNceLoss, SigmoidLoss
from glip.data.pair_dataset import CropRule
from glip.engine.config import MeasureConfig, RunConfig, apply_overrides, read_mapping, validated
from glip.engine.optimizer import OptimizerConfig, ScheduleConfig

TASK: Literal["clip"] = "clip"
"""What a YAML file's `task` says, so that tools/train.py and `glip train` know it."""

Templates = int | tuple[str, ...]


class PairSourceConfig(BaseModel, frozen=True, extra="forbid"):
    """Pictures and what is said of them.

    Attributes:
        pairs: of "pairs", whatever `glip.data.pairs.read_pairs` takes; of "shards", tar files in webdataset's layout
            (a file, a folder, or a range as in `shards/{000..127}.tar`); of "classes", a folder with a folder for each
            class.
        images: folder that the names of pictures are relative to, of "pairs" only.
        kind: which of these.
        templates: of "classes" only: the sentences that names stand in, by the set's size (0, 1, 7, 80) or your own.
        weight: share of this source in the mixture, relative to the others.
    """

    pairs: Path
    images: Path | None = None
    kind: Literal["pairs", "shards", "classes"] = "pairs"
    templates: Templates = 7
    weight: PositiveFloat = 1.0


class ContrastConfig(BaseModel, frozen=True, extra="forbid"):
    """What pulls pairs together.

    Attributes:
        kind: "softmax" is CLIP's loss, "sigmoid" SigLIP's, which needs a network with a bias.
        local_loss: whether a process scores its own pairs against all, or all against all; the gradients are the same.
        chunk_size: rows of similarities held at a time; None for all.
        same_caption_is_negative: whether pairs that share their caption push each other away, as in the papers.
    """

    kind: Literal["softmax", "sigmoid"] = "softmax"
    local_loss: bool = True
    chunk_size: PositiveInt | None = None
    same_caption_is_negative: bool = False

    def build(self) -> InfoNceLoss | SigmoidLoss:
        """The loss."""
        kind = InfoNceLoss if self.kind == "softmax" else SigmoidLoss
        return kind(local_loss=self.local_loss, chunk_size=self.chunk_size)


class ZeroShotValidationConfig(MeasureConfig, frozen=True, extra="forbid"):
    """A folder of class folders that is classified by names during the run, with the averaged weights.

    Attributes:
        classes: the folder; a class's name is its folder's.
        templates: as `PairSourceConfig` has them.
    """

    classes: Path
    templates: Templates = 7


class ClipTrainConfig(RunConfig, frozen=True, extra="forbid"):
    """A whole experiment on pairs. All pairs of a batch are told from each other, in how many parts they are encoded.

    Attributes:
        task: "clip".
        network: numbers of a new network's `ClipConfig` that differ from the named one's.
        image_size: of a new network's pictures, a multiple of 32 pixels.
        towers: a GLIP or CLIP model whose image and text encoder a new network starts with; None for random ones.
        sources: the mixture.
        crop: what may happen to pictures.
        loss: what pulls pairs together.
    """

    networks: ClassVar[Collection[str]] = CLIP_VARIANTS

    task: Literal["clip"] = TASK
    network: dict[str, Any] = Field(default_factory=dict)
    image_size: PositiveInt = 224
    towers: Path | None = None
    sources: tuple[PairSourceConfig, ...] = Field(min_length=1)
    crop: CropRule = CropRule()
    loss: ContrastConfig = ContrastConfig()
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=5e-4, backbone_factor=1.0, weight_decay=0.2)
    validation: ZeroShotValidationConfig | None = None
    batch_size: PositiveInt = 64
    precision: Literal["fp32", "bf16"] = "fp32"

    @model_validator(mode="after")
    def _check_network(self) -> Self:
        if self.start is not None and (self.network or self.towers):
            raise ValueError("network and towers belong to a new network; leave them out, or give new_model, not start")
        return self


def read_clip_config(path: str | Path, overrides: tuple[str, ...] = ()) -> ClipTrainConfig:
    """Read an experiment.

    Args:
        path: a YAML file.
        overrides: `key=value` or `group.key=value`, values in YAML's notation.

    Raises:
        FileError: there is no such file.
        ConfigError: a name is unknown or a value impossible; the message names it.
    """
    content = read_mapping(Path(path))
    apply_overrides(content, overrides)
    return validated(ClipTrainConfig, str(path), content, _GROUPS)


def is_clip_experiment(path: str | Path) -> bool:
    """Whether a YAML file says `task: clip`.

    Raises:
        FileError: there is no such file.
        ConfigError: it is no YAML of names and values.
    """
    return read_mapping(Path(path)).get("task") == TASK


_GROUPS: dict[Any, Any] = {
    "sources": PairSourceConfig,
    "crop": CropRule,
    "loss": ContrastConfig,
    "optimizer": OptimizerConfig,
    "schedule": ScheduleConfig,
    "validation": ZeroShotValidationConfig,
}
