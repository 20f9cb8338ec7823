"""Pictures and words become tensors as the published code makes them, and outputs become boxes with words.

Sizes are (height, width) in pixels, boxes xyxy; the processors load, save and run as transformers' own do.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForZeroShotObjectDetection,
    AutoProcessor,
    PreTrainedTokenizerBase,
    pipeline,
)
from transformers.utils import logging as transformers_logging

import glip.models.glip
import glip.processing  # noqa: F401  # registers with the Auto classes, as the line above does
from glip.configuration import GlipConfig
from glip.detection.postprocess import PostProcessor
from glip.errors import ConfigError, GlipError, PromptError, ShapeError
from glip.models.glip import GlipModel
from glip.predictor import Predictor
from glip.processing import GlipImageProcessor, GlipProcessor, as_list, resized_size
from glip.structures.output import GlipOutput
from glip.weights.folder import SHIPPED

SHIPPED_FOLDER = SHIPPED["glip-nano"]
Pixels = npt.NDArray[np.uint8]


@pytest.fixture
def processor(tokenizer: PreTrainedTokenizerBase) -> GlipProcessor:
    """32 pixels on the shorter side."""
    return GlipProcessor(GlipImageProcessor(short_side=32, max_side=64), tokenizer)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What transformers and glip would say on a terminal."""
    transformers_logging.enable_propagation()
    caplog.set_level(logging.WARNING)
    yield caplog
    transformers_logging.disable_propagation()


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# --- pixels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "resized"),
    [
        pytest.param(480, 640, (800, 1066), id="640 x 480: 1066.67 is rounded down"),
        pytest.param(375, 500, (800, 1066), id="500 x 375"),
        pytest.param(640, 480, (1066, 800), id="upright, 480 x 640"),
        pytest.param(500, 2000, (333, 1332), id="2000 x 500: the long side would be 3200, so the short one is 333"),
        pytest.param(2000, 500, (1332, 333), id="upright, 500 x 2000"),
        pytest.param(800, 1200, (800, 1200), id="already right"),
        pytest.param(600, 600, (800, 800), id="a square"),
        pytest.param(1, 1, (800, 800), id="one pixel"),
        pytest.param(1600, 1600, (800, 800), id="twice too large"),
    ],
)
def test_the_published_size_of(height: int, width: int, resized: tuple[int, int]) -> None:
    assert resized_size(height, width, short_side=800, max_side=1333) == resized


def test_the_published_sizes_are_the_default() -> None:
    published = GlipImageProcessor()
    assert (published.short_side, published.max_side, published.size_divisor) == (800, 1333, 32)


@pytest.mark.parametrize(
    ("colour", "normalised"),
    [
        pytest.param((255, 255, 255), (2.248908, 2.428571, 2.640000), id="white"),  # (1 - mean) / std
        pytest.param((0, 0, 0), (-2.117904, -2.035714, -1.804444), id="black"),  # -mean / std
        pytest.param((255, 0, 51), (2.248908, -2.035714, -0.915556), id="red first, blue last"),  # 51 / 255 = 0.2
    ],
)
def test_a_pixel_of(colour: tuple[int, int, int], normalised: tuple[float, float, float]) -> None:
    picture = np.full((2, 2, 3), colour, dtype=np.uint8)
    values = GlipImageProcessor().normalize_array(picture, short_side=2, max_side=2)
    expected = torch.tensor(normalised).view(3, 1, 1).expand(3, 2, 2)
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-5)


def test_shrinking_is_pillows_antialiased_bilinear() -> None:
    picture = noise(64, 48)
    processor = GlipImageProcessor(image_mean=(0, 0, 0), image_std=(1 / 255,) * 3)  # leaves values 0 to 255
    values = processor.normalize_array(picture, short_side=12, max_side=99)
    expected = np.array(Image.fromarray(picture).resize((12, 16), Image.Resampling.BILINEAR))
    torch.testing.assert_close(values, torch.from_numpy(expected).permute(2, 0, 1).float(), rtol=0, atol=1e-3)


def test_a_picture_of_the_right_size_is_not_resampled() -> None:
    picture = noise(8, 12)
    processor = GlipImageProcessor(image_mean=(0, 0, 0), image_std=(1 / 255,) * 3)
    values = processor.normalize_array(picture, short_side=8, max_side=99)
    torch.testing.assert_close(values, torch.from_numpy(picture).permute(2, 0, 1).float(), rtol=0, atol=1e-3)


