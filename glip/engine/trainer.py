"""The training loop."""

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glip.configuration import VARIANTS
from glip.data.dataset import Batch, BatchSampler, Collate, GroundingDataset, Packing
from glip.detection.losses import GlipCriterion
from glip.engine.checkpoint import newest_checkpoint, save_checkpoint, write_checkpoint
from glip.engine.clip_sources import load_towers
from glip.engine.config import TrainConfig
from glip.engine.ema import ParameterAverage
from glip.engine.loading import load_batches
from glip.engine.optimizer import Schedule, parameter_groups
from glip.engine.parallel import distribute, fill, make_accelerator, whole
from glip.engine.progress import Progress
from glip.engine.sources import read_sources
from glip.engine.tuning import merged, prepare_tuning
from glip.engine.validation import measure
from glip.errors import CheckpointError, ConfigError, FileError, GlipError
from glip.models.clip import copy_towers
from glip.models.glip import GlipModel
from glip.predictor import Predictor, published_processor
from glip.processing import GlipProcessor
from glip.weights.folder import find_model

logger = logging.getLogger(__name__)

SEED_STRIDE = 1_000_003  # runs of neighbouring seeds share no step
RANK_STRIDE = 7_919  # processes of one step share no dropout
PARTS = ("model", "average", "optimizer", "schedule")
Losses = dict[str, Tensor]


