"""Pictures and prompts to detections, all scores still there; what `Predictor` is made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn

from glip.detection.contrast import contrast
from glip.detection.nms import suppress
from glip.detection.postprocess import PostProcessor, aggregate_scores
from glip.errors import ConfigError, ShapeError
from glip.images import ImageInput, read_image, read_in_batches
from glip.models.glip import GlipModel
from glip.processing import GlipProcessor
from glip.structures.detections import Detections
from glip.structures.output import GlipOutput
from glip.structures.prompt import Prompt, phrase_texts
from glip.text.opposites import opposite_texts
from glip.text.prompts import prompt_from_expression
from glip.text.tokens import TokenizedPrompts, tokenize_prompts
from glip.vocabulary import Vocabulary, captions_per_pass

HEADS = {  # what each is called, and how it is asked for
    "masks": ("mask", '{"masks": {}}'),
    "captioning": ("captioning", '{"captioning": {}}'),
    "vqa": ("question answering", '{"vqa": {"answers": ["yes", "no"]}}'),
}


@dataclass(frozen=True, eq=False)
class Scene:
    """What the network said of a batch, and what it was asked.

    Attributes:
        output: of B images, with its `features`.
        prompts: one for each.
        token_maps: of each prompt, `(P, L)` bool.
        originals: `(height, width)` of each picture in its own pixels.
    """

    output: GlipOutput
    prompts: tuple[Prompt, ...]
    token_maps: tuple[Tensor, ...]
    originals: tuple[tuple[int, int], ...]


Finish = Callable[[Scene, list[Detections]], list[Detections]]
"""What is added to the detections of a batch while the network's features are at hand."""