def test_the_picture_given_is_left_as_it_is() -> None:
    picture = noise(8, 12)
    before = picture.copy()
    GlipImageProcessor(short_side=8)(picture)
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize(
    ("size", "padded"),
    [
        pytest.param((32, 32), (32, 32), id="a multiple of 32 stays"),
        pytest.param((33, 40), (64, 64), id="33 x 40 to 64 x 64"),
        pytest.param((32, 65), (32, 96), id="one side only"),
    ],
)
def test_padding_to_32(size: tuple[int, int], padded: tuple[int, int]) -> None:
    pixels, sizes = GlipImageProcessor().pad_batch([torch.ones(3, *size)])
    assert pixels.shape == (1, 3, *padded)
    assert sizes.tolist() == [list(size)]
    assert pixels.sum() == 3 * size[0] * size[1]
    assert bool((pixels[0, :, : size[0], : size[1]] == 1).all())  # so zeros are on the right and at the bottom


def test_a_batch_has_the_largest_height_and_the_largest_width() -> None:
    processor = GlipImageProcessor(short_side=32, max_side=96)
    lying, upright = noise(32, 90), noise(64, 32, seed=1)
    batch = processor([lying, upright])
    assert batch["pixel_values"].shape == (2, 3, 64, 96)
    assert batch["image_sizes"].tolist() == [[32, 90], [64, 32]]


def test_a_picture_has_the_same_values_in_a_batch_and_alone() -> None:
    processor = GlipImageProcessor(short_side=32, max_side=96)
    pictures = [noise(32, 90), noise(70, 40, seed=1)]
    batch = processor(pictures)
    for row, (height, width), picture in zip(batch["pixel_values"], batch["image_sizes"], pictures, strict=True):
        alone = processor(picture)["pixel_values"][0]
        torch.testing.assert_close(row[:, :height, :width], alone[:, :height, :width], rtol=0, atol=0)


def test_a_batch_of_no_picture_is_refused() -> None:
    with pytest.raises(GlipError, match="at least one image"):
        GlipImageProcessor()([])


@pytest.mark.parametrize(
    ("images", "count"),
    [
        pytest.param(noise(4, 4), 1, id="an array is one picture"),
        pytest.param(np.stack([noise(4, 4)] * 3), 3, id="an array of arrays is several"),
        pytest.param(torch.zeros(2, 3, 4, 4), 2, id="a batch of tensors is several"),
        pytest.param("a.jpg", 1, id="a path is one"),
        pytest.param(["a.jpg", Path("b.jpg")], 2, id="a list of paths is several"),
        pytest.param((Image.new("RGB", (2, 2)),), 1, id="a tuple of one"),
        pytest.param([], 0, id="none at all"),
    ],
)
def test_how_many_pictures(images: Any, count: int) -> None:
    assert len(as_list(images)) == count


# --- words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pictures", "text", "captions"),
    [
        pytest.param(1, ["cat", "remote control"], ["cat. remote control"], id="labels"),
        pytest.param(1, "a cat. a dog.", ["a cat. a dog"], id="a caption with full stops"),
        pytest.param(1, "a cat", ["a cat"], id="a caption without a full stop"),
        pytest.param(1, [["cat", "dog"]], ["cat. dog"], id="a list of labels for one picture"),
        pytest.param(2, [["cat"], ["dog", "cup"]], ["cat", "dog. cup"], id="labels of each picture"),
        pytest.param(2, ["a cat.", "a dog. a cup."], ["a cat", "a dog. a cup"], id="a caption of each picture"),
        pytest.param(2, ["cat", "dog"], ["cat. dog", "cat. dog"], id="labels for all pictures"),
        pytest.param(2, "a cat. a dog.", ["a cat. a dog", "a cat. a dog"], id="a caption for all pictures"),
    ],
)
def test_text_as(processor: GlipProcessor, pictures: int, text: Any, captions: list[str]) -> None:
    features = processor([noise(32, 32)] * pictures, text)
    mask = features["attention_mask"]
    read = [processor.tokenizer.tokenize(caption) for caption in captions]
    assert [
        processor.tokenizer.convert_ids_to_tokens(ids[real])[1:-1]
        for ids, real in zip(features["input_ids"], mask, strict=True)
    ] == read
    assert mask.shape[1] == 2 + max(map(len, read))  # with CLS and SEP, and no longer than that
    assert mask.dtype == torch.bool


def test_the_processors_features_are_the_models_arguments(processor: GlipProcessor) -> None:
    features = processor(noise(32, 40), ["cat"])
    assert set(features) == {"pixel_values", "image_sizes", "input_ids", "attention_mask"}


