"""What every training run does, whatever it learns: steps, averages, log, validation, checkpoints, going on."""

import contextlib
import json
import logging
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NoReturn, Protocol, TypeVar

import torch
from torch import Tensor

from glip.data.dataset import BatchSampler
from glip.engine.checkpoint import newest_checkpoint, save_checkpoint, write_checkpoint
from glip.engine.config import RunConfig
from glip.engine.ema import ParameterAverage
from glip.engine.memory import return_memory_between_parts
from glip.engine.optimizer import Schedule, parameter_groups
from glip.engine.parallel import distribute, fill, make_accelerator, whole
from glip.engine.progress import Progress
from glip.errors import CheckpointError, ConfigError, FileError, GlipError
from glip.models.strict import StrictModel

logger = logging.getLogger(__name__)

SEED_STRIDE = 1_000_003  # runs of neighbouring seeds share no step
RANK_STRIDE = 7_919  # processes of one step share no dropout
PARTS = ("model", "average", "optimizer", "schedule")
Losses = dict[str, Tensor]


class NamedBatch(Protocol):
    """What is kept of a batch that breaks a run."""

    @property
    def pixel_values(self) -> Tensor:
        """`(B, 3, H, W)`."""

    @property
    def input_ids(self) -> Tensor:
        """`(B, L)`."""

    @property
    def names(self) -> Sequence[str]:
        """The pictures."""


Config = TypeVar("Config", bound=RunConfig)
Model = TypeVar("Model", bound=StrictModel)
Batch = TypeVar("Batch", bound=NamedBatch)


