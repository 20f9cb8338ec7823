"""Images and words to tensors, and outputs to detections, in transformers' manner.

The pair of `GlipModel`: code written for Grounding DINO in transformers runs with another model name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoProcessor, BatchFeature, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor

from glip.configuration import GlipConfig
from glip.detection.postprocess import PostProcessor
from glip.errors import ConfigError, PromptError, ShapeError
from glip.images import ImageInput, read_image
from glip.structures.detections import Detections
from glip.structures.output import GlipOutput
from glip.structures.prompt import Phrase, Prompt
from glip.text.prompts import prompt_from_labels
from glip.text.tokens import MAX_TOKENS, tokenize_prompts

IMAGENET_MEAN = (0.406, 0.456, 0.485)[::-1]  # RGB, of values in [0, 1]
IMAGENET_STD = (0.225, 0.224, 0.229)[::-1]
FULL_STOP = "."

ResultDict = dict[str, Any]


class GlipImageProcessor(BaseImageProcessor):
    """Resizes as the published code does (Pillow, bilinear, antialiased), normalises and pads.

    Args:
        short_side: wanted length of the shorter side, in pixels.
        max_side: most pixels of the longer side; the shorter side gives way.
        size_divisor: a batch is padded on the right and bottom to a multiple of this.
        image_mean: of RGB values in [0, 1].
        image_std: of RGB values in [0, 1].
    """

    model_input_names = ["pixel_values", "image_sizes"]

    def __init__(
        self,
        short_side: int = 800,
        max_side: int = 1333,
        size_divisor: int = 32,
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.short_side = short_side
        self.max_side = max_side
        self.size_divisor = size_divisor
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)

    def __call__(  # type: ignore[override]  # more kinds of picture than the base class, fewer options
        self, images: ImageInput | Sequence[ImageInput], **_: Any
    ) -> BatchFeature:
        """Turn pictures into a batch.

        Args:
            images: one or more; see `glip.images.ImageInput`.

        Returns:
            `pixel_values` `(B, 3, H, W)` normalised RGB and `image_sizes` `(B, 2)` (height, width) without padding.
        """
        values = [
            self.normalize_array(np.asarray(read_image(image)), short_side=self.short_side, max_side=self.max_side)
            for image in as_list(images)
        ]
        pixel_values, image_sizes = self.pad_batch(values)
        return BatchFeature({"pixel_values": pixel_values, "image_sizes": image_sizes})

    preprocess = __call__

    def normalize_array(self, pixels: npt.NDArray[np.uint8], *, short_side: int, max_side: int) -> Tensor:
        """Resize and normalise one `(H, W, 3)` RGB picture to `(3, h, w)`."""
        height, width = resized_size(pixels.shape[0], pixels.shape[1], short_side=short_side, max_side=max_side)
        if (height, width) != pixels.shape[:2]:
            resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
            pixels = np.asarray(resized)
        return normalized(pixels, self.image_mean, self.image_std)

    def pad_batch(self, images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Stack `(3, h, w)` pictures, zeros on the right and bottom: `(B, 3, H, W)` and true sizes `(B, 2)`."""
        if not images:
            raise ShapeError("a batch needs at least one image, got none")
        sizes = torch.tensor([image.shape[1:] for image in images], dtype=torch.int64).view(-1, 2)
        divisor = self.size_divisor
        height, width = (-(-int(side) // divisor) * divisor for side in sizes.amax(dim=0))
        batch = torch.zeros(len(images), 3, height, width)
        for row, image in zip(batch, images, strict=True):
            row[:, : image.shape[1], : image.shape[2]] = image
        return batch, sizes

    def post_process_object_detection(
        self, outputs: Mapping[str, Any], threshold: float = 0.1, target_sizes: Tensor | None = None
    ) -> list[ResultDict]:
        """What transformers' pipeline asks for: the whole caption is the one thing that is looked for."""
        output = GlipOutput(**{name: outputs[name] for name in GlipOutput.__dataclass_fields__ if name in outputs})
        return [
            _as_dict(found)
            for found in _decode(output, _whole_captions(output), threshold, target_sizes, PostProcessor())
        ]


def normalized(pixels: npt.NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """An `(H, W, 3)` RGB picture as `(3, H, W)`: values in [0, 1], less the mean of each colour, by its deviation."""
    scaled = torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 255
    means, deviations = (torch.tensor(numbers).view(3, 1, 1) for numbers in (mean, std))
    return (scaled - means) / deviations


class GlipProcessor(ProcessorMixin):
    """Image processor and tokenizer in one.

    Args:
        image_processor: for pixels.
        tokenizer: a fast BERT tokenizer.
        max_tokens: longest caption, CLS and SEP included.
        threshold: lowest score that a prediction shows unless the caller says otherwise.
        rules: what the model's scores become detections by, as `PostProcessor` calls them; what is left out is as
            published.

    Raises:
        ConfigError: a rule is unknown or impossible.
    """

    image_processor: GlipImageProcessor

    def __init__(
        self,
        image_processor: GlipImageProcessor,
        tokenizer: Any,
        max_tokens: int = MAX_TOKENS,
        threshold: float = 0.5,
        rules: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(image_processor, tokenizer)
        self.max_tokens = max_tokens
        self.threshold = threshold
        if not isinstance(rules, Mapping | None):
            raise ConfigError(f"GlipProcessor.rules must be rules by name, got {rules!r}")
        self.rules = dict(rules or {})
        self.post_processor()

    def post_processor(self, **changes: Any) -> PostProcessor:
        """The model's rules, with some changed.

        Raises:
            ConfigError: a rule is unknown or impossible.
        """
        rules = self.rules | changes
        unknown = sorted(rules.keys() - {field.name for field in fields(PostProcessor)})
        if unknown:
            raise ConfigError(
                f"GlipProcessor.rules: unknown rule {unknown[0]!r}; there are "
                + ", ".join(field.name for field in fields(PostProcessor))
            )
        return PostProcessor(**rules)

    def __call__(
        self,
        images: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str] | Sequence[Sequence[str]],
        **_: Any,
    ) -> BatchFeature:
        """Turn pictures and words into the model's arguments.

        Args:
            images: one or more.
            text: for one image a list of labels or a caption like "a cat. a dog."; for more, a list of either; a
                single list of labels or caption serves all images.

        Returns:
            `pixel_values`, `image_sizes`, `input_ids` `(B, L)` and `attention_mask` `(B, L)`.
        """
        features = self.image_processor(images)
        prompts = _prompts_of_text(text, len(features["pixel_values"]))
        words = tokenize_prompts(prompts, self.tokenizer, max_tokens=self.max_tokens)
        features["input_ids"] = words.input_ids
        features["attention_mask"] = words.attention_mask
        return features

    def post_process_grounded_object_detection(
        self,
        outputs: GlipOutput,
        input_ids: Tensor | None = None,
        threshold: float = 0.25,
        text_threshold: float = 0.05,
        target_sizes: Tensor | Sequence[tuple[int, int]] | None = None,
        text_labels: Sequence[Sequence[str]] | None = None,
    ) -> list[ResultDict]:
        """Turn outputs into boxes with labels.

        Args:
            outputs: of the model.
            input_ids: `(B, L)`; None for those in `outputs`.
            threshold: lowest final score.
            text_threshold: lowest score of a phrase before centerness.
            target_sizes: (height, width) of the original images; None for the network's own pixels.
            text_labels: of each image the labels that the caption was made of; None to take what stands between
                full stops.

        Returns:
            For each image `boxes` `(N, 4)` xyxy pixels, `scores` `(N,)`, `labels` `(N,)` indices into the image's
            labels, and `text_labels`, the labels' own words.
        """
        if input_ids is not None:
            outputs = GlipOutput(**{**outputs, "input_ids": input_ids})
        if text_labels is None:
            named = [self._phrases_between_stops(ids) for ids in outputs.input_ids]
        else:
            if len(text_labels) != len(outputs.input_ids):
                raise ShapeError(
                    f"each image needs its text_labels, got {len(text_labels)} for {len(outputs.input_ids)} images"
                )
            named = [
                self._phrases_of_labels(labels, ids) for labels, ids in zip(text_labels, outputs.input_ids, strict=True)
            ]
        rules = self.post_processor(candidate_threshold=text_threshold)
        return [_as_dict(found) for found in _decode(outputs, named, threshold, target_sizes, rules)]

    def _phrases_of_labels(self, labels: Sequence[str], input_ids: Tensor) -> tuple[Prompt, Tensor]:
        prompt = prompt_from_labels(labels)
        words = tokenize_prompts([prompt], self.tokenizer, max_tokens=self.max_tokens)
        token_map = words.token_maps[0]
        if self._content(words.input_ids[0]) != self._content(input_ids):
            raise PromptError(f"text_labels {list(labels)} are not the labels that the outputs were computed for")
        return prompt, torch.nn.functional.pad(token_map, (0, len(input_ids) - token_map.shape[1]))

    def _special_ids(self) -> set[int]:
        """Of CLS, SEP, PAD and MASK; a word that the vocabulary lacks is a word."""
        return set(self.tokenizer.all_special_ids) - {self.tokenizer.unk_token_id}

    def _content(self, input_ids: Tensor) -> list[int]:
        """The tokens without special ones, and without a full stop at the end."""
        special = self._special_ids()
        ids = [token for token in input_ids.tolist() if token not in special]
        stop = self.tokenizer.convert_tokens_to_ids(FULL_STOP)
        return ids[:-1] if ids[-1:] == [stop] else ids

    def _phrases_between_stops(self, input_ids: Tensor) -> tuple[Prompt, Tensor]:
        """The caption's phrases by its full stops, read off the tokens themselves."""
        borders = self._special_ids() | {self.tokenizer.convert_tokens_to_ids(FULL_STOP)}
        runs: list[list[int]] = [[]]
        for position, token in enumerate(input_ids.tolist()):
            if token in borders:
                runs.append([])
            else:
                runs[-1].append(position)
        runs = [run for run in runs if run]
        texts = [self.tokenizer.decode(input_ids[run]) for run in runs]
        token_map = torch.zeros(len(runs), len(input_ids), dtype=torch.bool)
        for row, run in enumerate(runs):
            token_map[row, run] = True
        return _listing(texts), token_map


def as_list(images: ImageInput | Sequence[ImageInput]) -> list[ImageInput]:
    """One picture, or several, as a list; a `(B, ...)` array of pictures is several."""
    if isinstance(images, np.ndarray | torch.Tensor):
        return [cast(ImageInput, image) for image in images] if images.ndim == 4 else [images]
    return list(images) if isinstance(images, list | tuple) else [cast(ImageInput, images)]


def resized_size(height: int, width: int, *, short_side: int, max_side: int) -> tuple[int, int]:
    """The published resize rule.

    The shorter side becomes `short_side`, or less where the longer one would exceed `max_side`; the longer one keeps
    the aspect ratio, rounded down.

    Returns:
        `(height, width)` in pixels, each at least 1.
    """
    short, long = min(height, width), max(height, width)
    if long / short * short_side > max_side:
        short_side = max(round(max_side * short / long), 1)
    if short == short_side:
        return height, width
    long_side = int(short_side * long / short)
    return (short_side, long_side) if height <= width else (long_side, short_side)


def _prompts_of_text(text: str | Sequence[str] | Sequence[Sequence[str]], count: int) -> list[Prompt]:
    if isinstance(text, str):
        return [_prompt_of_one(text)] * count
    if not text:
        raise PromptError("text must be labels or a caption, got an empty list")
    if any(not isinstance(part, str) or FULL_STOP in part for part in text):
        prompts = [_prompt_of_one(part) for part in text]
    else:
        prompts = [prompt_from_labels(cast(Sequence[str], text))] * count
    if len(prompts) != count:
        raise ShapeError(f"each image needs its text, got {len(prompts)} for {count} images")
    return prompts


def _prompt_of_one(text: str | Sequence[str]) -> Prompt:
    if not isinstance(text, str):
        return prompt_from_labels(text)
    return prompt_from_labels([part.strip() for part in text.split(FULL_STOP) if part.strip()])


def _whole_captions(output: GlipOutput) -> list[tuple[Prompt, Tensor]]:
    """For each image, all tokens but CLS, SEP and padding as one phrase."""
    named = []
    for mask in output.attention_mask:
        token_map = mask.clone().unsqueeze(0).cpu()
        token_map[0, 0] = False
        token_map[0, int(mask.sum()) - 1] = False
        named.append((_listing(["caption"]), token_map))
    return named


def _listing(texts: Sequence[str]) -> Prompt:
    """A prompt of phrases whose places in a caption nobody will ask for."""
    return Prompt("", tuple(Phrase(text, (), label) for label, text in enumerate(texts)))


def _decode(
    output: GlipOutput,
    named: Sequence[tuple[Prompt, Tensor]],
    threshold: float,
    target_sizes: Tensor | Sequence[tuple[int, int]] | None,
    rules: PostProcessor,
) -> list[Detections]:
    sizes = output.image_sizes if target_sizes is None else target_sizes
    original = [(int(size[0]), int(size[1])) for size in sizes]
    if len(original) != len(named):
        raise ShapeError(f"each image needs its target size, got {len(original)} for {len(named)} images")
    prompts, token_maps = zip(*named, strict=True)
    return rules(output, prompts, token_maps, original, threshold=threshold)


def _as_dict(found: Detections) -> ResultDict:
    return {
        "boxes": found.boxes,
        "scores": found.scores,
        "labels": found.labels,
        "text_labels": found.text_labels,
    }


AutoImageProcessor.register(
    GlipConfig, image_processor_classes={"pil": GlipImageProcessor, "torchvision": GlipImageProcessor}
)
AutoProcessor.register(GlipConfig, GlipProcessor)
