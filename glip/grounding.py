"""Words and pictures to boxes: class lists, sentences, expressions (GLIP, section 3.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar, cast, overload

import torch

from glip.detection.calibration import Calibrator
from glip.detection.postprocess import PostProcessor, apply_threshold
from glip.errors import ConfigError, PromptError
from glip.images import ImageInput
from glip.models.glip import GlipModel
from glip.processing import GlipProcessor, as_list
from glip.searching import Finish, Search
from glip.structures.detections import Detections
from glip.structures.prompt import Prompt, Span
from glip.text.prompts import Affix, prompt_from_caption, prompt_from_expression
from glip.vocabulary import Vocabulary, VocabularyCache, compile_vocabulary

Result = TypeVar("Result")
Threshold = float | Mapping[str, float] | None
"""Lowest score shown: one number, or one for each phrase by its text (phrases not named: 0); None for the model's."""


class Grounder:
    """Finds what words name in pictures.

    Args:
        model: the network.
        processor: how its pictures and words are prepared.
        rules: thresholds and suppression; None for the processor's.
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
        self.rules = rules or processor.post_processor()
        self.batch_size = batch_size
        self.calibrator = calibrator
        self.vocabularies = VocabularyCache()

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
        found = self._search().vocabulary(as_list(images), self._vocabulary(labels, chunk_size, affixes))
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
        captions = one_each(caption, len(pictures))
        prompts = [prompt_from_caption(text, phrases) for text in captions]
        return self._answer(images, self._search().prompts(pictures, prompts), threshold)

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

        Every token of it counts alike, whatever the rules say of phrases (`PostProcessor.for_expressions`). Where the
        rules say so (`contrast`), sides, sizes and colours are weighed against their opposites; scores of such an
        expression cannot be compared with those of `ground`.

        Args:
            images: one picture, or a list.
            expression: a few words; for a list of pictures one for all, or one each.

        Returns:
            For each picture the best box, whatever its score; none only if nothing at all was found.
        """
        pictures = as_list(images)
        texts = one_each(expression, len(pictures))
        search = self._search(rules=self.rules.for_expressions())
        found = search.expressions(pictures, [prompt_from_expression(text) for text in texts])
        return self._answer(images, [best[:1] for best in found], 0.0)

    def find(
        self,
        images: Sequence[ImageInput],
        prompts: Sequence[Prompt],
        *,
        truncate: bool = False,
        expressions: bool = False,
    ) -> list[Detections]:
        """Find each picture's own prompt; what `ground` and `refer` are made of.

        Args:
            images: pictures.
            prompts: one for each.
            truncate: whether a caption that is too long is cut, as the published evaluation does: phrases beyond the
                limit find nothing. Else it is an error.
            expressions: whether each prompt is an expression, to be looked for as `refer` does.

        Returns:
            One `Detections` a picture with all scores, best first.

        Raises:
            ShapeError: there is not one prompt for each picture.
            PromptError: a caption is too long.
            ImageError: a picture cannot be read.
        """
        search = self._search(rules=self.rules.for_expressions() if expressions else None)
        ask = search.expressions if expressions else search.prompts
        return [self._calibrate(found) for found in ask(images, prompts, truncate=truncate)]

    def _search(self, finish: Finish | None = None, *, rules: PostProcessor | None = None) -> Search:
        return Search(self.model, self.processor, rules or self.rules, self.batch_size, finish)

    def _vocabulary(
        self, labels: Sequence[str] | Vocabulary, chunk_size: int | None, affixes: Sequence[Affix] | None
    ) -> Vocabulary:
        if not isinstance(labels, Vocabulary):
            labels = self.vocabularies(labels, self.model, self.processor, chunk_size=chunk_size, affixes=affixes)
        elif chunk_size is not None or affixes is not None:
            raise PromptError("chunk_size and affixes are settled when a vocabulary is compiled; give them there")
        if labels.features.shape[2] != self.model.text_encoder.dim:
            raise PromptError("this vocabulary was compiled by another model; compile it by this one")
        return labels

    @property
    def default_threshold(self) -> float:
        """Lowest score shown unless the caller says otherwise; with a calibrator, what the model's own comes to."""
        threshold: float = self.processor.threshold
        return threshold if self.calibrator is None else self.calibrator(torch.tensor(threshold)).item()

    def _calibrate(self, found: Detections) -> Detections:
        return found if self.calibrator is None else replace(found, scores=self.calibrator(found.scores))

    def _shown(self, found: Detections, threshold: Threshold) -> Detections:
        """With probabilities for scores, without what is below the threshold."""
        return self._above(self._calibrate(found), threshold)

    def _above(self, found: Detections, threshold: Threshold) -> Detections:
        return apply_threshold(found, self.default_threshold if threshold is None else threshold)

    def _shown_of_chunk(self, found: Detections, threshold: Threshold) -> Detections:
        """As `_shown`, where a threshold for each name may speak of names in other chunks of the class list."""
        if isinstance(threshold, Mapping):
            threshold = {name: share for name, share in threshold.items() if name in found.phrases}
        return self._shown(found, threshold)

    def _answer(
        self, images: ImageInput | Sequence[ImageInput], found: list[Detections], threshold: Threshold
    ) -> Detections | list[Detections]:
        return one_or_all(images, [self._shown(detections, threshold) for detections in found])


def one_each(text: str | Sequence[str], count: int) -> list[str]:
    """A text for each picture; what is no text at all is left for the prompt to refuse."""
    return list(text) if isinstance(text, list | tuple) else [cast(str, text)] * count


def one_or_all(images: ImageInput | Sequence[ImageInput], results: list[Result]) -> Result | list[Result]:
    """The only result where one picture was given, all of them where a list was."""
    is_many = isinstance(images, list | tuple) or (isinstance(images, torch.Tensor) and images.ndim == 4)
    return results if is_many or len(results) != 1 else results[0]
