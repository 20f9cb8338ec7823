"""Zero-shot classification: pictures and class names in, names with probabilities out (CLIP, section 3.1.2).

A class is one vector: the mean of its sentences' features, of norm 1 again. It is computed once and kept.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from glip.clip_configuration import ClipConfig, ResNetClipConfig, VitClipConfig
from glip.clip_processing import ClipProcessor
from glip.devices import checked_device
from glip.errors import ConfigError, PromptError
from glip.images import ImageInput, read_image
from glip.models.clip import ClipModel
from glip.models.clip_resnet import ResNetClipModel
from glip.models.clip_vit import VitClipModel
from glip.models.dual_encoder import DualEncoder
from glip.processing import as_list
from glip.text.templates import fill_templates, templates_of
from glip.weights.folder import check_model_folder, check_processor_folder, find_model_folder, model_kind

MAX_TEXTS = 256  # that go through the text encoder together
PUBLISHED_KIND = "clip"  # what transformers calls it
NETWORKS: dict[str, type[DualEncoder]] = {
    ClipConfig.model_type: ClipModel,
    VitClipConfig.model_type: VitClipModel,
    ResNetClipConfig.model_type: ResNetClipModel,
}
MAX_KEPT = 16  # class lists whose vectors are kept


@dataclass(frozen=True, eq=False)
class Classification:
    """What one picture shows, by probability.

    Attributes:
        names: the caller's classes, in the caller's order.
        scores: `(C,)` float in `[0, 1]`, one for each class; they sum to 1.
    """

    names: tuple[str, ...]
    scores: Tensor

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The most probable classes, best first; fewer where there are fewer classes."""
        best = self.scores.topk(min(count, len(self.names)))
        return [
            (self.names[index], score) for index, score in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]


class ZeroShotClassifier:
    """Classifies pictures by names alone.

    Args:
        model: the network.
        processor: how its pictures and texts are prepared.
        batch_size: pictures that go through the network together.
    """

    def __init__(self, model: DualEncoder, processor: ClipProcessor, *, batch_size: int = 32) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
        self.model = model.eval()
        self.processor = processor
        self.batch_size = batch_size
        self._kept: dict[str, Tensor] = {}

    @classmethod
    def from_pretrained(cls, path: str | Path, *, device: str | torch.device = "cpu", batch_size: int = 32) -> Self:
        """Load a model.

        Args:
            path: a folder with a `ClipModel`, `VitClipModel` or `ResNetClipModel` and a `ClipProcessor` that
                `save_pretrained` wrote, or one with a published CLIP that transformers' `CLIPModel` and
                `CLIPProcessor` wrote.
            device: where the network runs.
            batch_size: pictures that go through the network together.

        Raises:
            FileError: there is no such folder.
            CheckpointError: the weights do not fit.
            ConfigError: the device is not there.
        """
        device = checked_device(device)
        folder = find_model_folder(path)
        model, processor = _load(folder)
        model.to(device)  # type: ignore[arg-type]  # wrapped by transformers
        return cls(model, processor, batch_size=batch_size)

    def classify(
        self, images: ImageInput | Sequence[ImageInput], classes: Sequence[str], templates: int | Sequence[str] = 7
    ) -> list[Classification]:
        """Say which class each picture shows.

        Args:
            images: one picture, or a list.
            classes: names, at least one; results are in their order.
            templates: a set of sentences by its size (0 for the bare name, 1, 7, 80), or own sentences with a `{}`.

        Returns:
            One for each picture.

        Raises:
            PromptError: there is no class, a class has no words, or the templates are none.
            ImageError: a picture cannot be read.
        """
        vectors = self.class_vectors(classes, templates)
        features = self.image_features(as_list(images))
        logits = self.model.log_scale.detach().exp().cpu() * features @ vectors.T  # a bias would change nothing
        return [Classification(tuple(classes), row.softmax(dim=0)) for row in logits]

    @torch.no_grad()
    def class_vectors(self, classes: Sequence[str], templates: int | Sequence[str] = 7) -> Tensor:
        """One vector for each class, `(C, D)` of norm 1, on the CPU; kept for the next call with the same words.

        Raises:
            PromptError: there is no class, a class has no words, or the templates are none.
        """
        sentences = templates_of(templates)
        if isinstance(classes, str) or not classes:
            raise PromptError(f"classes must be a list of at least one name, got {classes!r}; write ['cat', 'dog']")
        texts = [text for name in classes for text in fill_templates(sentences, name)]
        key = hashlib.sha256("\0".join([str(len(sentences)), self._state(), *texts]).encode()).hexdigest()
        if key not in self._kept:
            features = self.text_features(texts).unflatten(0, (len(classes), len(sentences)))
            while len(self._kept) >= MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = F.normalize(features.mean(dim=1), dim=-1)
        return self._kept[key].clone()

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """`(T, D)` of norm 1, on the CPU.

        Raises:
            PromptError: there is no text, or an empty one.
        """
        parts = []
        for start in range(0, max(len(texts), 1), MAX_TEXTS):
            ids, mask = self.processor.tokenize(texts[start : start + MAX_TEXTS])
            parts.append(self.model.encode_texts(ids.to(self.model.device), mask.to(self.model.device)).float().cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def image_features(self, images: Sequence[ImageInput]) -> Tensor:
        """`(B, D)` of norm 1, on the CPU; `(0, D)` for no image.

        Raises:
            ImageError: a picture cannot be read.
        """
        parts = [torch.empty(0, self.model.config.embed_dim)]
        for start in range(0, len(images), self.batch_size):
            batch = [read_image(image) for image in images[start : start + self.batch_size]]
            pixel_values = self.processor.image_processor(batch)["pixel_values"].to(self.model.device, self.model.dtype)
            parts.append(self.model.encode_images(pixel_values).float().cpu())
        return torch.cat(parts)

    def _state(self) -> str:
        """Changes whenever a parameter does: each counts its changes in place."""
        return ",".join(str(parameter._version) for parameter in self.model.parameters())


def _load(folder: Path) -> tuple[DualEncoder, ClipProcessor]:
    kind = model_kind(folder)
    if kind == PUBLISHED_KIND:
        return VitClipModel.from_published(folder), ClipProcessor.from_published(folder)
    known = kind if kind in NETWORKS else ClipConfig.model_type
    check_model_folder(folder, kind=known)
    check_processor_folder(folder)
    processor: ClipProcessor = ClipProcessor.from_pretrained(folder)
    return NETWORKS[known].from_pretrained(folder), processor
