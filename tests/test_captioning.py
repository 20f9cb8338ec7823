"""`Predictor.caption`: a picture in, a sentence out; a list in, a list out."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from glip.errors import ConfigError, ImageError
from glip.images import read_image
from glip.models.glip import GlipModel
from glip.models.heads.decoding import DecodingRule
from glip.predictor import Predictor
from tests.reference.tiny_predictor import HEADS, tiny_predictor


@pytest.fixture(scope="module")
def headed(tokenizer: PreTrainedTokenizerBase) -> Predictor:
    """A tiny network with a captioning head."""
    return tiny_predictor(tokenizer)


@pytest.fixture(scope="module")
def cat(photos: Path) -> Image.Image:
    return read_image(photos / "chelsea.jpg")


def test_one_picture_gives_a_sentence_and_a_list_gives_a_list(headed: Predictor, cat: Image.Image) -> None:
    one = headed.caption(cat)
    assert isinstance(one, str)
    assert headed.caption([cat]) == [one]
    assert headed.caption([cat, cat]) == [one, one]
    assert headed.caption([]) == []


def test_pictures_of_a_batch_are_described_in_the_callers_order(
    headed: Predictor, cat: Image.Image, tokenizer: PreTrainedTokenizerBase
) -> None:
    pictures = [cat, cat.transpose(Image.Transpose.ROTATE_90), Image.new("RGB", cat.size, "red")]  # 2 go with 0
    together = tiny_predictor(tokenizer, batch_size=2).caption(pictures, beams=1)
    assert len(together) == 3
    assert together == [tiny_predictor(tokenizer).caption(picture, beams=1) for picture in pictures]


def test_the_sentence_is_what_the_head_says_in_words(
    headed: Predictor, cat: Image.Image, monkeypatch: pytest.MonkeyPatch, tokenizer: PreTrainedTokenizerBase
) -> None:
    asked: list[DecodingRule] = []

    def describe(_self: GlipModel, pixels: Tensor, _sizes: Tensor, *, rule: DecodingRule) -> list[Tensor]:
        asked.append(rule)
        return [torch.tensor(tokenizer.encode("a striped cat", add_special_tokens=False))] * len(pixels)

    monkeypatch.setattr(GlipModel, "describe", describe)
    assert headed.caption(cat, beams=3) == "a striped cat"
    (rule,) = asked
    assert (rule.beams, rule.start, rule.end) == (3, 101, 102)
    assert sorted(rule.banned) == [0, 100, 101, 103]  # PAD, UNK, CLS, MASK


def test_a_network_without_the_head_says_so(tokenizer: PreTrainedTokenizerBase, cat: Image.Image) -> None:
    with pytest.raises(ConfigError, match="this model has no captioning head; load one that has, or add one with"):
        tiny_predictor(tokenizer, heads={"vqa": HEADS["vqa"]}).caption(cat)


def test_no_beam_and_no_picture_are_refused(headed: Predictor, cat: Image.Image) -> None:
    with pytest.raises(ConfigError, match="beams must be at least 1"):
        headed.caption(cat, beams=0)
    with pytest.raises(ImageError, match="an image must be a path"):
        headed.caption(None)  # type: ignore[call-overload]
