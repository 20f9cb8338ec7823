"""A class list is packed and read once; what it finds is what the names themselves find."""

import copy
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glip.errors import PromptError
from glip.models.glip import GlipModel
from glip.predictor import Predictor
from glip.vocabulary import Vocabulary, VocabularyCache, compile_vocabulary

CATS = ["a cat", "its nose", "remote control"]


@pytest.fixture
def readings(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many captions the text encoder has read, each time."""
    counted: list[int] = []
    real = type(predictor.model).encode_words

    def counting(self: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        counted.append(len(input_ids))
        result: Tensor = real(self, input_ids, attention_mask)
        return result

    monkeypatch.setattr(type(predictor.model), "encode_words", counting)
    return counted


class LookUp:
    """A cache of two lists that is asked for one predictor."""

    def __init__(self, predictor: Predictor) -> None:
        self.cache = VocabularyCache(size=2)
        self.predictor = predictor

    def __call__(self, labels: Any, **how: Any) -> Vocabulary:
        """Ask the cache."""
        return self.cache(labels, self.predictor.model, self.predictor.processor, **how)


@pytest.fixture
def cache(predictor: Predictor) -> LookUp:
    return LookUp(predictor)


@pytest.mark.parametrize("chunk_size", [None, 1], ids=["one caption", "three captions"])
def test_a_compiled_list_finds_what_its_names_find(predictor: Predictor, photos: Path, chunk_size: int | None) -> None:
    vocabulary = predictor.compile_vocabulary(CATS, chunk_size=chunk_size)
    assert len(vocabulary) == 3
    assert len(vocabulary.prompts) == (1 if chunk_size is None else 3)
    found = predictor.detect(photos / "chelsea.jpg", vocabulary, threshold=0.1)
    named = predictor.detect(photos / "chelsea.jpg", CATS, threshold=0.1, chunk_size=chunk_size)
    assert len(found) > 0
    torch.testing.assert_close((found.boxes, found.scores), (named.boxes, named.scores))
    assert found.phrases == named.phrases
    assert torch.equal(found.labels, named.labels)


def test_the_same_names_are_read_once(predictor: Predictor, photos: Path, readings: list[int]) -> None:
    predictor.vocabularies.kept.clear()
    for _ in range(2):
        predictor.detect([photos / "chelsea.jpg", photos / "coffee.jpg"], CATS)
    assert readings == [1]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"labels": [*reversed(CATS)]}, id="in another order"),
        pytest.param({"chunk_size": 2}, id="in other captions"),
        pytest.param({"affixes": [("", "cat", ""), ("", "nose", ""), ("one ", "remote", "")]}, id="in a manual prompt"),
    ],
)
def test_names_that_are_read_otherwise_are_read_anew(cache: LookUp, readings: list[int], other: dict[str, Any]) -> None:
    cache(CATS)
    cache(**{"labels": CATS, **other})
    assert len(readings) == 2


def test_a_list_of_another_kind_is_packed_as_asked(cache: LookUp) -> None:
    assert len(cache(deque(CATS), chunk_size=1).prompts) == 3


def test_only_the_last_lists_are_kept(cache: LookUp, readings: list[int]) -> None:
    for labels in (["a"], ["b"], ["a"], ["c"], ["a"], ["b"]):
        cache(labels)
    assert len(readings) == 4  # a, b, c, and b again, which a's second use had let go


def test_changed_weights_read_anew_even_where_torch_does_not_count_the_change(
    predictor: Predictor, cache: LookUp, readings: list[int]
) -> None:
    before = cache(CATS)
    weight = next(predictor.model.text_encoder.parameters())
    try:
        weight.data.mul_(1.5)
        after = cache(CATS)
    finally:
        weight.data.div_(1.5)
    assert len(readings) == 2
    assert not torch.allclose(before.features, after.features)


def test_a_predictors_new_model_and_processor_are_the_ones_that_read(predictor: Predictor, photos: Path) -> None:
    mine = Predictor(predictor.model, predictor.processor)
    mine.detect(photos / "chelsea.jpg", CATS)
    mine.model = copy.deepcopy(predictor.model)
    next(mine.model.text_encoder.parameters()).data.mul_(1.5)
    fresh = Predictor(mine.model, mine.processor).detect(photos / "chelsea.jpg", CATS, threshold=0.0)
    torch.testing.assert_close(mine.detect(photos / "chelsea.jpg", CATS, threshold=0.0).scores, fresh.scores)
    mine.processor = copy.copy(predictor.processor)
    mine.processor.max_tokens = 7
    labels = ["cat", "dog", "cup", "red car"]
    assert len(mine.vocabularies(labels, mine.model, mine.processor).prompts) > 1


def test_a_network_made_in_inference_mode_reads_words(predictor: Predictor) -> None:
    with torch.inference_mode():
        model = GlipModel(predictor.model.config)
    assert VocabularyCache()(CATS, model, predictor.processor).features.shape[0] == 1


def test_a_vocabulary_follows_its_model_to_another_precision(predictor: Predictor, photos: Path) -> None:
    mine = Predictor(copy.deepcopy(predictor.model), predictor.processor)
    vocabulary = mine.compile_vocabulary(CATS)
    mine.model.to(torch.bfloat16)
    assert len(mine.detect(photos / "chelsea.jpg", vocabulary, threshold=0.1)) > 0


def test_another_models_vocabulary_is_refused(predictor: Predictor, photos: Path) -> None:
    vocabulary = predictor.compile_vocabulary(CATS)
    wider = replace(vocabulary, features=torch.zeros(1, vocabulary.features.shape[1], 8))
    with pytest.raises(PromptError, match="compiled by another model"):
        predictor.detect(photos / "chelsea.jpg", wider)


def test_a_caption_that_the_network_cannot_hold_is_refused(predictor: Predictor) -> None:
    processor = copy.copy(predictor.processor)
    processor.max_tokens = 600
    with pytest.raises(PromptError, match="a caption may have 256 tokens"):
        compile_vocabulary(["cat"] * 290, predictor.model, processor)


def test_a_long_list_is_read_a_few_captions_at_a_time(predictor: Predictor, readings: list[int]) -> None:
    vocabulary = predictor.compile_vocabulary([f"cat {number}" for number in range(19)], chunk_size=1)
    assert readings == [8, 8, 3]
    assert len(vocabulary.features) == len(vocabulary.prompts) == 19


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param([], "at least one class", id="no names"),
        pytest.param("cat", "must be a list of class names", id="a word"),
        pytest.param(["cat", 3], "labels must be strings, got 3", id="a number"),
        pytest.param(["cat", " "], "has no words left", id="a blank"),
    ],
)
def test_impossible_lists_are_refused(predictor: Predictor, labels: Sequence[Any], message: str) -> None:
    for compile_list in (predictor.compile_vocabulary, LookUp(predictor)):
        with pytest.raises(PromptError, match=message):
            compile_list(labels)


def test_what_is_settled_at_compiling_is_not_asked_again(predictor: Predictor, photos: Path) -> None:
    vocabulary = compile_vocabulary(CATS, predictor.model, predictor.processor)
    with pytest.raises(PromptError, match="settled when a vocabulary is compiled"):
        predictor.detect(photos / "chelsea.jpg", vocabulary, chunk_size=1)
