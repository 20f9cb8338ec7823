"""Contrastive training of a `ClipModel`: a batch is one loss, however many parts it is encoded in."""

from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor

from glip.contrastive.cached import cached_backward
from glip.data.class_folders import read_class_folders
from glip.data.pair_dataset import PairBatch, PairCollate, PairDataset
from glip.engine.clip_config import ClipTrainConfig
from glip.engine.clip_evaluation import zero_shot_accuracy
from glip.engine.clip_sources import clip_starting_point, read_pair_sources
from glip.engine.loading import load_batches
from glip.engine.run import Losses, TrainingRun
from glip.errors import ConfigError
from glip.models.clip import ClipModel
from glip.structures.output import ClipOutput
from glip.zero_shot import ZeroShotClassifier


class ClipTrainer(TrainingRun[ClipTrainConfig, ClipModel, PairBatch]):
    """Trains a `ClipModel` on pairs (`TrainingRun`).

    Args:
        config: the experiment.
    """

    def __init__(self, config: ClipTrainConfig) -> None:
        super().__init__(config)
        model, self.processor = clip_starting_point(config)
        if config.loss.kind == "sigmoid" and model.logit_bias is None:
            raise ConfigError("loss.kind sigmoid needs a network with a bias: network.initial_bias=-10.0")
        self.loss = config.loss.build()
        self._begin(model, has_unused=True)  # a pyramid's finer maps are made, but only the coarsest is pooled

    def export(self, folder: Path) -> None:
        """Write the averaged weights, config, tokenizer and processor as `ZeroShotClassifier.from_pretrained` reads."""
        if self.accelerator.is_main_process:
            with self.average.swapped_in(self.model):
                self.model.save_pretrained(folder)
            self.processor.save_pretrained(folder)
        self.accelerator.wait_for_everyone()

    def _train_step(self, parts: list[PairBatch]) -> Losses:
        losses = super()._train_step(parts)
        self.model.clamp_scale()
        return losses

    def _backward(self, parts: list[PairBatch]) -> Losses:
        """Gradients of the whole batch's loss; in parts, each is encoded twice."""
        loss = self._loss_of(parts)
        if not loss.isfinite():
            self._refuse(parts, f"the loss is {loss.item()}")
        return {"loss": loss}

    def _loss_of(self, parts: list[PairBatch]) -> Tensor:
        groups = None
        if not self.config.loss.same_caption_is_negative:
            groups = torch.cat([part.groups for part in parts]).to(self.accelerator.device)
        if len(parts) > 1:
            return cached_backward(
                self._encode,
                parts,
                lambda output: self.loss(output, groups),
                during=lambda is_last: self._without_sync(is_last=is_last),
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

    def _batches(self) -> Iterator[PairBatch]:
        pairs, weights = read_pair_sources(self.config.sources)
        image_processor = self.processor.image_processor
        sampler = self._sampler(weights, [False] * len(pairs), (image_processor.image_size,))  # all become squares
        dataset = PairDataset(pairs, image_processor=image_processor, crop=self.config.crop)
        return load_batches(dataset, sampler, PairCollate(self.processor), workers=self.config.workers)

    def _numbers(self, losses: Losses) -> dict[str, float]:
        return {**super()._numbers(losses), "scale": round(self.model.log_scale.exp().item(), 3)}

    def _measure(self) -> tuple[float, str, dict[str, float]]:
        """One process classifies; all hear of it."""
        validation = self.config.validation
        assert validation is not None
        told: list[dict[str, float] | None] = [None]
        if self.accelerator.is_main_process:
            classifier = ZeroShotClassifier(self.model, self.processor)
            numbers = zero_shot_accuracy(classifier, read_class_folders(validation.classes), validation.templates)
            told = [{name: numbers[name] for name in ("top1", "top5")}]
        if self.accelerator.num_processes > 1:
            broadcast_object_list(told)
        assert told[0] is not None
        return told[0]["top1"], f"dev top-1 {told[0]['top1']:.3f}, top-5 {told[0]['top5']:.3f}", told[0]
