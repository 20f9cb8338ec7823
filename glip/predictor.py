"""The friendly door: pictures and words in; `Detections`, masks, sentences and answers out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self, overload

import torch

from glip.answering import Answer, answer_questions
from glip.captioning import write_captions
from glip.detection.calibration import Calibrator
from glip.detection.postprocess import PostProcessor
from glip.devices import checked_device
from glip.errors import CheckpointError, ConfigError
from glip.grounding import Grounder, Threshold, one_each, one_or_all
from glip.images import ImageInput, read_image
from glip.models.glip import GlipModel
from glip.processing import GlipImageProcessor, GlipProcessor, as_list
from glip.segmenting import Segmenter, mask_drawer, with_masks
from glip.structures.detections import Detections
from glip.text.prompts import Affix
from glip.vocabulary import Vocabulary
from glip.weights.folder import DEFAULT_MODEL, SHIPPED, check_model_folder, check_processor_folder, find_model

ORIGINAL_SUFFIXES = (".pth", ".pt")


class Predictor(Grounder):
    """Finds what words name in pictures, and says what heads of GLIPv2 have to say of them.

    Args:
        model: the network.
        processor: how its pictures and words are prepared.
        rules: thresholds and suppression; None for the processor's.
        batch_size: pictures that go through the network together.
        calibrator: turns scores into probabilities of being right; thresholds are then probabilities, too.
    """

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = DEFAULT_MODEL,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        rules: PostProcessor | None = None,
        batch_size: int = 1,
        calibrator: str | Path | None = None,
    ) -> Self:
        """Load a model.

        Args:
            name_or_path: "glip-nano" (shipped), a folder that `save_pretrained` wrote, or a `.pth` file of the
                official code or mmdetection.
            device: where the network runs.
            dtype: of its weights.
            rules: thresholds and suppression; None for the processor's.
            batch_size: pictures that go through the network together.
            calibrator: a file that `glip evaluate calibration` wrote for this model; None for the scores as they are.

        Raises:
            FileError: there is no such model.
            CheckpointError: the weights do not fit.
            ConfigError: the device is not there.
        """
        device = checked_device(device)
        if not dtype.is_floating_point:
            raise ConfigError(f"dtype must be a floating type such as torch.float32 or torch.bfloat16, got {dtype}")
        fitted = None if calibrator is None else Calibrator.load(calibrator)
        path = find_model(name_or_path)
        if path.is_file():
            if path.suffix not in ORIGINAL_SUFFIXES:
                raise CheckpointError(
                    f"{path}: expected a .pth file or a folder, got a {path.suffix or 'nameless'} file"
                )
            model, processor = GlipModel.from_original(path), published_processor()
        else:
            check_model_folder(path)
            check_processor_folder(path)
            model, processor = GlipModel.from_pretrained(path), GlipProcessor.from_pretrained(path)
        model.to(device=device, dtype=dtype)  # type: ignore[call-arg]  # wrapped by transformers
        return cls(model, processor, rules=rules, batch_size=batch_size, calibrator=fitted)

    @overload
    def segment(  # type: ignore[overload-overlap]  # a path is a sequence, too
        self,
        images: ImageInput,
        labels: Sequence[str] | Vocabulary,
        *,
        threshold: Threshold = None,
        chunk_size: int | None = None,
        affixes: Sequence[Affix] | None = None,
        segmenter: Segmenter | None = None,
    ) -> Detections: ...
    @overload
    def segment(
        self,
        images: Sequence[ImageInput],
        labels: Sequence[str] | Vocabulary,
        *,
        threshold: Threshold = None,
        chunk_size: int | None = None,
        affixes: Sequence[Affix] | None = None,
        segmenter: Segmenter | None = None,
    ) -> list[Detections]: ...
    def segment(
        self,
        images: ImageInput | Sequence[ImageInput],
        labels: Sequence[str] | Vocabulary,
        *,
        threshold: Threshold = None,
        chunk_size: int | None = None,
        affixes: Sequence[Affix] | None = None,
        segmenter: Segmenter | None = None,
    ) -> Detections | list[Detections]:
        """Find all instances of classes, and which pixels are theirs.

        Args:
            images: as `detect` takes them.
            labels: as `detect` takes them.
            threshold: lowest score shown.
            chunk_size: most names in a caption; None for as many as fit.
            affixes: (prefix, name, suffix) of each class: a manual prompt.
            segmenter: what makes masks of the boxes, such as `SamSegmenter`; None for the network's own head.

        Returns:
            What `detect` returns, with `masks` `(N, H, W)` bool in pixels of the upright original.

        Raises:
            ConfigError: there is no segmenter, and the network has no mask head.
            PromptError: the labels are empty, or one is.
            ShapeError: the segmenter did not give one mask for each box.
            ImageError: a picture cannot be read.
        """
        pictures = as_list(images)
        vocabulary = self._vocabulary(labels, chunk_size, affixes)
        if segmenter is None:
            drawer = mask_drawer(self.model, lambda found: self._shown_of_chunk(found, threshold))
            shown = self._search(drawer).vocabulary(pictures, vocabulary)
            return one_or_all(images, [self._above(found, threshold) for found in shown])
        found = [self._shown(one, threshold) for one in self._search().vocabulary(pictures, vocabulary)]
        cut = [with_masks(one, read_image(image), segmenter) for one, image in zip(found, pictures, strict=True)]
        return one_or_all(images, cut)

    @overload
    def caption(  # type: ignore[overload-overlap]  # a path is a sequence, too
        self, images: ImageInput, *, beams: int = 4
    ) -> str: ...
    @overload
    def caption(self, images: Sequence[ImageInput], *, beams: int = 4) -> list[str]: ...
    def caption(self, images: ImageInput | Sequence[ImageInput], *, beams: int = 4) -> str | list[str]:
        """Say in a sentence what a picture shows.

        Args:
            images: one picture, or a list.
            beams: sentences kept in mind while the best is looked for; 1 takes the likeliest word each time.

        Returns:
            A sentence, or a list.

        Raises:
            ConfigError: the network has no captioning head, or there is no beam.
            ImageError: a picture cannot be read.
        """
        return one_or_all(images, write_captions(self._search(), as_list(images), beams=beams))

    @overload
    def answer(  # type: ignore[overload-overlap]  # a path is a sequence, too
        self,
        images: ImageInput,
        question: str,
        *,
        top_k: int = 1,
        threshold: float | None = None,
        boxes: bool = True,
    ) -> list[Answer]: ...
    @overload
    def answer(
        self,
        images: Sequence[ImageInput],
        question: str | Sequence[str],
        *,
        top_k: int = 1,
        threshold: float | None = None,
        boxes: bool = True,
    ) -> list[list[Answer]]: ...
    def answer(
        self,
        images: ImageInput | Sequence[ImageInput],
        question: str | Sequence[str],
        *,
        top_k: int = 1,
        threshold: float | None = None,
        boxes: bool = True,
    ) -> list[Answer] | list[list[Answer]]:
        """Answer a question about a picture, and show what the answer speaks of.

        An answer's box is what the detector finds for the answer's words in the sentence "question answer".

        Args:
            images: one picture, or a list.
            question: a few words; for a list of pictures one for all, or one each.
            top_k: answers a question; fewer where the network knows fewer.
            threshold: lowest score of a box; None for the model's own.
            boxes: whether boxes are looked for.

        Returns:
            The answers to one picture's question, best first, or a list of such lists.

        Raises:
            ConfigError: the network has no head for questions, or top_k is below 1.
            PromptError: a question is empty or too long.
            ImageError: a picture cannot be read.
        """
        pictures = as_list(images)
        answers = answer_questions(
            self._search(),
            pictures,
            one_each(question, len(pictures)),
            top_k=top_k,
            choose=(lambda found: self._shown(found, threshold)) if boxes else None,
        )
        return one_or_all(images, answers)


def published_processor() -> GlipProcessor:
    """The published models' image sizes, with the BERT vocabulary that the shipped model brings."""
    shipped: GlipProcessor = GlipProcessor.from_pretrained(SHIPPED[DEFAULT_MODEL])
    return GlipProcessor(GlipImageProcessor(), shipped.tokenizer)
