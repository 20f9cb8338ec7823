"""A folder that transformers saved a CLIP to classifies at once, with its own tokenizer and picture size."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import CLIPTokenizer

from glip.clip_processing import ClipProcessor
from glip.errors import CheckpointError
from glip.models.clip_vit import VitClipModel
from glip.zero_shot import ZeroShotClassifier
from tests.weights.test_clip import save_clip

WORDS = ["a", "c", "t", "d", "o", "g"]


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A tiny CLIP with a tokenizer that knows single letters."""
    letters = [*WORDS, *(f"{letter}</w>" for letter in WORDS)]
    vocabulary = {token: number for number, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=12)
    tokenizer.save_pretrained(tmp_path)
    save_clip(tmp_path, end=2, vocab_size=len(vocabulary))
    settings = {"crop_size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    return tmp_path


def test_it_classifies(published: Path) -> None:
    classifier = ZeroShotClassifier.from_pretrained(published)
    (found,) = classifier.classify(Image.new("RGB", (50, 40), "red"), ["cat", "dog"], templates=["a {}"])
    assert found.scores.sum().item() == pytest.approx(1.0)
    assert isinstance(classifier.model, VitClipModel)


def test_its_pictures_and_texts_are_prepared_as_it_says(published: Path) -> None:
    processor = ClipProcessor.from_published(published)
    assert processor.max_tokens == 12
    features = processor(Image.new("RGB", (50, 40), (255, 0, 0)), ["a cat", "dog"])
    torch.testing.assert_close(features["pixel_values"][0, :, 0, 0], torch.tensor([2.0, -2.0, -2.0]))
    start, end = 12, 13
    assert features["input_ids"].tolist() == [[start, 6, 1, 0, 8, end], [start, 3, 4, 11, end, end]]


def test_texts_of_other_lengths_are_not_changed_by_their_padding(published: Path) -> None:
    classifier = ZeroShotClassifier.from_pretrained(published)
    together = classifier.text_features(["a cat", "dog"])
    torch.testing.assert_close(together[1:], classifier.text_features(["dog"]))


def test_it_can_be_saved_as_ours(published: Path, tmp_path: Path) -> None:
    classifier = ZeroShotClassifier.from_pretrained(published)
    classifier.model.save_pretrained(tmp_path / "ours")
    classifier.processor.save_pretrained(tmp_path / "ours")
    loaded = ZeroShotClassifier.from_pretrained(tmp_path / "ours")
    picture = Image.new("RGB", (50, 40), "red")
    torch.testing.assert_close(loaded.image_features([picture]), classifier.image_features([picture]))
    torch.testing.assert_close(loaded.text_features(["a cat"]), classifier.text_features(["a cat"]))


def test_a_folder_without_the_pictures_settings_is_refused(published: Path) -> None:
    (published / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match="no preprocessor_config"):
        ZeroShotClassifier.from_pretrained(published)


def test_settings_that_are_cut_short_are_refused(published: Path) -> None:
    (published / "preprocessor_config.json").write_text('{"crop_size"')
    with pytest.raises(CheckpointError, match="not valid JSON"):
        ZeroShotClassifier.from_pretrained(published)