@pytest.mark.parametrize("text", [["cat. dog", "a cup."], [["cat"]], [["cat"], ["dog"], ["cup"]]])
def test_text_for_more_or_fewer_pictures_is_refused(processor: GlipProcessor, text: Any) -> None:
    pictures = [noise(32, 32)] * (1 if len(text) == 2 else 2)
    with pytest.raises(ShapeError, match="each image needs its text"):
        processor(pictures, text)


@pytest.mark.parametrize("text", [[], "", " . ", [[]], [["cat"], []]])
def test_text_without_words_is_refused(processor: GlipProcessor, text: Any) -> None:
    with pytest.raises(PromptError):
        processor([noise(32, 32)] * max(len(text) if isinstance(text, list) else 1, 1), text)


# --- boxes -------------------------------------------------------------------------------------------------------

HIGH, LOW, CENTRED = 2.0, -9.0, 1.0
SCORE = 0.802448  # sqrt(sigmoid(2) * sigmoid(1)) = sqrt(0.880797 * 0.731059)


def output_of(processor: GlipProcessor, caption: str, found: dict[int, list[int]], images: int = 1) -> GlipOutput:
    """What a network says that sees, at the two anchors (0, 20) and (20, 20) of a 256 x 512 picture, some tokens.

    The anchors of stride 256 are 2048 pixels wide; their deltas shrink the boxes to 32 pixels round the centres
    (127.5, 127.5) and (383.5, 127.5), that is to [112, 112, 143, 143] and [368, 112, 399, 143].
    """
    ids = torch.tensor([processor.tokenizer(caption)["input_ids"]]).expand(images, -1)
    logits = torch.full((images, 2, ids.shape[1]), LOW)
    for anchor, tokens in found.items():
        logits[:, anchor, tokens] = HIGH
    deltas = torch.zeros(images, 2, 4)
    deltas[..., 2:] = 5.0 * float(np.log(32 / 2048))  # the coder's weight of sides
    return GlipOutput(
        alignment_logits=logits,
        box_deltas=deltas,
        centerness_logits=torch.full((images, 2), CENTRED),
        level_shapes=((1, 2),),
        strides=(256,),
        image_sizes=torch.tensor([[256, 512]]).expand(images, 2),
        input_ids=ids,
        attention_mask=torch.ones_like(ids).bool(),
    )


LEFT, RIGHT = [112.0, 112.0, 143.0, 143.0], [368.0, 112.0, 399.0, 143.0]


def test_boxes_are_labelled_with_indices_into_the_labels(processor: GlipProcessor) -> None:
    output = output_of(processor, "cat. remote control", {0: [3, 4], 1: [1]})  # CLS cat . remote control SEP
    (result,) = processor.post_process_grounded_object_detection(output, text_labels=[["cat", "remote control"]])
    order = result["boxes"][:, 0].argsort()
    torch.testing.assert_close(result["boxes"][order], torch.tensor([LEFT, RIGHT]), rtol=0, atol=1e-3)
    torch.testing.assert_close(result["scores"], torch.tensor([SCORE, SCORE]), rtol=0, atol=1e-5)
    assert result["labels"].dtype == torch.int64
    assert result["labels"][order].tolist() == [1, 0]
    assert [result["text_labels"][index] for index in order.tolist()] == ["remote control", "cat"]


def test_a_label_of_two_tokens_has_the_mean_of_their_probabilities(processor: GlipProcessor) -> None:
    output = output_of(processor, "cat. remote control", {0: [3]})  # "remote" is seen, "control" is not
    (result,) = processor.post_process_grounded_object_detection(output, text_labels=[["cat", "remote control"]])
    expected = torch.tensor([0.567461])  # sqrt((0.880797 + 0.000123) / 2 * 0.731059)
    torch.testing.assert_close(result["scores"], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        pytest.param("a cat. a remote control", ["a cat", "a remote control"], id="stops between"),
        pytest.param("a cat. a remote control.", ["a cat", "a remote control"], id="a stop at the end, too"),
    ],
)
def test_without_labels_the_phrases_are_what_stands_between_full_stops(
    processor: GlipProcessor, caption: str, phrases: list[str]
) -> None:
    output = output_of(processor, caption, {0: [4, 5, 6], 1: [1, 2]})  # CLS a cat . a remote control ...
    (result,) = processor.post_process_grounded_object_detection(output)
    order = result["boxes"][:, 0].argsort()
    assert result["labels"][order].tolist() == [1, 0]
    assert [result["text_labels"][index] for index in order.tolist()] == phrases[::-1]


