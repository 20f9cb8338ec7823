"""Training a `GlipModel` on boxes and words."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from glip.configuration import VARIANTS, complete_heads
from glip.data.dataset import Batch, Collate, GroundingDataset, Packing
from glip.data.tasks import TaskRule
from glip.detection.losses import GlipCriterion
from glip.engine.clip_sources import load_towers
from glip.engine.config import TrainConfig
from glip.engine.head_losses import HeadCriterion
from glip.engine.loading import load_batches
from glip.engine.parallel import whole
from glip.engine.run import Losses, TrainingRun
from glip.engine.sources import read_sources
from glip.engine.tuning import merged, prepare_tuning
from glip.engine.validation import measure
from glip.errors import ConfigError
from glip.models.clip import copy_towers
from glip.models.glip import GlipModel
from glip.predictor import Predictor, published_processor
from glip.processing import GlipProcessor
from glip.weights.folder import find_model_folder


class Trainer(TrainingRun[TrainConfig, GlipModel, Batch]):
    """Trains a model on a mixture of annotated pictures (`TrainingRun`).

    Args:
        config: the experiment.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        if config.sharded and (config.validation is not None or config.tuning.mode == "lora"):
            raise ConfigError(
                "sharded: validation and tuning.mode=lora need whole weights; leave them out, or drop sharded"
            )
        model, self.processor = starting_point(config)
        self.tuned = prepare_tuning(model, config.tuning)
        self.criterion = GlipCriterion(weights=config.losses, reduce_mean=self._mean_of_processes)
        heads = self.tuned.model.config.heads
        self.head_criterion = HeadCriterion(heads, weights=config.head_losses, reduce_mean=self._mean_of_processes)
        self._begin(self.tuned.model, sharded=config.sharded)

    def export(self, folder: Path) -> None:
        """Write the averaged weights, config, tokenizer and processor as `GlipModel.from_pretrained` reads them."""
        with self.average.swapped_in(self.model):
            state = whole(self.model.state_dict())
            if self.accelerator.is_main_process:
                plain = merged(self.model)
                plain.save_pretrained(folder, state_dict=state if plain is self.model else None)
                self.processor.save_pretrained(folder)
        self.accelerator.wait_for_everyone()

    def _to_training(self) -> None:
        self.tuned.train()

    def _backward(self, parts: list[Batch]) -> Losses:
        sums: Losses = {}
        for index, part in enumerate(parts):
            with self._without_sync(is_last=index == len(parts) - 1):
                losses = self._losses(part)
                self.scaler.scale(torch.stack(list(losses.values())).sum() / len(parts)).backward()
            sums = {name: sums.get(name, 0) + loss.detach() / len(parts) for name, loss in losses.items()}
        return sums

    def _losses(self, batch: Batch) -> Losses:
        device = self.accelerator.device
        targets = [target.to(device) for target in batch.targets]
        truth = None if batch.truth is None else batch.truth.to(device)
        questions = None if truth is None else self.head_criterion.ask(targets, truth)
        with self.accelerator.autocast():
            output = self.called(
                batch.pixel_values.to(device),
                batch.input_ids.to(device),
                batch.attention_mask.to(device),
                batch.image_sizes.to(device),
                tasks=None if questions is None else questions.inputs,
            )
        losses: Losses
        if truth is None or questions is None:
            losses = self.criterion(output, targets)
        else:
            assigned = self.criterion.assign(output, targets)
            losses = self.criterion(output, targets, assigned)
            losses |= self.head_criterion(output, targets, truth, questions, assigned)
        total = torch.stack(list(losses.values())).sum()
        if not total.isfinite():
            self._refuse([batch], f"the loss is {total.item()}")
        return losses

    def _batches(self) -> Iterator[Batch]:
        examples, weights = read_sources(self.config.sources, self.config.few_shot)
        are_wide = [example.size[0] > example.size[1] for example in examples]
        sampler = self._sampler(weights, are_wide, self.config.augmentation.short_sides)
        image_processor = self.processor.image_processor
        tasks = TaskRule.of_heads(self.model.config.heads)
        dataset = GroundingDataset(
            examples,
            image_processor=image_processor,
            captions=self.config.captions,
            augmentation=self.config.augmentation,
            packing=Packing(self.config.packing, self.processor.tokenizer) if self.config.packing.captions else None,
            masks=tasks.masks,
        )
        collate = Collate(self.processor.tokenizer, image_processor, tasks if self.model.config.heads else None)
        return load_batches(dataset, sampler, collate, workers=self.config.workers)

    def _measure(self) -> tuple[float, str, dict[str, float]]:
        assert self.config.validation is not None
        numbers = measure(Predictor(self.model, self.processor), self.config.validation, self.accelerator)
        text = f"dev AP {numbers['AP']:.3f}, AP50 {numbers['AP50']:.3f}"
        return numbers[self.config.validation.metric], text, numbers


def starting_point(config: TrainConfig) -> tuple[GlipModel, GlipProcessor]:
    """The network and the processor that a run starts from.

    Raises:
        CheckpointError: the start is no model folder, or the towers do not fit.
        ConfigError: a head is impossible, or the start has it with other numbers.
    """
    model, processor = _whole_start(config)
    if config.towers is not None:
        copy_towers(load_towers(config.towers), model)
    return _with_heads(model, config.heads), processor


def _with_heads(model: GlipModel, heads: dict[str, dict[str, Any]]) -> GlipModel:
    for name, numbers in complete_heads("heads", heads).items():
        if model.config.heads.get(name, numbers) != numbers:
            raise ConfigError(f"heads.{name}: the start has this head with other numbers; leave it out here")
    new = {name: numbers for name, numbers in heads.items() if name not in model.config.heads}
    return model.with_heads(new) if new else model


def _whole_start(config: TrainConfig) -> tuple[GlipModel, GlipProcessor]:
    if config.new_model is not None:
        return GlipModel(VARIANTS[config.new_model]()), published_processor()
    assert config.start is not None
    start = find_model_folder(config.start)
    processor: GlipProcessor = GlipProcessor.from_pretrained(start)
    return GlipModel.from_pretrained(start), processor
