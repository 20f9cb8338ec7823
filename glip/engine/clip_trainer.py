"""The contrastive training loop, of the same parts as `glip.engine.trainer`; here a batch is one loss."""

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glip.contrastive.cached import cached_backward
from glip.data.class_folders import read_class_folders
from glip.data.dataset import BatchSampler
from glip.data.pair_dataset import PairBatch, PairCollate, PairDataset
from glip.engine.checkpoint import newest_checkpoint, save_checkpoint
from glip.engine.clip_config import ClipTrainConfig
from glip.engine.clip_evaluation import zero_shot_accuracy
from glip.engine.clip_sources import clip_starting_point, read_pair_sources
from glip.engine.ema import ParameterAverage
from glip.engine.loading import load_batches
from glip.engine.optimizer import Schedule, parameter_groups
from glip.engine.parallel import distribute, make_accelerator
from glip.engine.progress import Progress
from glip.errors import CheckpointError, ConfigError, FileError, GlipError
from glip.structures.output import ClipOutput
from glip.zero_shot import ZeroShotClassifier

logger = logging.getLogger(__name__)

SEED_STRIDE = 1_000_003  # runs of neighbouring seeds share no step
RANK_STRIDE = 7_919  # processes of one step share no dropout
PARTS = ("model", "average", "buffers", "optimizer", "best")