class TrainingRun(ABC, Generic[Config, Model, Batch]):
    """Trains a model and leaves the averaged weights in `output/model`.

    With a validation the best weights so far are in `output/best`. Every process of a launch makes its own run. A
    subclass makes its model, and calls `_begin` with it.

    Args:
        config: the experiment. A run that was interrupted goes on from the newest checkpoint in `output`.
    """

    model: Model

    def __init__(self, config: Config) -> None:
        self.config = config
        if config.output.exists() and not config.output.is_dir():
            raise FileError(f"output {config.output}: is a file; give a folder")
        self.accelerator = make_accelerator(config.precision, config.trackers, str(config.output))
        if config.batch_size % (self.accelerator.num_processes * config.accumulate):
            raise ConfigError(
                f"batch_size {config.batch_size} must be a multiple of processes x accumulate "
                f"({self.accelerator.num_processes} x {config.accumulate})"
            )
        torch.manual_seed(config.seed)  # of new weights

    def _begin(self, model: Model, *, sharded: bool = False, has_unused: bool = False) -> None:
        """Take the model, and go on where an earlier start of the run was."""
        config, self.model = self.config, model
        if config.gradient_checkpointing:
            model.recompute_activations()
            if self.accelerator.device.type == "cpu" and not config.compile:  # a compiled graph has no parts
                return_memory_between_parts(model)
        model.to(self.accelerator.device)
        if config.compile:
            model.compile(dynamic=True)
        self.called = distribute(model, self.accelerator, sharded=sharded, has_unused=has_unused)
        self.optimizer = torch.optim.AdamW(parameter_groups(model.named_parameters(), config.optimizer))
        self.schedule = Schedule(config.schedule, config.steps)
        self.average = ParameterAverage(model, config.ema_decay, start_share=config.start_share)
        self.scaler = torch.amp.GradScaler(self.accelerator.device.type, enabled=config.precision == "fp16")
        self.step = 0
        self.best: float | None = None
        self.worse_in_a_row = 0
        self._resume()
        self.progress = Progress(config.steps, config.batch_size, done=self.step)

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the averaged weights, config, tokenizer and processor."""

    @abstractmethod
    def _batches(self) -> Iterator[Batch]:
        """This process's share of every batch, in `accumulate` parts."""

    @abstractmethod
    def _backward(self, parts: list[Batch]) -> Losses:
        """Put this process's gradients into the parameters; the detached loss terms."""

    @abstractmethod
    def _measure(self) -> tuple[float, str, dict[str, float]]:
        """The number that decides, a line for people, and all numbers; the same in every process."""

    def train(self) -> None:
        """Run until the last step, writing checkpoints and a JSONL log on the way."""
        self.config.output.mkdir(parents=True, exist_ok=True)
        if self.config.trackers:
            self.accelerator.init_trackers("glip")
        batches = self._batches()
        with self.progress.shown(is_main=self.accelerator.is_main_process):
            if self.step:
                self.progress.note(f"going on from step {self.step}")
            while self.step < self.config.steps and not self._is_tired():
                losses = self._train_step([next(batches) for _ in range(self.config.accumulate)])
                self._after_step(losses)
        self.export(self.config.output / "model")
        if self.config.trackers:
            self.accelerator.end_training()

    def _after_step(self, losses: Losses) -> None:
        """Average, log, measure and save, each when its turn has come."""
        self.step += 1
        self.average.update(self.model, self.step)
        self.progress.advance()
        is_last = self.step == self.config.steps
        if self.step % self.config.log_every == 0:
            self._log(losses)
        validation = self.config.validation
        if validation is not None and (self.step % validation.every == 0 or is_last):
            self._validate()
        if self.step % self.config.save_every == 0 or is_last:
            self._save()

    def _train_step(self, parts: list[Batch]) -> Losses:
        """One update from this process's share of a batch."""
        torch.manual_seed(  # a step's dropout is the same in a resumed run
            self.config.seed * SEED_STRIDE + self.step + RANK_STRIDE * self.accelerator.process_index
        )
        self._to_training()
        share, decay_share = self.schedule.share(self.step), self.schedule.decay_share(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * share
            group["weight_decay"] = group["base_decay"] * decay_share
        self.optimizer.zero_grad(set_to_none=True)
        losses = self._backward(parts)
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.clip_norm)
        if not self.scaler.is_enabled() and not whole(norm).isfinite():
            self._refuse(parts, f"the gradient's norm is {whole(norm).item()}")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return {name: self._mean_of_processes(loss) for name, loss in losses.items()}

    def _to_training(self) -> None:
        """Dropout on, where there is any."""
        self.model.train()

    def _refuse(self, parts: list[Batch], why: str) -> NoReturn:
        """Stop before the weights are harmed; the pictures that did it are kept for a look.

        Raises:
            GlipError: always.
        """
        self.config.output.mkdir(parents=True, exist_ok=True)
        path = self.config.output / f"bad-batch-{self.step}-{self.accelerator.process_index}.pt"
        pictures = [name for part in parts for name in part.names]
        tensors = {"pixel_values": parts[0].pixel_values, "input_ids": parts[0].input_ids}
        write_checkpoint(path, {"step": self.step, "pictures": pictures, **tensors})
        raise GlipError(
            f"step {self.step}: {why}; lower the learning rate, or look at the pictures {', '.join(pictures)} "
            f"(the batch is in {path})"
        )

    def _without_sync(self, *, is_last: bool) -> contextlib.AbstractContextManager[None]:
        """DDP exchanges gradients in the last part only."""
        no_sync = getattr(self.called, "no_sync", None)
        return contextlib.nullcontext() if is_last or no_sync is None else no_sync()

    def _mean_of_processes(self, number: Tensor) -> Tensor:
        if self.accelerator.num_processes == 1:
            return number
        reduced: Tensor = self.accelerator.reduce(number.detach().clone(), reduction="mean")
        return reduced

    def _sampler(self, weights: list[float], are_wide: list[bool], short_sides: tuple[int, ...]) -> BatchSampler:
        """Draws this process's share of every batch, from the step that the run is at."""
        parts = self.config.accumulate * self.accelerator.num_processes
        return BatchSampler(
            weights,
            are_wide,
            batch_size=self.config.batch_size,
            short_sides=short_sides,
            seed=self.config.seed,
            start=self.step,
            share=(range(self.accelerator.process_index, parts, self.accelerator.num_processes), parts),
        )

    def _numbers(self, losses: Losses) -> dict[str, float]:
        """What a line of the log says of a step."""
        return {name: round(loss.item(), 4) for name, loss in losses.items()}

    def _log(self, losses: Losses) -> None:
        numbers = self._numbers(losses)
        rate = self.optimizer.param_groups[0]["lr"]
        speed = self.progress.speed(self.step, self.accelerator.device)
        self.progress.say(losses=numbers, learning_rate=rate, speed=speed)
        self._note({"step": self.step, **speed, "learning_rate": rate, **numbers})

    def _note(self, line: Mapping[str, Any]) -> None:
        if not self.accelerator.is_main_process:
            return
        with (self.config.output / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        if self.config.trackers:
            self.accelerator.log({name: value for name, value in line.items() if name != "step"}, step=self.step)
        logger.info("%s", line)

    def _validate(self) -> None:
        """Measure the averaged weights; keep them if they are the best so far."""
        with self.average.swapped_in(self.model):
            result, text, numbers = self._measure()
        self.schedule.saw(result)
        self.progress.note(f"step {self.step}: {text}")
        self._note({"step": self.step, **{f"dev_{name}": round(value, 4) for name, value in numbers.items()}})
        if self.best is not None and result <= self.best:
            self.worse_in_a_row += 1
            return
        self.best, self.worse_in_a_row = result, 0
        beside = self.config.output / "best.partial"
        self.export(beside)
        if self.accelerator.is_main_process:
            shutil.rmtree(self.config.output / "best", ignore_errors=True)
            beside.replace(self.config.output / "best")

    def _is_tired(self) -> bool:
        """Whether validations have brought nothing better for too long."""
        patience = self.config.validation.patience if self.config.validation else None
        return patience is not None and self.worse_in_a_row >= patience

    def _save(self) -> None:
        trained = {name: p.detach() for name, p in self.model.named_parameters() if p.requires_grad}
        content = whole(
            {
                "step": self.step,
                "model": trained,
                "average": self.average.averages,
                "buffers": dict(self.model.named_buffers()),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "schedule": self.schedule.state_dict(),
                "validation": {"best": self.best, "worse_in_a_row": self.worse_in_a_row},
            }
        )
        if self.accelerator.is_main_process:
            save_checkpoint(self.config.output, content, keep=self.config.keep_last)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        found = newest_checkpoint(self.config.output)
        if found is None:
            return
        path, content = found
        missing = {*PARTS} - content.keys()
        if missing:
            raise CheckpointError(f"{path}: lacks {sorted(missing)}; choose another output folder")
        trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        shapes = {name: parameter.shape for name, parameter in trained.items()}
        if {name: tensor.shape for name, tensor in content["model"].items()} != shapes:
            raise CheckpointError(f"{path}: is of another network or other frozen parts; choose another output folder")
        self.step = content["step"]
        for name, parameter in trained.items():
            fill(parameter.data, content["model"][name])
            fill(self.average.averages[name], content["average"][name])
        for name, buffer in self.model.named_buffers():
            buffer.copy_(content["buffers"][name])
        self._resume_optimizer(content["optimizer"])
        if self.scaler.is_enabled() and content.get("scaler"):  # empty in a run of another precision
            self.scaler.load_state_dict(content["scaler"])
        self.schedule.load_state_dict(content["schedule"])
        self.best = content["validation"]["best"]
        self.worse_in_a_row = content["validation"]["worse_in_a_row"]
        logger.info("going on from step %d", self.step)

    def _resume_optimizer(self, state: dict[str, Any]) -> None:
        """Moments of a checkpoint; rates and decays stay those of the config."""
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for index, moments in state["state"].items():
            parameter = parameters[index]
            own: dict[str, Any] = {}
            for name, value in moments.items():
                own[name] = value
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    own[name] = torch.zeros_like(parameter)
                    fill(own[name], value)
            self.optimizer.state[parameter] = own