class Trainer:
    """Trains a model on a mixture and leaves the averaged weights in `output/model`.

    With a validation the best weights so far are in `output/best`. Every process of a launch makes its own `Trainer`.

    Args:
        config: the experiment. A run that was interrupted goes on from the newest checkpoint in `output`.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        if config.output.exists() and not config.output.is_dir():
            raise FileError(f"output {config.output}: is a file; give a folder")
        self.accelerator = make_accelerator(config.precision, config.trackers, str(config.output))
        if config.batch_size % (self.accelerator.num_processes * config.accumulate):
            raise ConfigError(
                f"batch_size {config.batch_size} must be a multiple of processes x accumulate "
                f"({self.accelerator.num_processes} x {config.accumulate})"
            )
        if config.sharded and (config.validation is not None or config.tuning.mode == "lora"):
            raise ConfigError(
                "sharded: validation and tuning.mode=lora need whole weights; leave them out, or drop sharded"
            )
        torch.manual_seed(config.seed)  # of new weights
        model, self.processor = starting_point(config)
        self.tuned = prepare_tuning(model, config.tuning)
        self.model = self.tuned.model
        if config.gradient_checkpointing:
            self.model.recompute_activations()
        self.model.to(self.accelerator.device)
        if config.compile:
            self.model.compile(dynamic=True)
        self.called = distribute(self.model, self.accelerator, sharded=config.sharded)
        self.criterion = GlipCriterion(weights=config.losses, reduce_mean=self._mean_of_processes)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.model.named_parameters(), config.optimizer))
        self.schedule = Schedule(config.schedule, config.steps)
        self.average = ParameterAverage(self.model, config.ema_decay)
        self.scaler = torch.amp.GradScaler(self.accelerator.device.type, enabled=config.precision == "fp16")
        self.step = 0
        self.best: float | None = None
        self.worse_in_a_row = 0
        self._resume()
        self.progress = Progress(config.steps, config.batch_size, done=self.step)

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

    def export(self, folder: Path) -> None:
        """Write the averaged weights, config, tokenizer and processor as `GlipModel.from_pretrained` reads them."""
        with self.average.swapped_in(self.model):
            state = whole(self.model.state_dict())
            if self.accelerator.is_main_process:
                plain = merged(self.model)
                plain.save_pretrained(folder, state_dict=state if plain is self.model else None)
                self.processor.save_pretrained(folder)
        self.accelerator.wait_for_everyone()

    def _train_step(self, parts: list[Batch]) -> Losses:
        """One update from this process's share of a batch."""
        torch.manual_seed(  # a step's dropout is the same in a resumed run
            self.config.seed * SEED_STRIDE + self.step + RANK_STRIDE * self.accelerator.process_index
        )
        self.tuned.train()
        share, decay_share = self.schedule.share(self.step), self.schedule.decay_share(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * share
            group["weight_decay"] = group["base_decay"] * decay_share
        self.optimizer.zero_grad(set_to_none=True)
        sums: Losses = {}
        for index, part in enumerate(parts):
            with self._without_sync(is_last=index == len(parts) - 1):
                losses = self._losses(part)
                self.scaler.scale(torch.stack(list(losses.values())).sum() / len(parts)).backward()
            sums = {name: sums.get(name, 0) + loss.detach() / len(parts) for name, loss in losses.items()}
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.clip_norm)
        if not self.scaler.is_enabled() and not whole(norm).isfinite():
            self._refuse(parts, f"the gradient's norm is {whole(norm).item()}")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return {name: self._mean_of_processes(loss) for name, loss in sums.items()}

    def _losses(self, batch: Batch) -> Losses:
        device = self.accelerator.device
        with self.accelerator.autocast():
            output = self.called(
                batch.pixel_values.to(device),
                batch.input_ids.to(device),
                batch.attention_mask.to(device),
                batch.image_sizes.to(device),
            )
        losses: Losses = self.criterion(output, [target.to(device) for target in batch.targets])
        total = torch.stack(list(losses.values())).sum()
        if not total.isfinite():
            self._refuse([batch], f"the loss is {total.item()}")
        return losses

    def _refuse(self, parts: list[Batch], why: str) -> None:
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

    def _batches(self) -> Iterator[Batch]:
        """This process's share of every batch, in `accumulate` parts."""
        examples, weights = read_sources(self.config.sources, self.config.few_shot)
        parts = self.config.accumulate * self.accelerator.num_processes
        sampler = BatchSampler(
            weights,
            [example.size[0] > example.size[1] for example in examples],
            batch_size=self.config.batch_size,
            short_sides=self.config.augmentation.short_sides,
            seed=self.config.seed,
            start=self.step,
            share=(range(self.accelerator.process_index, parts, self.accelerator.num_processes), parts),
        )
        image_processor = self.processor.image_processor
        dataset = GroundingDataset(
            examples,
            image_processor=image_processor,
            captions=self.config.captions,
            augmentation=self.config.augmentation,
            packing=Packing(self.config.packing, self.processor.tokenizer) if self.config.packing.captions else None,
        )
        collate = Collate(self.processor.tokenizer, image_processor)
        return load_batches(dataset, sampler, collate, workers=self.config.workers)

    def _log(self, losses: Losses) -> None:
        named = {name: round(loss.item(), 4) for name, loss in losses.items()}
        rate = self.optimizer.param_groups[0]["lr"]
        speed = self.progress.speed(self.step, self.accelerator.device)
        self.progress.say(losses=named, learning_rate=rate, speed=speed)
        self._note({"step": self.step, **speed, "learning_rate": rate, **named})

    def _note(self, line: dict[str, Any]) -> None:
        if not self.accelerator.is_main_process:
            return
        with (self.config.output / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        if self.config.trackers:
            self.accelerator.log({name: value for name, value in line.items() if name != "step"}, step=self.step)
        logger.info("%s", line)

    def _validate(self) -> None:
        """Measure the averaged weights; keep them if they are the best so far."""
        assert self.config.validation is not None
        with self.average.swapped_in(self.model):
            numbers = measure(Predictor(self.model, self.processor), self.config.validation, self.accelerator)
        result = numbers[self.config.validation.metric]
        self.schedule.saw(result)
        self.progress.note(f"step {self.step}: dev AP {numbers['AP']:.3f}, AP50 {numbers['AP50']:.3f}")
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
        if {name: tensor.shape for name, tensor in content["model"].items()} != {
            n: p.shape for n, p in trained.items()
        }:
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


def starting_point(config: TrainConfig) -> tuple[GlipModel, GlipProcessor]:
    """The network and the processor that a run starts from.

    Raises:
        CheckpointError: the start is no model folder, or the towers do not fit.
    """
    model, processor = _whole_start(config)
    if config.towers is not None:
        copy_towers(load_towers(config.towers), model)
    return model, processor


def _whole_start(config: TrainConfig) -> tuple[GlipModel, GlipProcessor]:
    if config.new_model is not None:
        return GlipModel(VARIANTS[config.new_model]()), published_processor()
    assert config.start is not None
    start = find_model(config.start)
    if not start.is_dir():
        raise CheckpointError(f"start {start}: is a file; give a folder that save_pretrained wrote")
    processor: GlipProcessor = GlipProcessor.from_pretrained(start)
    return GlipModel.from_pretrained(start), processor
