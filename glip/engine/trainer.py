"""The training loop."""

import json
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from glip.data.dataset import Batch, BatchSampler, Collate, GroundingDataset
from glip.data.examples import Example
from glip.data.readers import read_detection_json, read_grounding_json
from glip.detection.losses import GlipCriterion
from glip.engine.checkpoint import read_checkpoint, write_checkpoint
from glip.engine.config import OptimizerConfig, SourceConfig, TrainConfig
from glip.engine.ema import ParameterAverage
from glip.errors import CheckpointError, ConfigError, DataError, FileError, GlipError
from glip.models.glip import GlipModel
from glip.processing import GlipProcessor
from glip.weights.folder import find_model

logger = logging.getLogger(__name__)

FINAL_RATE_SHARE = 0.1
SEED_STRIDE = 1_000_003  # runs of neighbouring seeds share no step
Losses = dict[str, Tensor]


class Trainer:
    """Trains a model on a mixture and leaves the averaged weights in `output/model`.

    Args:
        config: the experiment. A run that was interrupted goes on from `output/checkpoint.pt`.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        if config.output.exists() and not config.output.is_dir():
            raise FileError(f"output {config.output}: is a file; give a folder")
        start = find_model(config.start)
        if not start.is_dir():
            raise CheckpointError(f"start {start}: is a file; give a folder that save_pretrained wrote")
        self.processor: GlipProcessor = GlipProcessor.from_pretrained(start)
        self.model = GlipModel.from_pretrained(start)
        parts = [name for name, _ in self.model.named_modules() if name]
        for name in config.frozen:
            if name not in parts:
                raise ConfigError(f"frozen: the model has no part {name!r}; name one of {_top_level(parts)}, or in it")
            self.model.get_submodule(name).requires_grad_(requires_grad=False)
        self.criterion = GlipCriterion(weights=config.losses)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.model, config.optimizer))
        self.average = ParameterAverage(self.model, config.ema_decay)
        self.step = 0
        self._resume()

    def train(self) -> None:
        """Run until the last step, writing checkpoints and a JSONL log on the way."""
        self.config.output.mkdir(parents=True, exist_ok=True)
        batches = self._batches()
        started, seen = time.monotonic(), self.step
        while self.step < self.config.steps:
            losses = self._train_step(next(batches))
            self.step += 1
            self.average.update(self.model, self.step)
            if self.step % self.config.log_every == 0:
                seconds = (time.monotonic() - started) / (self.step - seen)
                self._log(losses, seconds)
            if self.step % self.config.save_every == 0 or self.step == self.config.steps:
                self._save()
        self.export(self.config.output / "model")

    def export(self, folder: Path) -> None:
        """Write the averaged weights, config, tokenizer and processor as `GlipModel.from_pretrained` reads them."""
        with self.average.swapped_in(self.model):
            self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def _train_step(self, batch: Batch) -> Losses:
        torch.manual_seed(self.config.seed * SEED_STRIDE + self.step)  # a step's dropout is the same in a resumed run
        self.model.train()
        for name in self.config.frozen:
            self.model.get_submodule(name).eval()
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * rate_share(
                self.step, self.config.steps, self.config.optimizer.warmup_steps
            )
        output = self.model(batch.pixel_values, batch.input_ids, batch.attention_mask, batch.image_sizes)
        losses: Losses = self.criterion(output, batch.targets)
        total = torch.stack(list(losses.values())).sum()
        if not total.isfinite():
            raise GlipError(f"step {self.step}: the loss is {total.item()}; lower the learning rate")
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.clip_norm)
        self.optimizer.step()
        return {name: loss.detach() for name, loss in losses.items()}

    def _batches(self) -> Iterator[Batch]:
        examples, weights = read_sources(self.config.sources)
        image_processor = self.processor.image_processor
        sampler = BatchSampler(
            weights,
            [example.size[0] > example.size[1] for example in examples],
            batch_size=self.config.batch_size,
            short_sides=self.config.augmentation.short_sides,
            seed=self.config.seed,
            start=self.step,
        )
        dataset = GroundingDataset(
            examples,
            image_processor=image_processor,
            captions=self.config.captions,
            augmentation=self.config.augmentation,
        )
        loader = DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=Collate(self.processor.tokenizer, image_processor),
            num_workers=self.config.workers,
        )
        return iter(loader)

    def _log(self, losses: Losses, seconds: float) -> None:
        line: dict[str, Any] = {"step": self.step, "seconds_per_step": round(seconds, 3)}
        line |= {name: round(loss.item(), 4) for name, loss in losses.items()}
        with (self.config.output / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        logger.info("%s", line)

    def _save(self) -> None:
        trained = {name: p.detach() for name, p in self.model.named_parameters() if p.requires_grad}
        write_checkpoint(
            self.config.output / "checkpoint.pt",
            {
                "step": self.step,
                "model": trained,
                "average": self.average.averages,
                "buffers": dict(self.model.named_buffers()),
                "optimizer": self.optimizer.state_dict(),
            },
        )

    def _resume(self) -> None:
        content = read_checkpoint(self.config.output / "checkpoint.pt")
        if content is None:
            return
        path = self.config.output / "checkpoint.pt"
        missing = {"model", "average", "optimizer"} - content.keys()
        if missing:
            raise CheckpointError(f"{path}: lacks {sorted(missing)}; choose another output folder")
        trained = {name: p.shape for name, p in self.model.named_parameters() if p.requires_grad}
        if {name: tensor.shape for name, tensor in content["model"].items()} != trained:
            raise CheckpointError(f"{path}: is of another network or other frozen parts; choose another output folder")
        self.step = content["step"]
        self.model.load_state_dict(content["model"] | content.get("buffers", {}), strict=False)
        self.average.averages = content["average"]
        self.optimizer.load_state_dict(content["optimizer"])
        logger.info("going on from step %d", self.step)


def _top_level(parts: list[str]) -> list[str]:
    return [part for part in parts if "." not in part]


def parameter_groups(model: GlipModel, config: OptimizerConfig) -> list[dict[str, Any]]:
    """AdamW's groups: the backbone at its share of the rate, and no decay on biases and norms."""
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("backbone."), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "base_lr": config.learning_rate * (config.backbone_factor if is_backbone else 1),
            "lr": config.learning_rate,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (is_backbone, decays), parameters in groups.items()
    ]


def rate_share(step: int, steps: int, warmup_steps: int) -> float:
    """Share of the full learning rate at a step: linear from zero, then a cosine to `FINAL_RATE_SHARE`."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(steps - warmup_steps, 1)
    return FINAL_RATE_SHARE + (1 - FINAL_RATE_SHARE) * (1 + math.cos(math.pi * done)) / 2


def read_sources(sources: tuple[SourceConfig, ...]) -> tuple[list[Example], list[float]]:
    """All examples of a mixture, and how often each is drawn.

    Raises:
        DataError: a source has no example.
    """
    examples: list[Example] = []
    weights: list[float] = []
    for source in sources:
        read = read_detection_json if source.kind == "detection" else read_grounding_json
        found = read(source.annotations, images=source.images)
        if not found:
            raise DataError(f"{source.annotations}: no images in it; leave this source out")
        examples += found
        weights += [source.weight / len(found)] * len(found)
    return examples, weights