def test_a_word_that_the_vocabulary_lacks_is_no_border_between_phrases(processor: GlipProcessor) -> None:
    output = output_of(processor, "a \N{GRINNING FACE} cat. \N{GRINNING FACE}. dog", {0: [1, 2, 3], 1: [7]})
    (result,) = processor.post_process_grounded_object_detection(output)  # CLS a UNK cat . UNK . dog SEP
    order = result["boxes"][:, 0].argsort()
    assert result["labels"][order].tolist() == [0, 2]


def test_input_ids_may_be_given_again_as_for_grounding_dino(processor: GlipProcessor) -> None:
    output = output_of(processor, "cat. dog", {0: [3]})
    (result,) = processor.post_process_grounded_object_detection(output, output.input_ids, threshold=0.4)
    assert result["text_labels"] == ["dog"]


@pytest.mark.parametrize(
    ("target_sizes", "box"),
    [
        pytest.param(None, LEFT, id="the network's own pixels"),
        pytest.param([(256, 512)], LEFT, id="a picture of that size"),
        pytest.param([(512, 512)], [112.0, 224.0, 143.0, 286.0], id="a picture twice as high"),
        pytest.param(torch.tensor([[128, 256]]), [56.0, 56.0, 71.5, 71.5], id="a tensor, half the size"),
    ],
)
def test_boxes_in_pixels_of(processor: GlipProcessor, target_sizes: Any, box: list[float]) -> None:
    output = output_of(processor, "cat", {0: [1]})
    (result,) = processor.post_process_grounded_object_detection(
        output, target_sizes=target_sizes, text_labels=[["cat"]]
    )
    torch.testing.assert_close(result["boxes"], torch.tensor([box]), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("threshold", "text_threshold", "count"),
    [
        pytest.param(0.80, 0.05, 1, id="just below the score"),
        pytest.param(0.81, 0.05, 0, id="just above the score"),
        pytest.param(0.0, 0.88, 1, id="just below the phrase's probability"),
        pytest.param(0.0, 0.89, 0, id="just above the phrase's probability"),
    ],
)
def test_thresholds(processor: GlipProcessor, threshold: float, text_threshold: float, count: int) -> None:
    output = output_of(processor, "cat", {0: [1]})
    (result,) = processor.post_process_grounded_object_detection(
        output, threshold=threshold, text_threshold=text_threshold, text_labels=[["cat"]]
    )
    assert len(result["boxes"]) == len(result["scores"]) == len(result["text_labels"]) == count


def test_nothing_found_is_an_empty_result_of_the_same_kind(processor: GlipProcessor) -> None:
    (result,) = processor.post_process_grounded_object_detection(output_of(processor, "cat", {}))
    assert {name: len(value) for name, value in result.items()} == dict.fromkeys(
        ("boxes", "scores", "labels", "text_labels"), 0
    )
    assert result["boxes"].shape == (0, 4)


def test_each_picture_has_labels_of_its_own(processor: GlipProcessor) -> None:
    output = output_of(processor, "cat. dog", {0: [3]}, images=2)
    results = processor.post_process_grounded_object_detection(output, text_labels=[["cat", "dog"], ["cat", "dog"]])
    assert [result["text_labels"] for result in results] == [["dog"], ["dog"]]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(["cat", "dog", "cup"], id="one more"),
        pytest.param(["cat"], id="one fewer"),
        pytest.param(["dog", "cat"], id="in another order"),
        pytest.param(["cat", "cup"], id="another name"),
    ],
)
def test_labels_that_the_outputs_were_not_computed_for_are_refused(processor: GlipProcessor, other: list[str]) -> None:
    output = output_of(processor, "cat. dog", {0: [3]})
    with pytest.raises(PromptError, match="not the labels that the outputs were computed for"):
        processor.post_process_grounded_object_detection(output, text_labels=[other])


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"target_sizes": [(9, 9)]}, id="one size for two pictures"),
        pytest.param({"text_labels": [["cat"]]}, id="labels of one of two pictures"),
    ],
)
def test_results_of_two_pictures_need_two_of_each(processor: GlipProcessor, arguments: dict[str, Any]) -> None:
    with pytest.raises(ShapeError, match="each image needs"):
        processor.post_process_grounded_object_detection(output_of(processor, "cat", {}, images=2), **arguments)


def test_the_outputs_are_left_as_they_are(processor: GlipProcessor) -> None:
    output = output_of(processor, "cat. dog", {0: [1]})
    before = {name: value.clone() for name, value in output.items() if isinstance(value, Tensor)}
    processor.post_process_grounded_object_detection(output, output.input_ids + 0, target_sizes=[(9, 9)])
    for name, value in before.items():
        torch.testing.assert_close(output[name], value, rtol=0, atol=0)


