"""A class list is packed and read once; what it finds is what the names themselves find."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glip.errors import PromptError
from glip.predictor import Predictor
from glip.vocabulary import VocabularyCache, compile_vocabulary

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


@pytest.fixture
def cache(predictor: Predictor) -> VocabularyCache:
    return VocabularyCache(predictor.model, predictor.processor, size=2)


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
def test_names_that_are_read_otherwise_are_read_anew(
    cache: VocabularyCache, readings: list[int], other: dict[str, Any]
) -> None:
    cache(CATS)
    cache(**{"labels": CATS, **other})
    assert len(readings) == 2


def test_only_the_last_lists_are_kept(cache: VocabularyCache, readings: list[int]) -> None:
    for labels in (["a"], ["b"], ["a"], ["c"], ["a"], ["b"]):
        cache(labels)
    assert len(readings) == 4  # a, b, c, and b again, which a's second use had let go


def test_changed_weights_read_anew(predictor: Predictor, cache: VocabularyCache, readings: list[int]) -> None:
    before = cache(CATS)
    weight = next(predictor.model.text_encoder.parameters())
    try:
        with torch.no_grad():
            weight.mul_(1.5)
        after = cache(CATS)
    finally:
        with torch.no_grad():
            weight.div_(1.5)
    assert len(readings) == 2
    assert not torch.allclose(before.features, after.features)


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
    for compile_list in (predictor.compile_vocabulary, predictor.vocabularies):
        with pytest.raises(PromptError, match=message):
            compile_list(labels)


def test_what_is_settled_at_compiling_is_not_asked_again(predictor: Predictor, photos: Path) -> None:
    vocabulary = compile_vocabulary(CATS, predictor.model, predictor.processor)
    with pytest.raises(PromptError, match="settled when a vocabulary is compiled"):
        predictor.detect(photos / "chelsea.jpg", vocabulary, chunk_size=1)