class ClipTrainer:
    """Trains a `ClipModel` on pairs and leaves the averaged weights in `output/model`.

    With a validation the best weights so far are in `output/best`. Every process of a launch makes its own trainer.

    Args:
        config: the experiment. A run that was interrupted goes on from the newest checkpoint in `output`.
    """

    def __init__(self, config: ClipTrainConfig) -> None:
        self.config = config
        if config.output.exists() and not config.output.is_dir():
            raise FileError(f"output {config.output}: is a file; give a folder")
        self.accelerator = make_accelerator(config.precision, (), str(config.output))
        if config.batch_size % (self.accelerator.num_processes * config.accumulate):
            raise ConfigError(
                f"batch_size {config.batch_size} must be a multiple of processes x accumulate "
                f"({self.accelerator.num_processes} x {config.accumulate})"
            )
        torch.manual_seed(config.seed)  # of new weights
        self.model, self.processor = clip_starting_point(config)
        if config.loss.kind == "sigmoid" and self.model.logit_bias is None:
            raise ConfigError("loss.kind sigmoid needs a network with a bias: network.initial_bias=-10.0")
        if config.gradient_checkpointing:
            self.model.recompute_activations()
        self.model.to(self.accelerator.device)
        # a pyramid's finer maps are made, but only the coarsest is pooled
        self.called = distribute(self.model, self.accelerator, sharded=False, has_unused=True)
        self.loss = config.loss.build()
        self.optimizer = torch.optim.AdamW(parameter_groups(self.model.named_parameters(), config.optimizer))
        self.schedule = Schedule(config.schedule, config.steps)
        self.average = ParameterAverage(self.model, config.ema_decay)
        self.step = 0
        self.best: float | None = None
        self._resume()
        self.progress = Progress(config.steps, config.batch_size, done=self.step)

    def train(self) -> None:
        """Run until the last step, writing checkpoints and a JSONL log on the way."""
        self.config.output.mkdir(parents=True, exist_ok=True)
        batches = self._batches()
        with self.progress.shown(is_main=self.accelerator.is_main_process):
            if self.step:
                self.progress.note(f"going on from step {self.step}")
            while self.step < self.config.steps:
                loss = self._train_step([next(batches) for _ in range(self.config.accumulate)])
                self._after_step(loss)
        self.export(self.config.output / "model")

    def export(self, folder: Path) -> None:
        """Write the averaged weights, config, tokenizer and processor as `ZeroShotClassifier.from_pretrained` reads."""
        if self.accelerator.is_main_process:
            with self.average.swapped_in(self.model):
                self.model.save_pretrained(folder)
            self.processor.save_pretrained(folder)
        self.accelerator.wait_for_everyone()

    def _after_step(self, loss: Tensor) -> None:
        """Average, log, measure and save, each when its turn has come."""
        self.step += 1
        self.average.update(self.model, self.step)
        self.progress.advance()
        is_last = self.step == self.config.steps
        if self.step % self.config.log_every == 0:
            self._log(loss)
        validation = self.config.validation
        if validation is not None and (self.step % validation.every == 0 or is_last):
            self._validate()
        if self.step % self.config.save_every == 0 or is_last:
            self._save()

    def _train_step(self, parts: list[PairBatch]) -> Tensor:
        """One update from this process's share of a batch; the loss of the batch."""
        torch.manual_seed(  # a step's dropout is the same in a resumed run
            self.config.seed * SEED_STRIDE + self.step + RANK_STRIDE * self.accelerator.process_index
        )
        self.model.train()
        share, decay_share = self.schedule.share(self.step), self.schedule.decay_share(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * share
            group["weight_decay"] = group["base_decay"] * decay_share
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._backward(parts)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.clip_norm)
        if not norm.isfinite() or not loss.isfinite():
            pictures = ", ".join(name for part in parts for name in part.names[:3])
            raise GlipError(
                f"step {self.step}: the loss is {loss.item()}, the gradient's norm {norm.item()}; lower the learning "
                f"rate, or look at the pictures {pictures}, ..."
            )
        self.optimizer.step()
        self.model.clamp_scale()
        if self.accelerator.num_processes == 1:
            return loss
        mean: Tensor = self.accelerator.reduce(loss, reduction="mean")
        return mean

    def _backward(self, parts: list[PairBatch]) -> Tensor:
        """Gradients of the whole batch's loss; in parts, each is encoded twice."""
        groups = None
        if not self.config.loss.same_caption_is_negative:
            groups = torch.cat([part.groups for part in parts]).to(self.accelerator.device)
        if len(parts) > 1:
            return cached_backward(
                self._encode, parts, lambda output: self.loss(output, groups), during=self._exchange_at_last
            )
        loss = self.loss(self._encode(parts[0]), groups)
        loss.backward()
        return loss.detach()

    def _encode(self, batch: PairBatch) -> ClipOutput:
        device = self.accelerator.device
        with self.accelerator.autocast():
            output: ClipOutput = self.called(
                batch.pixel_values.to(device), batch.input_ids.to(device), batch.attention_mask.to(device)
            )
        return output

    def _exchange_at_last(self, is_last: bool) -> contextlib.AbstractContextManager[None]:
        """DDP exchanges gradients in the last part only."""
        no_sync = getattr(self.called, "no_sync", None)
        return contextlib.nullcontext() if is_last or no_sync is None else no_sync()

    def _batches(self) -> Iterator[PairBatch]:
        """This process's share of every batch, in `accumulate` parts."""
        pairs, weights = read_pair_sources(self.config.sources)
        parts = self.config.accumulate * self.accelerator.num_processes
        sampler = BatchSampler(
            weights,
            [False] * len(pairs),  # all pictures become squares
            batch_size=self.config.batch_size,
            short_sides=(self.processor.image_processor.image_size,),
            seed=self.config.seed,
            start=self.step,
            share=(range(self.accelerator.process_index, parts, self.accelerator.num_processes), parts),
        )
        dataset = PairDataset(pairs, image_processor=self.processor.image_processor, crop=self.config.crop)
        return load_batches(dataset, sampler, PairCollate(self.processor), workers=self.config.workers)

    def _log(self, loss: Tensor) -> None:
        rate = self.optimizer.param_groups[0]["lr"]
        speed = self.progress.speed(self.step, self.accelerator.device)
        self.progress.say(losses={"loss": loss.item()}, learning_rate=rate, speed=speed)
        scale = self.model.log_scale.exp().item()
        self._note(
            {"step": self.step, **speed, "learning_rate": rate, "loss": round(loss.item(), 4), "scale": round(scale, 3)}
        )

    def _note(self, line: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            with (self.config.output / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            logger.info("%s", line)

    def _validate(self) -> None:
        """Measure the averaged weights; keep them if they are the best so far. One process does, the others wait."""
        validation = self.config.validation
        assert validation is not None
        if self.accelerator.is_main_process:
            with self.average.swapped_in(self.model):
                classifier = ZeroShotClassifier(self.model, self.processor)
                numbers = zero_shot_accuracy(classifier, read_class_folders(validation.classes), validation.templates)
                if self.best is None or numbers["top1"] > self.best:
                    self.best = numbers["top1"]
                    self._keep_best()
            self.progress.note(f"step {self.step}: dev top-1 {numbers['top1']:.3f}, top-5 {numbers['top5']:.3f}")
            self._note({"step": self.step, **{f"dev_{name}": round(numbers[name], 4) for name in ("top1", "top5")}})
        self.accelerator.wait_for_everyone()

    def _keep_best(self) -> None:
        beside = self.config.output / "best.partial"
        self.model.save_pretrained(beside)
        self.processor.save_pretrained(beside)
        shutil.rmtree(self.config.output / "best", ignore_errors=True)
        beside.replace(self.config.output / "best")

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            content = {
                "step": self.step,
                "model": {name: p.detach() for name, p in self.model.named_parameters()},
                "average": self.average.averages,
                "buffers": dict(self.model.named_buffers()),
                "optimizer": self.optimizer.state_dict(),
                "best": self.best,
            }
            save_checkpoint(self.config.output, content, keep=self.config.keep_last)
        self.accelerator.wait_for_everyone()

    @torch.no_grad()
    def _resume(self) -> None:
        found = newest_checkpoint(self.config.output)
        if found is None:
            return
        path, content = found
        missing = {*PARTS} - content.keys()
        if missing:
            raise CheckpointError(f"{path}: lacks {sorted(missing)}; choose another output folder")
        parameters = dict(self.model.named_parameters())
        shapes = {name: parameter.shape for name, parameter in parameters.items()}
        if {name: tensor.shape for name, tensor in content["model"].items()} != shapes:
            raise CheckpointError(f"{path}: is of another network; choose another output folder")
        self.step, self.best = content["step"], content["best"]
        for name, parameter in parameters.items():
            parameter.copy_(content["model"][name])
            self.average.averages[name].copy_(content["average"][name])
        for name, buffer in self.model.named_buffers():
            buffer.copy_(content["buffers"][name])
        groups = self.optimizer.state_dict()["param_groups"]  # rates and decays stay those of the config
        self.optimizer.load_state_dict({"state": content["optimizer"]["state"], "param_groups": groups})
        logger.info("going on from step %d", self.step)
