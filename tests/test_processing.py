"""Pictures and words to tensors, and outputs to labelled boxes, in transformers' manner."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForZeroShotObjectDetection,
    AutoProcessor,
    BatchFeature,
    pipeline,
)

from glip.configuration import GlipConfig
from glip.errors import PromptError, ShapeError
from glip.models.glip import GlipModel
from glip.predictor import SHIPPED, Predictor
from glip.processing import GlipImageProcessor, GlipProcessor, resized_size
from glip.structures.output import GlipOutput

FOLDER = SHIPPED["glip-nano"]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        pytest.param((480, 640), (800, 1066), id="a 640 x 480 photo"),
        pytest.param((375, 500), (800, 1066), id="a 500 x 375 photo"),
        pytest.param((500, 2000), (333, 1332), id="a panorama, whose long side is capped"),
        pytest.param((640, 480), (1066, 800), id="an upright photo"),
        pytest.param((800, 900), (800, 900), id="a photo of the right size, which is left alone"),
        pytest.param((1, 1), (800, 800), id="one pixel"),
    ],
)
def test_the_published_size_of(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resized_size(*size, short_side=800, max_side=1333) == expected


def test_pixels_are_scaled_to_0_1_and_normalised_by_imagenets_rgb_statistics() -> None:
    white = np.full((32, 32, 3), 255, dtype=np.uint8)
    values = GlipImageProcessor(short_side=32)(white)["pixel_values"]
    expected = torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    torch.testing.assert_close(values[0, :, 5, 5], expected)


def test_a_batch_is_padded_with_zeros_to_a_multiple_of_32() -> None:
    small, large = np.full((40, 50, 3), 9, dtype=np.uint8), np.full((40, 70, 3), 9, dtype=np.uint8)
    features = GlipImageProcessor(short_side=40)([small, large])
    assert features["pixel_values"].shape == (2, 3, 64, 96)
    assert features["image_sizes"].tolist() == [[40, 50], [40, 70]]
    assert not features["pixel_values"][0, :, 40:].any()
    assert not features["pixel_values"][0, :, :, 50:].any()
    assert features["pixel_values"][0, :, 39, 49].all()


@pytest.fixture(scope="module")
def processor() -> GlipProcessor:
    loaded: GlipProcessor = GlipProcessor.from_pretrained(FOLDER)
    return loaded


IMAGE = Image.new("RGB", (64, 48), "grey")


def decoded(processor: GlipProcessor, features: BatchFeature) -> list[str]:
    return [
        processor.tokenizer.decode(ids[mask])
        for ids, mask in zip(features.input_ids, features.attention_mask, strict=True)
    ]


@pytest.mark.parametrize(
    ("images", "text", "captions"),
    [
        pytest.param(IMAGE, ["cat", "a dog"], ["[CLS] cat. a dog [SEP]"], id="labels for one image"),
        pytest.param(IMAGE, "a cat. a dog.", ["[CLS] a cat. a dog [SEP]"], id="a caption with full stops"),
        pytest.param(IMAGE, [["cat", "dog"]], ["[CLS] cat. dog [SEP]"], id="a list of labels in a list"),
        pytest.param(
            [IMAGE, IMAGE],
            [["cat"], ["red car"]],
            ["[CLS] cat [SEP]", "[CLS] red car [SEP]"],
            id="labels for each of two",
        ),
        pytest.param([IMAGE, IMAGE], ["cat", "dog"], ["[CLS] cat. dog [SEP]"] * 2, id="one list of labels for two"),
        pytest.param(
            [IMAGE, IMAGE], ["cat.", "dog."], ["[CLS] cat [SEP]", "[CLS] dog [SEP]"], id="captions for each of two"
        ),
    ],
)
def test_text_may_be(
    images: Image.Image | list[Image.Image], text: list[str], captions: list[str], processor: GlipProcessor
) -> None:
    assert [
        caption.replace(" .", ".") for caption in decoded(processor, processor(images=images, text=text))
    ] == captions


def test_one_text_for_two_images_in_lists_is_refused(processor: GlipProcessor) -> None:
    with pytest.raises(ShapeError, match="got 1 for 2 images"):
        processor(images=[IMAGE, IMAGE], text=[["cat"]])


def test_no_text_is_refused(processor: GlipProcessor) -> None:
    with pytest.raises(PromptError, match="empty"):
        processor(images=IMAGE, text=[])


def output_that_sees(token: int, ids: torch.Tensor) -> GlipOutput:
    """One anchor of a 1 x 1 pyramid that is sure of one token."""
    logits = torch.full((1, 1, ids.shape[1]), -20.0)
    logits[0, 0, token] = 20.0
    return GlipOutput(
        alignment_logits=logits,
        box_deltas=torch.zeros(1, 1, 4),
        centerness_logits=torch.full((1, 1), 20.0),
        level_shapes=((1, 1),),
        strides=(8,),
        image_sizes=torch.tensor([[100, 200]]),
        input_ids=ids,
        attention_mask=torch.ones_like(ids).bool(),
    )


@pytest.mark.parametrize(
    "named", [pytest.param(True, id="from text_labels"), pytest.param(False, id="from full stops")]
)
def test_labels_index_the_callers_list(named: bool, processor: GlipProcessor) -> None:
    features = processor(images=IMAGE, text=[["cat", "remote"]])
    output = output_that_sees(3, features["input_ids"])  # [CLS] cat . remote [SEP]
    labels = [["cat", "remote"]] if named else None
    (found,) = processor.post_process_grounded_object_detection(
        output, features["input_ids"], threshold=0.5, target_sizes=[(200, 400)], text_labels=labels
    )
    assert found["labels"].tolist() == [1]
    assert found["text_labels"] == ["remote"]
    torch.testing.assert_close(
        found["boxes"], torch.tensor([[0.0, 0.0, 70.0, 70.0]])
    )  # [-28, 35] clipped, twice as large


def test_labels_that_do_not_belong_to_the_outputs_are_refused(processor: GlipProcessor) -> None:
    features = processor(images=IMAGE, text=[["cat"]])
    with pytest.raises(PromptError, match="not the labels"):
        processor.post_process_grounded_object_detection(
            output_that_sees(1, features["input_ids"]), text_labels=[["a very long list", "of other labels"]]
        )


def test_a_saved_processor_comes_back(tmp_path: Path, processor: GlipProcessor) -> None:
    own = GlipProcessor(GlipImageProcessor(short_side=123, max_side=456), processor.tokenizer, threshold=0.25)
    own.save_pretrained(tmp_path)
    loaded: GlipProcessor = GlipProcessor.from_pretrained(tmp_path)
    assert (loaded.image_processor.short_side, loaded.image_processor.max_side, loaded.threshold) == (123, 456, 0.25)
    assert loaded.tokenizer.get_vocab() == processor.tokenizer.get_vocab()


def test_transformers_auto_classes_know_the_model() -> None:
    assert isinstance(AutoConfig.from_pretrained(FOLDER), GlipConfig)
    assert isinstance(AutoImageProcessor.from_pretrained(FOLDER), GlipImageProcessor)
    assert isinstance(AutoProcessor.from_pretrained(FOLDER), GlipProcessor)
    assert isinstance(AutoModelForZeroShotObjectDetection.from_pretrained(FOLDER), GlipModel)


def test_transformers_pipeline_runs(predictor: Predictor, photos: Path) -> None:
    processor = predictor.processor
    find = pipeline(
        "zero-shot-object-detection",
        model=predictor.model,
        image_processor=processor.image_processor,
        tokenizer=processor.tokenizer,
    )
    found = find(str(photos / "chelsea.jpg"), candidate_labels=["cat"], threshold=0.05)
    assert found
    assert {record["label"] for record in found} == {"cat"}
    assert set(found[0]["box"]) == {"xmin", "ymin", "xmax", "ymax"}