@dataclass(frozen=True, eq=False)
class Search:
    """Runs the network.

    Attributes:
        model: the network.
        processor: how its pictures and words are prepared.
        rules: thresholds and suppression.
        batch_size: pictures that go through the network together.
        finish: what is added to each batch's detections; None for nothing.
    """

    model: GlipModel
    processor: GlipProcessor
    rules: PostProcessor
    batch_size: int = 1
    finish: Finish | None = None

    @torch.inference_mode()
    def prompts(
        self, pictures: Sequence[ImageInput], prompts: Sequence[Prompt], *, truncate: bool = False
    ) -> list[Detections]:
        """Each picture with a caption of its own.

        Args:
            pictures: what `read_image` reads.
            prompts: one for each.
            truncate: whether a caption that is too long is cut; else it is an error.

        Raises:
            ShapeError: there is not one prompt for each picture.
            PromptError: a caption is too long.
            ImageError: a picture cannot be read.
        """
        return self._found(pictures, prompts, self._tokens_of_each(pictures, prompts, truncate=truncate))

    def _found(
        self, pictures: Sequence[ImageInput], prompts: Sequence[Prompt], words: TokenizedPrompts
    ) -> list[Detections]:
        found = [Detections.empty()] * len(pictures)
        for places, read in read_in_batches(pictures, self.batch_size):
            levels, sizes, originals = self.encode(read)
            mine = [prompts[place] for place in places]
            answers = self.decode(levels, sizes, originals, mine, words.rows(places))
            for place, answer in zip(places, answers, strict=True):
                found[place] = answer
        return found

    @torch.inference_mode()
    def expressions(
        self, pictures: Sequence[ImageInput], prompts: Sequence[Prompt], *, truncate: bool = False
    ) -> list[Detections]:
        """Each picture with words that all describe one thing; where the rules say so, against their opposites.

        Args:
            pictures: what `read_image` reads.
            prompts: one expression for each; the whole caption is its only phrase.
            truncate: whether an expression that is too long is cut; else it is an error.

        Raises:
            ShapeError: there is not one expression for each picture.
            PromptError: an expression is too long.
            ImageError: a picture cannot be read.
        """
        words = self._tokens_of_each(pictures, prompts, truncate=truncate)
        variants = [_opposites(prompt) if self.rules.contrast else () for prompt in prompts]
        plain = [place for place, groups in enumerate(variants) if not groups]
        if len(plain) == len(prompts):
            return self._found(pictures, prompts, words)
        found = [
            self._weighed(picture, prompt, words.rows([place]), groups) if groups else Detections.empty()
            for place, (picture, prompt, groups) in enumerate(zip(pictures, prompts, variants, strict=True))
        ]
        if plain:
            some = self._found([pictures[p] for p in plain], [prompts[p] for p in plain], words.rows(plain))
            for place, one in zip(plain, some, strict=True):
                found[place] = one
        return found

    def _weighed(
        self, picture: ImageInput, prompt: Prompt, words: TokenizedPrompts, groups: Sequence[Sequence[str]]
    ) -> Detections:
        """One picture's expression against its opposites, without `finish`; those that are too long do not count."""
        levels, sizes, originals = self.encode([read_image(picture)])
        output = self.ask(levels, sizes, words)
        if not words.token_maps[0].any():
            return self.rules(output, [prompt], words.token_maps, originals)[0]
        asked = self._tokens([prompt_from_expression(text) for group in groups for text in group], truncate=True)
        number = torch.arange(len(groups)).repeat_interleave(torch.tensor([len(group) for group in groups]))
        kept = [place for place, token_map in enumerate(asked.token_maps) if token_map.any()]
        scores = self._scores(output, words)
        step = captions_per_pass(self.model.device)
        for start in range(0, len(kept), step):
            rows = asked.rows(kept[start : start + step])
            scores += self._scores(self.ask(levels, sizes.expand(len(rows.token_maps), 2), rows), rows)
        counts = number[kept].unique(return_counts=True)[1].tolist()
        weighed = contrast(torch.stack(scores), counts, self.rules.contrast).sigmoid()
        return self.rules.from_scores(output, weighed[:, None], prompt, originals[0])

    def _scores(self, output: GlipOutput, words: TokenizedPrompts) -> list[Tensor]:
        """Of each caption's only phrase, `(A,)`."""
        return [
            aggregate_scores(logits.float(), token_map, self.rules.aggregation)[:, 0]
            for logits, token_map in zip(output.alignment_logits, words.token_maps, strict=True)
        ]

    def _tokens_of_each(
        self, pictures: Sequence[ImageInput], prompts: Sequence[Prompt], *, truncate: bool
    ) -> TokenizedPrompts:
        if len(prompts) != len(pictures):
            raise ShapeError(f"each image needs its caption, got {len(prompts)} for {len(pictures)} images")
        return self._tokens(prompts, truncate=truncate)

    def _tokens(self, prompts: Sequence[Prompt], *, truncate: bool) -> TokenizedPrompts:
        return tokenize_prompts(
            prompts, self.processor.tokenizer, max_tokens=self.processor.max_tokens, truncate=truncate
        )

    @torch.inference_mode()
    def vocabulary(self, pictures: Sequence[ImageInput], vocabulary: Vocabulary) -> list[Detections]:
        """Each picture with all captions of a class list; pictures are encoded once.

        Args:
            pictures: what `read_image` reads.
            vocabulary: of this model.

        Raises:
            ImageError: a picture cannot be read.
        """
        found = [Detections.empty()] * len(pictures)
        for places, read in read_in_batches(pictures, self.batch_size):
            for place, of_picture in zip(places, self._batch_with_vocabulary(read, vocabulary), strict=True):
                found[place] = of_picture
        return found

    def _batch_with_vocabulary(self, pictures: Sequence[Image.Image], vocabulary: Vocabulary) -> list[Detections]:
        levels, sizes, originals = self.encode(pictures)
        if len(vocabulary.prompts) == 1:
            each = vocabulary.repeated(len(pictures))
            return self.decode(levels, sizes, originals, each.prompts, each.words, features=each.features)
        found = []
        step = captions_per_pass(self.model.device)
        for index in range(len(pictures)):
            parts: list[Detections] = []
            for start in range(0, len(vocabulary.prompts), step):
                end = min(start + step, len(vocabulary.prompts))
                chunk = vocabulary.rows(range(start, end))
                count = len(chunk.prompts)
                parts += self.decode(
                    [level[index : index + 1] for level in levels],
                    sizes[index].expand(count, 2),
                    [originals[index]] * count,
                    chunk.prompts,
                    chunk.words,
                    features=chunk.features,
                )
            found.append(_merge(parts, phrase_texts(vocabulary.prompts), self.rules))
        return found

    def encode(self, pictures: Sequence[Image.Image]) -> tuple[list[Tensor], Tensor, list[tuple[int, int]]]:
        """Pyramid, network sizes `(B, 2)` and original sizes, all (height, width), of a batch."""
        features = self.processor.image_processor(list(pictures))
        pixel_values = features["pixel_values"].to(self.model.device, self.model.dtype)
        sizes = features["image_sizes"]
        return self.model.encode_image(pixel_values, sizes), sizes, [(p.height, p.width) for p in pictures]

    def decode(
        self,
        levels: Sequence[Tensor],
        sizes: Tensor,
        originals: Sequence[tuple[int, int]],
        prompts: Sequence[Prompt],
        words: TokenizedPrompts,
        *,
        features: Tensor | None = None,
    ) -> list[Detections]:
        """What a batch's prompts name in it, best first.

        Args:
            levels: pyramid of B pictures, or of one that is looked at with B prompts.
            sizes: `(B, 2)` (height, width) in the network's pixels.
            originals: likewise in the pictures' own.
            prompts: B of them.
            words: their tokens.
            features: `(B, L, D)`, what the text encoder says of them; None to encode them here.
        """
        output = self.ask(levels, sizes, words, features=features, output_features=self.finish is not None)
        found = self.rules(output, prompts, words.token_maps, originals)
        if self.finish is None:
            return found
        return self.finish(Scene(output, tuple(prompts), words.token_maps, tuple(originals)), found)

    def ask(
        self,
        levels: Sequence[Tensor],
        sizes: Tensor,
        words: TokenizedPrompts,
        *,
        features: Tensor | None = None,
        output_features: bool = False,
    ) -> GlipOutput:
        """What the network says where image and words meet; arguments as `decode` and `GlipModel.align` have them."""
        device = self.model.device
        return self.model.align(
            levels,
            words.input_ids.to(device),
            words.attention_mask.to(device),
            image_sizes=sizes.to(device),
            words=None if features is None else features.to(device, self.model.dtype),
            output_features=output_features,
        )


