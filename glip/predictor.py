"""The friendly door: pictures and words in, `Detections` out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self, cast, overload

import torch
from PIL import Image
from torch import Tensor

from glip.detection.calibration import Calibrator
from glip.detection.nms import suppress
from glip.detection.postprocess import PostProcessor, apply_threshold
from glip.devices import checked_device
from glip.errors import CheckpointError, ConfigError, PromptError, ShapeError
from glip.images import ImageInput, read_in_batches
from glip.models.glip import GlipModel
from glip.processing import GlipImageProcessor, GlipProcessor, as_list
from glip.structures.detections import Detections
from glip.structures.prompt import Prompt, Span, phrase_texts
from glip.text.prompts import Affix, prompt_from_caption, prompt_from_expression
from glip.text.tokens import TokenizedPrompts, tokenize_prompts
from glip.vocabulary import Vocabulary, VocabularyCache, captions_per_pass, compile_vocabulary
from glip.weights.folder import DEFAULT_MODEL, SHIPPED, check_model_folder, check_processor_folder, find_model

ORIGINAL_SUFFIXES = (".pth", ".pt")

Threshold = float | Mapping[str, float] | None
"""Lowest score shown: one number, or one for each phrase by its text (phrases not named: 0); None for the model's."""


class Predictor:
    """Finds what words name in pictures.

    Args:
        model: the network.
        processor: how its pictures and words are prepared.
        rules: thresholds and suppression.
        batch_size: pictures that go through the network together.
        calibrator: turns scores into probabilities of being right; thresholds are then probabilities, too.
    """

    def __init__(
        self,
        model: GlipModel,
        processor: GlipProcessor,
        *,
        rules: PostProcessor | None = None,
        batch_size: int = 1,
        calibrator: Calibrator | None = None,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
        self.model = model.eval()
        self.processor = processor
        self.rules = rules or PostProcessor()
        self.batch_size = batch_size
        self.calibrator = calibrator
        self.vocabularies = VocabularyCache()

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
            rules: thresholds and suppression; None for the published ones.
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
    def detect(  # type: ignore[overload-overlap]  # a path is a sequence, too
        self,
        images: ImageInput,
        labels: Sequence[str] | Vocabulary,
        *,
        threshold: Threshold = None,
        chunk_size: int | None = None,
        affixes: Sequence[Affix] | None = None,
    ) -> Detections: ...
    @overload
    def detect(
        self,
        images: Sequence[ImageInput],
        labels: Sequence[str] | Vocabulary,
        *,
        threshold: Threshold = None,
        chunk_size: int | None = None,
        affixes: Sequence[Affix] | None = None,
    ) -> list[Detections]: ...
    def detect(
        self,
        images: ImageInput | Sequence[ImageInput],
        labels: Sequence[str] | Vocabulary,
        *,
        threshold: Threshold = None,
        chunk_size: int | None = None,
        affixes: Sequence[Affix] | None = None,
    ) -> Detections | list[Detections]:
        """Find all instances of classes.

        Args:
            images: one picture, or a list.
            labels: class names; a list of any length, split into captions where one does not hold it. Or what
                `compile_vocabulary` made of them.
            threshold: lowest score shown.
            chunk_size: most names in a caption; None for as many as fit.
            affixes: (prefix, name, suffix) of each class: a manual prompt, in which only the name is looked for.

        Returns:
            `Detections` of one picture, or a list; `labels` in them index the caller's list.

        Raises:
            PromptError: the labels are empty, or one is.
            ImageError: a picture cannot be read.
        """
        if not isinstance(labels, Vocabulary):
            labels = self.vocabularies(labels, self.model, self.processor, chunk_size=chunk_size, affixes=affixes)
        elif chunk_size is not None or affixes is not None:
            raise PromptError("chunk_size and affixes are settled when a vocabulary is compiled; give them there")
        if labels.features.shape[2] != self.model.text_encoder.dim:
            raise PromptError("this vocabulary was compiled by another model; compile it by this one")
        pictures = as_list(images)
        found = [Detections.empty()] * len(pictures)
        for places, read in read_in_batches(pictures, self.batch_size):
            for place, of_picture in zip(places, self._run_vocabulary(read, labels), strict=True):
                found[place] = of_picture
        return self._answer(images, found, threshold)

    def compile_vocabulary(
        self, labels: Sequence[str], *, chunk_size: int | None = None, affixes: Sequence[Affix] | None = None
    ) -> Vocabulary:
        """Make a class list ready, for `detect` to use with many pictures.

        The last few lists are kept anyway; a compiled one stays for as long as you hold it.

        Args:
            labels: class names, of any number.
            chunk_size: most names in a caption; None for as many as fit.
            affixes: (prefix, name, suffix) of each class, a manual prompt.

        Raises:
            PromptError: the labels are empty, or one is.
        """
        return compile_vocabulary(labels, self.model, self.processor, chunk_size=chunk_size, affixes=affixes)

    @overload
    def ground(  # type: ignore[overload-overlap]  # a path is a sequence, too
        self,
        images: ImageInput,
        caption: str,
        phrases: Sequence[str | Span | Sequence[Span]] | None = None,
        *,
        threshold: Threshold = None,
    ) -> Detections: ...
    @overload
    def ground(
        self,
        images: Sequence[ImageInput],
        caption: str | Sequence[str],
        phrases: Sequence[str | Span | Sequence[Span]] | None = None,
        *,
        threshold: Threshold = None,
    ) -> list[Detections]: ...
    def ground(
        self,
        images: ImageInput | Sequence[ImageInput],
        caption: str | Sequence[str],
        phrases: Sequence[str | Span | Sequence[Span]] | None = None,
        *,
        threshold: Threshold = None,
    ) -> Detections | list[Detections]:
        """Find what the phrases of a sentence name.

        Args:
            images: one picture, or a list.
            caption: the sentence; for a list of pictures one for all, or one each.
            phrases: which parts of the sentence to look for: strings, half-open character spans, or several spans;
                None for its noun phrases.
            threshold: lowest score shown.

        Returns:
            `Detections` of one picture, or a list; `labels` in them index the phrases, `spans` say where they stand.

        Raises:
            PromptError: the sentence is empty or too long, or a phrase does not stand in it.
            ImageError: a picture cannot be read.
        """
        pictures = as_list(images)
        captions = _one_each(caption, len(pictures))
        prompts = [prompt_from_caption(text, phrases) for text in captions]
        return self._answer(images, self._run_prompts(pictures, prompts, self.rules), threshold)

    @overload
    def refer(  # type: ignore[overload-overlap]  # a path is a sequence, too
        self, images: ImageInput, expression: str
    ) -> Detections: ...
    @overload
    def refer(self, images: Sequence[ImageInput], expression: str | Sequence[str]) -> list[Detections]: ...
    def refer(
        self, images: ImageInput | Sequence[ImageInput], expression: str | Sequence[str]
    ) -> Detections | list[Detections]:
        """Find the one thing that an expression describes.

        Args:
            images: one picture, or a list.
            expression: a few words; for a list of pictures one for all, or one each.

        Returns:
            For each picture the best box, whatever its score; none only if nothing at all was found.
        """
        pictures = as_list(images)
        texts = _one_each(expression, len(pictures))
        rules = replace(self.rules, candidate_threshold=0.0)  # the best of all, even if none is good
        found = self._run_prompts(pictures, [prompt_from_expression(text) for text in texts], rules)
        return self._answer(images, [best[:1] for best in found], 0.0)

    def find(
        self, images: Sequence[ImageInput], prompts: Sequence[Prompt], *, truncate: bool = False
    ) -> list[Detections]:
        """Find each picture's own prompt; what `ground` and `refer` are made of.

        Args:
            images: pictures.
            prompts: one for each.
            truncate: whether a caption that is too long is cut, as the published evaluation does: phrases beyond the
                limit find nothing. Else it is an error.

        Returns:
            One `Detections` a picture with all scores, best first.

        Raises:
            ShapeError: there is not one prompt for each picture.
            PromptError: a caption is too long.
            ImageError: a picture cannot be read.
        """
        return [self._calibrate(found) for found in self._run_prompts(images, prompts, self.rules, truncate=truncate)]

    def _answer(
        self, images: ImageInput | Sequence[ImageInput], found: list[Detections], threshold: Threshold
    ) -> Detections | list[Detections]:
        limit = self.default_threshold if threshold is None else threshold
        shown = [apply_threshold(self._calibrate(detections), limit) for detections in found]
        return shown if len(shown) != 1 or _is_many(images) else shown[0]

    @property
    def default_threshold(self) -> float:
        """Lowest score shown unless the caller says otherwise; with a calibrator, what the model's own comes to."""
        threshold: float = self.processor.threshold
        return threshold if self.calibrator is None else self.calibrator(torch.tensor(threshold)).item()

    def _calibrate(self, found: Detections) -> Detections:
        return found if self.calibrator is None else replace(found, scores=self.calibrator(found.scores))

    @torch.inference_mode()
    def _run_prompts(
        self,
        pictures: Sequence[ImageInput],
        prompts: Sequence[Prompt],
        rules: PostProcessor,
        *,
        truncate: bool = False,
    ) -> list[Detections]:
        """Each picture with a caption of its own."""
        if len(prompts) != len(pictures):
            raise ShapeError(f"each image needs its caption, got {len(prompts)} for {len(pictures)} images")
        words = tokenize_prompts(
            prompts, self.processor.tokenizer, max_tokens=self.processor.max_tokens, truncate=truncate
        )
        found = [Detections.empty()] * len(pictures)
        for places, read in read_in_batches(pictures, self.batch_size):
            levels, sizes, originals = self._encode(read)
            mine = [prompts[place] for place in places]
            answers = self._decode(levels, sizes, originals, mine, words.rows(places), rules)
            for place, answer in zip(places, answers, strict=True):
                found[place] = answer
        return found

    @torch.inference_mode()
    def _run_vocabulary(self, pictures: Sequence[Image.Image], vocabulary: Vocabulary) -> list[Detections]:
        """Each picture with all captions of a class list; pictures are encoded once."""
        levels, sizes, originals = self._encode(pictures)
        if len(vocabulary.prompts) == 1:
            each = vocabulary.repeated(len(pictures))
            return self._decode(levels, sizes, originals, each.prompts, each.words, self.rules, features=each.features)
        found = []
        step = captions_per_pass(self.model.device)
        for index in range(len(pictures)):
            parts: list[Detections] = []
            for start in range(0, len(vocabulary.prompts), step):
                end = min(start + step, len(vocabulary.prompts))
                chunk = vocabulary.rows(range(start, end))
                count = len(chunk.prompts)
                parts += self._decode(
                    [level[index : index + 1] for level in levels],
                    sizes[index].expand(count, 2),
                    [originals[index]] * count,
                    chunk.prompts,
                    chunk.words,
                    self.rules,
                    features=chunk.features,
                )
            found.append(self._merge(parts, phrase_texts(vocabulary.prompts)))
        return found

    def _encode(self, pictures: Sequence[Image.Image]) -> tuple[list[Tensor], Tensor, list[tuple[int, int]]]:
        """Pyramid, network sizes and original sizes (height, width) of a batch."""
        features = self.processor.image_processor(list(pictures))
        pixel_values = features["pixel_values"].to(self.model.device, self.model.dtype)
        return self.model.encode_image(pixel_values), features["image_sizes"], [(p.height, p.width) for p in pictures]

    def _decode(
        self,
        levels: list[Tensor],
        sizes: Tensor,
        originals: Sequence[tuple[int, int]],
        prompts: Sequence[Prompt],
        words: TokenizedPrompts,
        rules: PostProcessor,
        *,
        features: Tensor | None = None,
    ) -> list[Detections]:
        device = self.model.device
        output = self.model.align(
            levels,
            words.input_ids.to(device),
            words.attention_mask.to(device),
            image_sizes=sizes.to(device),
            words=None if features is None else features.to(device, self.model.dtype),
        )
        return rules(output, prompts, words.token_maps, originals)

    def _merge(self, parts: Sequence[Detections], phrases: tuple[str, ...]) -> Detections:
        """Detections of several chunks of one class list as one, best first."""
        boxes, scores, labels = (torch.cat([getattr(p, name) for p in parts]) for name in ("boxes", "scores", "labels"))
        merged = Detections(boxes, scores, labels, phrases)
        if self.rules.class_agnostic:
            kept = suppress(
                boxes,
                scores,
                labels,
                threshold=self.rules.nms_threshold,
                class_agnostic=True,
                legacy=self.rules.legacy_iou,
            )
            return merged[kept]
        return merged[scores.argsort(descending=True, stable=True)]


def published_processor() -> GlipProcessor:
    """The published models' image sizes, with the BERT vocabulary that the shipped model brings."""
    shipped: GlipProcessor = GlipProcessor.from_pretrained(SHIPPED[DEFAULT_MODEL])
    return GlipProcessor(GlipImageProcessor(), shipped.tokenizer)


def _one_each(text: str | Sequence[str], count: int) -> list[str]:
    """A text for each picture; what is no text at all is left for the prompt to refuse."""
    return list(text) if isinstance(text, list | tuple) else [cast(str, text)] * count


def _is_many(images: ImageInput | Sequence[ImageInput]) -> bool:
    return isinstance(images, list | tuple) or (isinstance(images, torch.Tensor) and images.ndim == 4)