# --- transformers' doors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("door", "kind"),
    [
        pytest.param(AutoConfig, GlipConfig, id="AutoConfig"),
        pytest.param(AutoProcessor, GlipProcessor, id="AutoProcessor"),
        pytest.param(AutoImageProcessor, GlipImageProcessor, id="AutoImageProcessor"),
        pytest.param(AutoModelForZeroShotObjectDetection, GlipModel, id="AutoModelForZeroShotObjectDetection"),
    ],
)
def test_the_shipped_folder_loads_through(log: pytest.LogCaptureFixture, door: Any, kind: type) -> None:
    assert type(door.from_pretrained(SHIPPED_FOLDER)) is kind
    assert log.messages == []


def test_a_model_without_rules_has_the_published_ones(processor: GlipProcessor) -> None:
    assert processor.post_processor() == PostProcessor()
    assert processor.post_processor(max_detections=7) == PostProcessor(max_detections=7)


def test_an_unknown_rule_is_refused_by_name(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ConfigError, match=r"unknown rule 'nms'; there are candidate_threshold, aggregation"):
        GlipProcessor(GlipImageProcessor(), tokenizer, rules={"nms": 0.5})


@pytest.mark.parametrize("rules", [[0.5], "mean", {"competition": None}], ids=["a list", "a word", "a rule of nothing"])
def test_rules_of_another_form_are_refused(tokenizer: PreTrainedTokenizerBase, rules: Any) -> None:
    with pytest.raises(ConfigError, match="got"):
        GlipProcessor(GlipImageProcessor(), tokenizer, rules=rules)


@pytest.mark.parametrize("door", [GlipProcessor, AutoProcessor])
def test_a_saved_processor_is_read_back_whole(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, door: Any, log: pytest.LogCaptureFixture
) -> None:
    images = GlipImageProcessor(
        short_side=96, max_side=160, size_divisor=64, image_mean=(0.1, 0.2, 0.3), image_std=(0.4, 0.5, 0.6)
    )
    GlipConfig().save_pretrained(tmp_path)
    rules = {"aggregation": "max", "competition": 0.5}
    GlipProcessor(images, tokenizer, max_tokens=77, threshold=0.37, rules=rules).save_pretrained(tmp_path)
    read = door.from_pretrained(tmp_path)
    assert (read.max_tokens, read.threshold) == (77, 0.37)
    assert read.post_processor() == PostProcessor(aggregation="max", competition=0.5)
    fields = ("short_side", "max_side", "size_divisor", "image_mean", "image_std")
    assert {name: getattr(read.image_processor, name) for name in fields} == {
        name: getattr(images, name) for name in fields
    }
    assert read.tokenizer("Café au lait.")["input_ids"] == tokenizer("Café au lait.")["input_ids"]
    assert log.messages == []


def test_a_saved_image_processor_is_read_back(tmp_path: Path) -> None:
    GlipImageProcessor(short_side=96).save_pretrained(tmp_path)
    assert GlipImageProcessor.from_pretrained(tmp_path).short_side == 96


def test_code_for_grounding_dino_finds_the_cat(predictor: Predictor, photos: Path) -> None:
    model, processor = predictor.model, predictor.processor
    with Image.open(photos / "chelsea.jpg") as photo:
        inputs = processor(images=photo, text="a cat. a remote control.", return_tensors="pt")
        with torch.no_grad():
            outputs = model(**inputs)
        (result,) = processor.post_process_grounded_object_detection(
            outputs, inputs.input_ids, threshold=0.2, text_threshold=0.1, target_sizes=[photo.size[::-1]]
        )
    assert "a cat" in result["text_labels"]


def test_transformers_pipeline_finds_the_cat(predictor: Predictor, photos: Path, log: pytest.LogCaptureFixture) -> None:
    find = pipeline(
        "zero-shot-object-detection",
        model=predictor.model,
        tokenizer=predictor.processor.tokenizer,
        image_processor=predictor.processor.image_processor,
    )
    found = find(str(photos / "chelsea.jpg"), candidate_labels=["cat", "zebra"], threshold=0.1)
    assert "cat" in {record["label"] for record in found}
    assert all(set(record) == {"score", "label", "box"} for record in found)
    assert all(list(record["box"]) == ["xmin", "ymin", "xmax", "ymax"] for record in found)
    assert all(0 <= record["box"]["xmin"] <= record["box"]["xmax"] <= 451 for record in found)
    assert [record["score"] for record in found] == sorted((record["score"] for record in found), reverse=True)
    assert log.messages == []
