"""Images and texts to a `ClipModel`'s tensors, in transformers' manner."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, BatchFeature, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor

from glip.clip_configuration import ClipConfig, ResNetClipConfig, VitClipConfig
from glip.errors import CheckpointError, ConfigError, PromptError, ShapeError
from glip.images import ImageInput, read_image
from glip.processing import IMAGENET_MEAN, IMAGENET_STD, as_list, normalized

SIZE_DIVISORS = (32, 14)  # the backbones' coarsest stride; the patches of the largest published towers
PUBLISHED_TOKENS = 77
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # RGB, of values in [0, 1]; of all published CLIPs
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class ClipImageProcessor(BaseImageProcessor):
    """Makes square pictures: the shorter side resized (Pillow, bicubic), the middle cut out, normalised.

    Args:
        image_size: side of the square, in pixels; a multiple of 32, or of 14 for towers of such patches.
        image_mean: of RGB values in [0, 1]; GLIP's own, so that both networks see the same numbers.
        image_std: of RGB values in [0, 1].
    """

    model_input_names = ["pixel_values"]

    def __init__(
        self,
        image_size: int = 224,
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if image_size < 1 or all(image_size % divisor for divisor in SIZE_DIVISORS):
            raise ConfigError(f"image_size must be a multiple of 32 pixels (or of 14), got {image_size}")
        self.image_size = image_size
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)

    def __call__(  # type: ignore[override]  # more kinds of picture than the base class, fewer options
        self, images: ImageInput | Sequence[ImageInput], **_: Any
    ) -> BatchFeature:
        """Turn pictures into a batch.

        Args:
            images: one or more; see `glip.images.ImageInput`.

        Returns:
            `pixel_values` `(B, 3, S, S)` normalised RGB.

        Raises:
            ShapeError: there is no picture.
            ImageError: one cannot be read.
        """
        squares = [self.to_tensor(self.middle(read_image(image))) for image in as_list(images)]
        if not squares:
            raise ShapeError("a batch needs at least one image, got none")
        return BatchFeature({"pixel_values": torch.stack(squares)})

    preprocess = __call__

    def middle(self, picture: Image.Image) -> Image.Image:
        """The middle square of the picture, after its shorter side became `image_size`; the longer is rounded down."""
        width, height = (max(self.image_size * side // min(picture.size), 1) for side in picture.size)
        resized = picture.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - self.image_size) // 2, (height - self.image_size) // 2
        return resized.crop((left, top, left + self.image_size, top + self.image_size))

    def resize(self, picture: Image.Image, square: tuple[float, float, float, float]) -> Image.Image:
        """A square of a picture, xyxy pixels, resized to `image_size`."""
        size = (self.image_size, self.image_size)
        return picture.resize(size, Image.Resampling.BICUBIC, box=square)

    def to_tensor(self, picture: Image.Image) -> Tensor:
        """An RGB picture as `(3, H, W)` normalised."""
        return normalized(np.asarray(picture), self.image_mean, self.image_std)


class ClipProcessor(ProcessorMixin):
    """Image processor and tokenizer in one.

    Args:
        image_processor: for pixels.
        tokenizer: a fast BERT tokenizer.
        max_tokens: longest text, CLS and SEP included; longer ones are cut.
    """

    image_processor: ClipImageProcessor

    def __init__(self, image_processor: ClipImageProcessor, tokenizer: Any, max_tokens: int = 77) -> None:
        super().__init__(image_processor, tokenizer)
        self.max_tokens = max_tokens

    @classmethod
    def from_published(cls, path: str | Path) -> Self:
        """The processor of a CLIP that transformers saved: its size, mean, deviation and tokenizer.

        Args:
            path: the folder with `preprocessor_config.json` (or `processor_config.json`) and the tokenizer's files.

        Raises:
            CheckpointError: these are missing or broken.
        """
        settings = _published_settings(Path(path))
        crop = settings.get("crop_size", 224)
        tokenizer = AutoTokenizer.from_pretrained(path)
        image_processor = ClipImageProcessor(
            crop["height"] if isinstance(crop, dict) else crop,
            image_mean=settings.get("image_mean", CLIP_MEAN),
            image_std=settings.get("image_std", CLIP_STD),
        )
        return cls(image_processor, tokenizer, max_tokens=min(tokenizer.model_max_length, PUBLISHED_TOKENS))

    def __call__(self, images: ImageInput | Sequence[ImageInput], text: str | Sequence[str], **_: Any) -> BatchFeature:
        """Turn pictures and texts into the model's arguments.

        Args:
            images: one or more.
            text: one or more; not necessarily as many.

        Returns:
            `pixel_values`, `input_ids` `(B, L)` and `attention_mask` `(B, L)`.
        """
        features = self.image_processor(images)
        features["input_ids"], features["attention_mask"] = self.tokenize([text] if isinstance(text, str) else text)
        return features

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Texts to `input_ids` `(B, L)` int64 and `attention_mask` `(B, L)` bool, padded to the longest.

        Raises:
            PromptError: there is no text, or an empty one.
        """
        if isinstance(texts, str) or not texts:
            raise PromptError(f"texts must be a list of at least one text, got {texts!r}")
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise PromptError(f"a text must have words, got {text!r}")
        encoded = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        return encoded["input_ids"], encoded["attention_mask"].bool()


def _published_settings(folder: Path) -> dict[str, Any]:
    """What the folder says of pictures."""
    for name, part in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        if (folder / name).is_file():
            try:
                content = json.loads((folder / name).read_text(encoding="utf-8"))
            except ValueError as error:
                raise CheckpointError(f"{folder / name}: not valid JSON; is the file cut short?") from error
            settings: dict[str, Any] = content if part is None else content.get(part, {})
            return settings
    raise CheckpointError(f"{folder}: no preprocessor_config.json; save the CLIP's processor there")


for _config in (ClipConfig, ResNetClipConfig, VitClipConfig):
    AutoImageProcessor.register(
        _config, image_processor_classes={"pil": ClipImageProcessor, "torchvision": ClipImageProcessor}
    )
    AutoProcessor.register(_config, ClipProcessor)
