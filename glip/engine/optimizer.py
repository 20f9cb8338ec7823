"""What is updated how fast: parameter groups, and the learning rate's course."""

import math
from collections.abc import Iterable
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator
from torch import Tensor, nn


class OptimizerConfig(BaseModel, frozen=True, extra="forbid"):
    """AdamW; gradients are clipped by their global norm.

    The published models were trained with `bias_factor=2` and `decay_vectors=True`.

    Attributes:
        learning_rate: of the head and the blocks.
        text_learning_rate: of the text encoder; None for `learning_rate`.
        backbone_factor: the backbone's share of `learning_rate`.
        bias_factor: biases learn this much faster; the name decides, so that a table of position biases is one, too.
        weight_decay: on everything but biases.
        decay_vectors: whether norms, scales and other parameters of one dimension decay, too.
        clip_norm: most global L2 norm of a step's gradients.
    """

    learning_rate: PositiveFloat = 1e-4
    text_learning_rate: PositiveFloat | None = None
    backbone_factor: NonNegativeFloat = 0.1
    bias_factor: PositiveFloat = 1.0
    weight_decay: NonNegativeFloat = 1e-4
    decay_vectors: bool = False
    clip_norm: PositiveFloat = 1.0


class ScheduleConfig(BaseModel, frozen=True, extra="forbid"):
    """The course of the learning rate, as a share of its full value: linear warm-up, then one of four courses.

    Attributes:
        kind: "cosine" falls to `final_share`; "step" is multiplied with `factor` at each milestone; "plateau" is, when
            `patience` validations in a row have brought nothing better; "constant" stays.
        warmup_steps: until the full rate; 0 for none.
        milestones: shares of all steps, for "step". The published ones are 0.67 and 0.89.
        factor: what a milestone or a plateau multiplies with.
        patience: validations without a better result, for "plateau".
        final_share: where "cosine" ends, and what "plateau" does not go below.
        decay_follows: for "step": the weight decay is multiplied with `factor`, too, at this share of each milestone;
            0 for a constant weight decay. Published for GLIP-L: 0.667.
    """

    kind: Literal["cosine", "step", "plateau", "constant"] = "cosine"
    warmup_steps: NonNegativeInt = 100
    milestones: tuple[float, ...] = (0.67, 0.89)
    factor: float = Field(default=0.1, gt=0, lt=1)
    patience: NonNegativeInt = 3
    final_share: float = Field(default=0.1, ge=0, le=1)
    decay_follows: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _check_decay(self) -> Self:
        if self.decay_follows and self.kind != "step":
            raise ValueError(f"decay_follows needs milestones, which kind: {self.kind} has not; leave it out")
        return self


class Schedule:
    """The learning rate's share at each step.

    Args:
        config: its course.
        steps: of the whole run.
    """

    def __init__(self, config: ScheduleConfig, steps: int) -> None:
        self.config = config
        self.steps = steps
        self.best: float | None = None
        self.worse_in_a_row = 0
        self.plateau_share = 1.0

    def share(self, step: int) -> float:
        """Share of the full rate at a step, counted from 0."""
        warmup = self.config.warmup_steps
        if step < warmup:
            return (step + 1) / warmup
        match self.config.kind:
            case "cosine":
                done = (step - warmup) / max(self.steps - warmup, 1)
                return self.config.final_share + (1 - self.config.final_share) * (1 + math.cos(math.pi * done)) / 2
            case "step":
                passed = sum(step >= int(share * self.steps) for share in self.config.milestones)
                return self.config.factor**passed
            case "plateau":
                return self.plateau_share
            case "constant":
                return 1.0

    def decay_share(self, step: int) -> float:
        """Share of the full weight decay at a step, counted from 0."""
        if self.config.kind != "step" or not self.config.decay_follows:
            return 1.0
        milestones = (self.config.decay_follows * int(share * self.steps) for share in self.config.milestones)
        return self.config.factor ** sum(step >= milestone for milestone in milestones)

    def saw(self, result: float) -> None:
        """Take note of a validation's result; more is better."""
        if self.best is None or result > self.best:
            self.best, self.worse_in_a_row = result, 0
            return
        self.worse_in_a_row += 1
        if self.worse_in_a_row > self.config.patience:
            self.plateau_share = max(self.plateau_share * self.config.factor, self.config.final_share)
            self.worse_in_a_row = 0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"best": self.best, "worse_in_a_row": self.worse_in_a_row, "plateau_share": self.plateau_share}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.best, self.worse_in_a_row = state["best"], state["worse_in_a_row"]
        self.plateau_share = state["plateau_share"]


def parameter_groups(parameters: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig) -> list[dict[str, Any]]:
    """AdamW's groups, one for each pair of rate and decay.

    Args:
        parameters: names and parameters of a `GlipModel`; frozen ones are left out.
        config: rates and decays.
    """
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in parameters:
        if parameter.requires_grad:
            groups.setdefault(_rate_and_decay(name, parameter.ndim, config), []).append(parameter)
    return [
        {"params": members, "base_lr": rate, "lr": rate, "base_decay": decay, "weight_decay": decay}
        for (rate, decay), members in groups.items()
    ]


def _rate_and_decay(name: str, ndim: int, config: OptimizerConfig) -> tuple[float, float]:
    rate = config.learning_rate
    if name.startswith("text_encoder."):
        rate = config.text_learning_rate or rate
    elif name.startswith("backbone."):
        rate *= config.backbone_factor
    if "bias" in name:
        return rate * config.bias_factor, 0.0
    return rate, config.weight_decay if ndim > 1 or config.decay_vectors else 0.0
