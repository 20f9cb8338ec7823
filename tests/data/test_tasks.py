"""One batch may hold boxes with masks, sentences, descriptions and questions; each head finds its own truth in it."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerBase

from glip.data.captions import CaptionRule, make_prompt, swap_sides
from glip.data.dataset import Batch, Collate, GroundingDataset
from glip.data.examples import Example, GroundedObject
from glip.data.instance_masks import InstanceMask
from glip.data.readers import read_any, read_detection_json
from glip.data.tasks import TaskRule
from glip.data.transforms import AugmentationRule, augment
from glip.errors import DataError
from glip.processing import GlipImageProcessor
from glip.structures.tasks import IGNORED, TaskTruth
from glip.text.names import name_key, noun_key

NOTHING = AugmentationRule(max_side=999, flip=0.0, crop=0.0, colour=0.0)
MIRROR = replace(NOTHING, flip=1.0)
ALL = TaskRule(masks=True, words=True, description_tokens=6, answers=("red", "two", "left"), names=True)
OUTLINE = [[8, 8, 24, 8, 24, 32, 8, 32]]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "grey.png"
    Image.new("RGB", (64, 40), "grey").save(path)
    return path


def examples(path: Path) -> dict[str, Example]:
    """Of one picture of 40 x 64 pixels."""
    size = (40, 64)
    box = (8.0, 8.0, 24.0, 32.0)
    dog = GroundedObject(box, "dog", mask=InstanceMask(OUTLINE, size))
    return {
        "detection": Example(path, size, (dog,), absent=("red cat",)),
        "sentence": Example(path, size, (GroundedObject(box, "a dog", ((0, 5),)),), caption="a dog on grass"),
        "description": Example(path, size, (), absent=("dog",), description="a dog left of a big red ball"),
        "question": Example(path, size, (), question="what is it?", answers=(("red", 0.6), ("left", 0.3), ("odd", 1))),
    }


def batch_of(chosen: list[Example], tokenizer: PreTrainedTokenizerBase, rule: TaskRule | None = ALL) -> Batch:
    dataset = GroundingDataset(
        chosen,
        image_processor=GlipImageProcessor(),
        captions=CaptionRule(max_names=2, full_share=1.0, article_share=0.0),
        augmentation=NOTHING,
        masks=rule is not None and rule.masks,
    )
    samples = [dataset[index, 40, index] for index in range(len(chosen))]
    return Collate(tokenizer, GlipImageProcessor(), rule)(samples)


@pytest.fixture
def batch(picture: Path, tokenizer: PreTrainedTokenizerBase) -> Batch:
    return batch_of(list(examples(picture).values()), tokenizer)


def truth_of(batch: Batch) -> TaskTruth:
    assert batch.truth is not None
    return batch.truth


def test_only_a_thing_with_a_mask_has_one(batch: Batch) -> None:
    masks = [target.masks for target in batch.targets]
    assert masks[0] is not None
    assert masks[0].shape == (1, 40, 64)
    assert masks[0].nonzero().amin(dim=0).tolist() == [0, 8, 8]
    assert masks[0].sum() == 16 * 24
    assert masks[1:] == [None, None, None]


def test_a_question_teaches_nothing_about_boxes(batch: Batch) -> None:
    assert [target.is_grounded for target in batch.targets] == [True, True, True, False]
    assert len(batch.targets[3]) == 0


def test_a_description_goes_from_start_to_end_and_is_cut(batch: Batch, tokenizer: PreTrainedTokenizerBase) -> None:
    truth = truth_of(batch)
    assert truth.described is not None
    assert truth.descriptions is not None
    assert truth.described.tolist() == [2]
    assert tokenizer.convert_ids_to_tokens(truth.descriptions[0].tolist()) == "[CLS] a dog left of [SEP]".split()


def test_answers_that_are_known_count_as_much_as_people_gave_them(batch: Batch) -> None:
    truth = truth_of(batch)
    assert truth.answers is not None
    assert truth.is_asked is not None
    assert truth.answers.tolist()[:3] == [[0.0] * 3] * 3
    torch.testing.assert_close(truth.answers[3], torch.tensor([0.6, 0.0, 0.3]))
    assert truth.is_asked.tolist() == [False, False, False, True]


def test_tokens_know_what_their_phrase_is_called(batch: Batch, tokenizer: PreTrainedTokenizerBase) -> None:
    truth = truth_of(batch)
    assert truth.token_keys is not None
    assert truth.token_nouns is not None
    for row, (phrase, noun) in {0: ("red cat", "cat"), 1: ("dog", "dog")}.items():
        assert (truth.token_keys[row] == name_key(phrase)).sum() == 2  # two tokens: "red cat", "a dog"
        assert (truth.token_nouns[row] == noun_key(noun)).sum() == 2
    assert not truth.token_keys[3].any()
    assert truth.token_keys[:, 0].tolist() == [0] * 4  # CLS


def hidden_words(example: Example, tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """Every word that is ever asked for, over many seeds."""
    words: set[str] = set()
    collate = Collate(tokenizer, GlipImageProcessor(), TaskRule(words=True))
    dataset = GroundingDataset(
        [example],
        image_processor=GlipImageProcessor(),
        captions=CaptionRule(max_names=2, full_share=1.0, article_share=0.0),
        augmentation=NOTHING,
    )
    for seed in range(150):
        labels = truth_of(collate([dataset[0, 40, seed]])).word_labels
        assert labels is not None
        words |= set(tokenizer.convert_ids_to_tokens(labels[labels != IGNORED].tolist()))
    return words


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("detection", {"dog"}, id="a class list: the names that are there"),
        pytest.param("sentence", {"a", "dog", "on", "grass"}, id="a sentence: all of its words"),
        pytest.param("question", set(), id="a question: none"),
        pytest.param("description", set(), id="an empty picture: none"),
    ],
)
def test_the_words_that_are_asked_for_in(
    name: str, expected: set[str], picture: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    assert hidden_words(examples(picture)[name], tokenizer) == expected


def test_a_network_without_heads_gets_no_truth_and_its_captions_whole(
    picture: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    plain = batch_of(list(examples(picture).values()), tokenizer, rule=None)
    assert plain.truth is None
    assert plain.targets[0].masks is None
    quiet = batch_of(list(examples(picture).values()), tokenizer, replace(ALL, words=False))
    assert torch.equal(plain.input_ids, quiet.input_ids)


def test_a_batch_without_any_truth_is_a_batch(picture: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    truth = truth_of(batch_of([Example(picture, (40, 64), ())], tokenizer))
    assert truth.described is not None
    assert truth.is_asked is not None
    assert len(truth.described) == 0
    assert not truth.is_asked.any()


def test_a_question_is_the_text_that_the_network_reads(picture: Path) -> None:
    prompt, phrases = make_prompt(examples(picture)["question"], CaptionRule(), random.Random(0))
    assert (prompt.caption, prompt.phrases, phrases) == ("what is it?", (), [])


# --- pictures that change ------------------------------------------------------------------------------------------


def test_a_mirror_image_moves_masks_and_sides_of_all_words(picture: Path) -> None:
    told = replace(
        examples(picture)["detection"],
        description="a dog left of a ball",
        question="what is left?",
        answers=(("right", 1.0),),
    )
    _, flipped = augment(np.zeros((40, 64, 3), dtype=np.uint8), told, MIRROR, random.Random(0))
    assert (flipped.description, flipped.question) == ("a dog right of a ball", "what is right?")
    assert flipped.answers == (("left", 1.0),)
    mask = flipped.objects[0].mask
    assert mask is not None
    assert mask.draw((40, 64)).any(dim=0).nonzero().flatten().tolist() == list(range(40, 56))
    assert swap_sides(swap_sides(told)) == told


def test_a_crop_cuts_masks_with_their_boxes(picture: Path) -> None:
    crop = replace(NOTHING, crop=1.0)
    sizes = set()
    for seed in range(20):
        pixels = np.zeros((40, 64, 3), dtype=np.uint8)
        _, cut = augment(pixels, examples(picture)["detection"], crop, random.Random(seed))
        mask = cut.objects[0].mask
        assert mask is not None
        drawn = mask.draw(cut.size).nonzero()
        x1, y1, x2, y2 = cut.objects[0].box
        assert [*drawn.amin(dim=0).tolist(), *(drawn.amax(dim=0) + 1).tolist()] == [y1, x1, y2, x2]
        sizes.add(cut.size)
    assert len(sizes) > 5


@pytest.mark.parametrize("name", ["description", "question"])
def test_words_about_the_whole_picture_keep_it_whole(name: str, picture: Path) -> None:
    pixels = np.full((40, 64, 3), (200, 30, 30), dtype=np.uint8)
    rule = replace(NOTHING, crop=1.0, colour=1.0)
    for seed in range(5):
        found, _ = augment(pixels, examples(picture)[name], rule, random.Random(seed))
        assert np.array_equal(found, pixels)


# --- files -----------------------------------------------------------------------------------------------------------


def write(path: Path, image: dict[str, Any], annotation: dict[str, Any] | None = None) -> Path:
    content = {
        "images": [{"id": 1, "file_name": "grey.png", "width": 64, "height": 40, **image}],
        "annotations": [{"id": 3, "image_id": 1, "category_id": 1, "bbox": [8, 8, 16, 24], **(annotation or {})}],
        "categories": [{"id": 1, "name": "dog"}],
    }
    path.write_text(json.dumps(content))
    return path


def test_a_detection_file_may_have_masks_descriptions_and_questions(picture: Path, tmp_path: Path) -> None:
    told = {"description": "a dog", "question": "what is it?", "answers": {"dog": 0.9, "cat": 0.3}}
    path = write(tmp_path / "told.json", told, {"segmentation": OUTLINE})
    (example,) = read_detection_json(path)
    assert (example.description, example.question) == ("a dog", "what is it")
    assert example.answers == (("dog", 0.9), ("cat", 0.3))
    assert example.objects[0].mask is not None
    assert example.objects[0].mask.draw((40, 64)).sum() == 16 * 24
    assert read_any(path)[0].description == "a dog"


def test_answers_may_be_a_list_of_right_ones(tmp_path: Path) -> None:
    (example,) = read_detection_json(write(tmp_path / "a.json", {"question": "what?", "answers": ["dog", "a dog"]}))
    assert example.answers == (("dog", 1.0), ("a dog", 1.0))


def test_a_file_without_them_has_none(tmp_path: Path) -> None:
    (example,) = read_detection_json(write(tmp_path / "a.json", {}, {"segmentation": []}))
    assert (example.description, example.question, example.answers) == (None, None, ())
    assert example.objects[0].mask is None
    assert not example.is_told


@pytest.mark.parametrize(
    ("image", "message"),
    [
        pytest.param({"description": ""}, "image 1: description must be one or more words, got ''", id="no word"),
        pytest.param({"question": 3}, "image 1: question must be one or more words, got 3", id="a number"),
        pytest.param({"question": "what?"}, "a question needs answers, .* got None", id="no answers"),
        pytest.param({"question": "what?", "answers": {"a": 2}}, r"in \[0, 1\]}, got {'a': 2}", id="more than right"),
        pytest.param({"question": "what?", "answers": [1]}, r"a question needs answers, .* got \[1\]", id="no words"),
    ],
)
def test_a_file_is_refused_for(image: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_detection_json(write(tmp_path / "a.json", image))