def _opposites(prompt: Prompt) -> tuple[tuple[str, ...], ...]:
    """Variants of a caption that is one phrase as a whole; none of any other."""
    caption = prompt.caption
    whole = (len(caption) - len(caption.lstrip()), len(caption.rstrip()))
    return opposite_texts(caption) if [phrase.spans for phrase in prompt.phrases] == [(whole,)] else ()


def head_of(model: GlipModel, name: str) -> nn.Module:
    """A head of GLIPv2.

    Raises:
        ConfigError: the model has no such head.
    """
    if name not in model.heads:
        called, numbers = HEADS[name]
        raise ConfigError(
            f"this model has no {called} head; load one that has, or add one with model.with_heads({numbers}) and "
            "train it"
        )
    return model.heads[name]


def _merge(parts: Sequence[Detections], phrases: tuple[str, ...], rules: PostProcessor) -> Detections:
    """Detections of several chunks of one class list as one, best first."""
    boxes, scores, labels = (torch.cat([getattr(p, name) for p in parts]) for name in ("boxes", "scores", "labels"))
    masks = [part.masks for part in parts if part.masks is not None]
    merged = Detections(boxes, scores, labels, phrases, masks=torch.cat(masks) if masks else None)
    if rules.class_agnostic:
        kept = suppress(
            boxes, scores, labels, threshold=rules.nms_threshold, class_agnostic=True, legacy=rules.legacy_iou
        )
        return merged[kept]
    return merged[scores.argsort(descending=True, stable=True)]
