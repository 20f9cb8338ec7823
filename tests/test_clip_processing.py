"""Pictures become squares of one size, texts become tokens; what was saved is the same again."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, PreTrainedTokenizerBase

from glip.clip_processing import ClipImageProcessor, ClipProcessor
from glip.errors import ConfigError, ImageError, PromptError, ShapeError

PLAIN = ClipImageProcessor(32, image_mean=[0.0] * 3, image_std=[1.0] * 3)


@pytest.fixture(scope="module")
def processor(tokenizer: PreTrainedTokenizerBase) -> ClipProcessor:
    return ClipProcessor(PLAIN, tokenizer, max_tokens=6)


@pytest.mark.parametrize(
    ("width", "height"),
    [
        pytest.param(96, 32, id="a lying picture"),
        pytest.param(32, 96, id="an upright picture"),
        pytest.param(64, 64, id="one that is twice as large"),
    ],
)
def test_the_middle_square_is_seen_of(width: int, height: int) -> None:
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    side = min(width, height)
    top, left = (height - side) // 2, (width - side) // 2
    pixels[top : top + side, left : left + side] = 255
    found = PLAIN(pixels)["pixel_values"]
    torch.testing.assert_close(found, torch.ones(1, 3, 32, 32))


def test_values_are_normalised_by_channel() -> None:
    processor = ClipImageProcessor(32, image_mean=[0.5, 0.0, 1.0], image_std=[0.5, 1.0, 2.0])
    found = processor(Image.new("RGB", (40, 40), (255, 0, 255)))["pixel_values"]
    torch.testing.assert_close(found[0, :, 0, 0], torch.tensor([1.0, 0.0, 0.0]))


def test_pictures_of_any_sizes_are_one_batch() -> None:
    pictures = [Image.new("RGB", size) for size in ((1, 1), (50, 70), (300, 20))]
    assert PLAIN(pictures)["pixel_values"].shape == (3, 3, 32, 32)


def test_no_picture_is_refused() -> None:
    with pytest.raises(ShapeError, match="at least one image"):
        PLAIN([])


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ImageError, match="must be a path"):
        PLAIN([3])  # type: ignore[list-item]


@pytest.mark.parametrize("size", [0, 33, -32])
def test_a_size_is_refused_that_is_no_multiple_of_32(size: int) -> None:
    with pytest.raises(ConfigError, match="multiple of 32 pixels"):
        ClipImageProcessor(size)


def test_texts_are_padded_to_the_longest_and_cut_at_the_limit(processor: ClipProcessor) -> None:
    ids, mask = processor.tokenize(["a cat", "a cat on a very soft sofa"])
    assert ids.shape == (2, 6)
    assert mask.sum(dim=1).tolist() == [4, 6]
    assert ids[:, 0].unique().numel() == 1  # CLS


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        pytest.param([], "at least one text", id="no text"),
        pytest.param("a cat", "must be a list", id="a string"),
        pytest.param(["a cat", " "], "must have words", id="an empty text"),
        pytest.param([7], "must have words", id="a number"),
    ],
)
def test_texts_are_refused(processor: ClipProcessor, texts: object, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        processor.tokenize(texts)  # type: ignore[arg-type]


def test_one_call_prepares_both_sides(processor: ClipProcessor) -> None:
    features = processor(Image.new("RGB", (40, 40)), ["a cat", "a dog"])
    assert set(features) == {"pixel_values", "input_ids", "attention_mask"}
    assert features["input_ids"].shape == (2, 4)


def test_a_saved_processor_is_the_same_again(processor: ClipProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    for loaded in (ClipProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert isinstance(loaded, ClipProcessor)
        assert (loaded.max_tokens, loaded.image_processor.image_size) == (6, 32)
        assert loaded.image_processor.image_mean == [0.0] * 3
