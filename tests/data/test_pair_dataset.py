"""Pairs become batches: a square of the picture, a text, and a number that pairs of one caption share."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerBase

from glip.clip_processing import ClipImageProcessor, ClipProcessor
from glip.data.pair_dataset import CropRule, PairCollate, PairDataset, TemplatedPair
from glip.data.pairs import Pair
from glip.errors import ConfigError, PromptError

PLAIN = ClipImageProcessor(32, image_mean=[0.0] * 3, image_std=[1.0] * 3)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Red on the left, blue on the right."""
    halves = Image.new("RGB", (64, 64), "red")
    halves.paste(Image.new("RGB", (32, 64), "blue"), (32, 0))
    path = tmp_path / "a.png"
    halves.save(path)
    return path


def dataset_of(picture: Path, *captions: str, crop: CropRule, templates: tuple[str, ...] = ("{}",)) -> PairDataset:
    pairs = [TemplatedPair(Pair("a.png", picture, caption), templates) for caption in captions]
    return PairDataset(pairs, image_processor=PLAIN, crop=crop)


def test_the_same_seed_gives_the_same_sample(picture: Path) -> None:
    dataset = dataset_of(picture, "halves", crop=CropRule(min_side=0.2, flip=0.5), templates=("a {}", "the {}", "{}"))
    first, again, other = (dataset[0, 32, seed] for seed in (1, 1, 2))
    assert torch.equal(first.pixel_values, again.pixel_values)
    assert first.text == again.text
    assert not torch.equal(first.pixel_values, other.pixel_values)


def test_the_whole_picture_is_seen_where_nothing_may_happen(picture: Path) -> None:
    sample = dataset_of(picture, "halves", crop=CropRule(min_side=1.0))[0, 32, 5]
    torch.testing.assert_close(sample.pixel_values, PLAIN(picture)["pixel_values"][0])


def test_a_flip_changes_the_sides(picture: Path) -> None:
    sample = dataset_of(picture, "halves", crop=CropRule(min_side=1.0, flip=1.0))[0, 32, 5]
    assert sample.pixel_values[:, 16, 0].tolist() == [0.0, 0.0, 1.0]


def test_templates_change_the_text_but_not_the_group(picture: Path) -> None:
    dataset = dataset_of(picture, "halves", crop=CropRule(), templates=("a {}", "the {}"))
    samples = [dataset[0, 32, seed] for seed in range(20)]
    assert {sample.text for sample in samples} == {"a halves", "the halves"}
    assert len({sample.group for sample in samples}) == 1


def test_pairs_of_one_caption_are_one_group_whatever_their_spaces_and_letters(
    picture: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    dataset = dataset_of(picture, "A  cat", "a cat", "a dog", crop=CropRule())
    batch = PairCollate(ClipProcessor(PLAIN, tokenizer))([dataset[index, 32, 0] for index in range(3)])
    first, second, third = batch.groups.tolist()
    assert first == second != third
    assert batch.pixel_values.shape == (3, 3, 32, 32)
    assert batch.input_ids.shape == batch.attention_mask.shape == (3, 4)
    assert batch.names == (str(picture),) * 3


def test_no_sample_is_no_batch(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(PromptError, match="at least one text"):
        PairCollate(ClipProcessor(PLAIN, tokenizer))([])


def test_no_pair_is_an_empty_data_set() -> None:
    assert len(PairDataset([], image_processor=PLAIN, crop=CropRule())) == 0


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        pytest.param({"min_side": 0.0}, "above 0", id="a square of nothing"),
        pytest.param({"min_side": 1.5}, r"crop\.min_side must be in \[0, 1\]", id="a square larger than the picture"),
        pytest.param({"flip": -1.0}, r"crop\.flip must be in \[0, 1\]", id="a negative chance"),
    ],
)
def test_a_crop_is_refused_for(numbers: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CropRule(**numbers)
