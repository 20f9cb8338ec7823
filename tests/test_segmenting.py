"""`Predictor.segment`: what `detect` finds, and a mask of each thing, at the picture's own size.

Masks are `(N, H, W)` bool. They come from the network's own head, or from any callable that takes a picture and boxes.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    PreTrainedTokenizerBase,
    SamConfig,
    SamImageProcessor,
    SamMaskDecoderConfig,
    SamModel,
    SamProcessor,
    SamPromptEncoderConfig,
    SamVisionConfig,
)

from glip.detection.calibration import Calibrator
from glip.detection.postprocess import PostProcessor
from glip.errors import ConfigError, ShapeError
from glip.images import read_image
from glip.predictor import Predictor
from glip.segmenting import SamSegmenter, with_masks
from glip.structures.detections import Detections
from tests.reference.tiny_predictor import tiny_predictor

NAMES = ["cat", "dog", "red cup"]
SIZE = (300, 451)  # height and width of the cat's photo


@pytest.fixture(scope="module")
def headed(tokenizer: PreTrainedTokenizerBase) -> Predictor:
    """A tiny network with a mask head."""
    return tiny_predictor(tokenizer)


@pytest.fixture(scope="module")
def cat(photos: Path) -> Image.Image:
    """A photo of 451 x 300 pixels."""
    return read_image(photos / "chelsea.jpg")


def masks_of(found: Detections) -> Tensor:
    assert found.masks is not None
    return found.masks


def boxes_filled(picture: Image.Image, boxes: Tensor) -> Tensor:
    """A segmenter: all whole pixels of each box are the thing's."""
    masks = torch.zeros(len(boxes), picture.height, picture.width, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.round().int().tolist(), strict=True):
        mask[top:bottom, left:right] = True
    return masks


def test_it_finds_what_detect_finds_and_each_box_has_a_mask_within_it(headed: Predictor, cat: Image.Image) -> None:
    plain, found = headed.detect(cat, NAMES), headed.segment(cat, NAMES)
    assert plain.masks is None
    assert len(found) == 6
    assert torch.equal(found.boxes, plain.boxes)
    assert torch.equal(found.scores, plain.scores)
    assert torch.equal(found.labels, plain.labels)
    masks = masks_of(found)
    assert (masks.shape, masks.dtype, masks.device.type) == ((6, *SIZE), torch.bool, "cpu")
    assert masks.any()
    a_pixel_wider = (found.boxes + torch.tensor([-1, -1, 1, 1])).clamp(min=0)
    assert not (masks & ~boxes_filled(cat, a_pixel_wider)).any()


def test_a_list_of_pictures_gives_a_list_each_at_its_own_size(headed: Predictor, cat: Image.Image) -> None:
    found = headed.segment([cat, cat.crop((0, 0, 200, 100))], NAMES)
    assert [masks_of(one).shape[1:] for one in found] == [SIZE, (100, 200)]
    assert headed.segment([], NAMES) == []


def test_a_batch_gives_the_masks_of_its_pictures_one_by_one(
    headed: Predictor, cat: Image.Image, tokenizer: PreTrainedTokenizerBase
) -> None:
    pictures = [cat, cat.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    together = tiny_predictor(tokenizer, batch_size=2).segment(pictures, NAMES)
    for picture, found in zip(pictures, together, strict=True):
        alone = headed.segment(picture, NAMES)
        torch.testing.assert_close(found.boxes, alone.boxes, rtol=1e-3, atol=1e-2)
        assert (masks_of(found) != masks_of(alone)).float().mean() < 0.01


@pytest.mark.parametrize("class_agnostic", [False, True], ids=["each name by itself", "one name a place"])
def test_names_in_several_captions_are_drawn_with_their_own_caption(
    headed: Predictor, cat: Image.Image, class_agnostic: bool
) -> None:
    rules = PostProcessor(max_detections=6, class_agnostic=class_agnostic)
    predictor = Predictor(headed.model, headed.processor, rules=rules)
    plain = predictor.detect(cat, NAMES, chunk_size=1)
    found = predictor.segment(cat, NAMES, chunk_size=1)
    assert torch.equal(found.boxes, plain.boxes)
    assert torch.equal(found.labels, plain.labels)
    assert len(set(found.labels.tolist())) == 3 or class_agnostic
    for label, box, mask in zip(found.labels.tolist(), found.boxes, masks_of(found), strict=True):
        alone = predictor.segment(cat, [NAMES[label]])
        place = int((alone.boxes - box).abs().sum(dim=1).argmin())
        assert torch.equal(mask, masks_of(alone)[place])


def test_a_threshold_for_each_name_holds_over_all_captions(headed: Predictor, cat: Image.Image) -> None:
    limits = {"cat": 1.0, "dog": 0.0, "red cup": 1.0}
    found = headed.segment(cat, NAMES, threshold=limits, chunk_size=1)
    assert set(found.text_labels) == {"dog"}
    assert len(masks_of(found)) == len(found)
    with pytest.raises(ConfigError, match="'zebra', which is not looked for"):
        headed.segment(cat, NAMES, threshold={"zebra": 0.5}, chunk_size=1)


@pytest.mark.parametrize("chunk_size", [None, 1])
def test_a_calibrator_is_asked_once(headed: Predictor, cat: Image.Image, chunk_size: int | None) -> None:
    halves = Calibrator("isotonic", scores=(0.0, 1.0), probabilities=(0.0, 0.5))
    calibrated = Predictor(headed.model, headed.processor, rules=headed.rules, calibrator=halves)
    found = calibrated.segment(cat, NAMES, chunk_size=chunk_size)
    torch.testing.assert_close(found.scores, headed.segment(cat, NAMES, chunk_size=chunk_size).scores / 2)
    assert len(masks_of(found)) == len(found) > 0


@pytest.mark.parametrize("segmenter", [None, boxes_filled], ids=["the head", "a segmenter"])
def test_where_nothing_is_found_there_are_no_masks(headed: Predictor, cat: Image.Image, segmenter: Any) -> None:
    found = headed.segment(cat, NAMES, threshold=1.0, segmenter=segmenter)
    assert masks_of(found).shape == (0, *SIZE)
    assert found.to_coco(1) == []


def test_a_network_without_the_head_says_so(tokenizer: PreTrainedTokenizerBase, cat: Image.Image) -> None:
    with pytest.raises(
        ConfigError, match=r"no mask head; load one that has, or add one with model.with_heads\(\{.masks"
    ):
        tiny_predictor(tokenizer, heads={}).segment(cat, NAMES)


# --- other segmenters --------------------------------------------------------------------------------------------


def test_a_segmenter_needs_no_head_and_gets_the_upright_picture_and_its_boxes(
    tokenizer: PreTrainedTokenizerBase, cat: Image.Image
) -> None:
    asked: list[tuple[tuple[int, int], Tensor]] = []

    def remember(picture: Image.Image, boxes: Tensor) -> Tensor:
        asked.append((picture.size, boxes))
        return boxes_filled(picture, boxes)

    found = tiny_predictor(tokenizer, heads={}).segment([cat], NAMES, segmenter=remember)[0]
    ((size, boxes),) = asked
    assert size == (451, 300)
    assert torch.equal(boxes, found.boxes)
    assert torch.equal(masks_of(found), boxes_filled(cat, found.boxes))


TWO = Detections(
    torch.tensor([[0.0, 0.0, 4.0, 2.0], [1.0, 1.0, 3.0, 3.0]]), torch.ones(2), torch.zeros(2).long(), ("a",)
)


def never(_picture: Image.Image, _boxes: Tensor) -> Tensor:
    raise AssertionError("a segmenter must not be asked about nothing")


def test_a_segmenter_is_not_asked_about_nothing() -> None:
    assert masks_of(with_masks(TWO[:0], Image.new("RGB", (5, 4)), never)).shape == (0, 4, 5)


def test_an_array_is_as_good_as_a_tensor() -> None:
    found = with_masks(TWO, Image.new("RGB", (5, 4)), lambda _, boxes: torch.ones(2, 4, 5).bool().numpy())
    assert masks_of(found).all()


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        pytest.param(torch.ones(1, 4, 5).bool(), r"must give masks \(2, 4, 5\), got \(1, 4, 5\)", id="a mask too few"),
        pytest.param(torch.ones(2, 5, 4).bool(), r"must give masks \(2, 4, 5\), got \(2, 5, 4\)", id="a turned mask"),
        pytest.param(torch.ones(2, 4, 5), r"segmenter's masks must be \(N, H, W\) bool, got", id="probabilities"),
        pytest.param(torch.ones(2, 1, 4, 5).bool(), r"must be \(N, H, W\) bool, got \(2, 1, 4, 5\)", id="channels"),
    ],
)
def test_a_segmenter_is_refused_that_gives(masks: Tensor, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        with_masks(TWO, Image.new("RGB", (5, 4)), lambda _, boxes: masks)


@pytest.fixture(scope="module")
def sam() -> tuple[SamModel, SamProcessor]:
    """Segment Anything on 64 pixels, with random weights."""
    torch.manual_seed(0)
    vision = SamVisionConfig(
        hidden_size=16,
        output_channels=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=64,
        patch_size=16,
        window_size=2,
        global_attn_indexes=[0],
        mlp_dim=16,
        num_pos_feats=8,
    )
    prompts = SamPromptEncoderConfig(hidden_size=16, image_size=64, patch_size=16, mask_input_channels=4)
    decoder = SamMaskDecoderConfig(
        hidden_size=16, mlp_dim=16, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=16
    )
    config = SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    pixels = SamImageProcessor(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})
    return SamModel(config), SamProcessor(pixels)


def test_segment_anything_cuts_each_box_at_the_pictures_size(
    sam: tuple[SamModel, SamProcessor], cat: Image.Image
) -> None:
    boxes = torch.tensor([[10.0, 20.0, 200.0, 250.0], [0.0, 0.0, 451.0, 300.0], [100.0, 50.0, 140.0, 90.0]])
    masks = SamSegmenter(*sam)(cat, boxes)
    assert (masks.shape, masks.dtype) == ((3, *SIZE), torch.bool)
    in_turns = SamSegmenter(*sam, boxes_at_a_time=2)(cat, boxes)
    assert (masks != in_turns).float().mean() < 0.001
    assert SamSegmenter(*sam)(cat, boxes[:0]).shape == (0, *SIZE)


def test_segment_anything_says_what_transformers_own_way_says(
    sam: tuple[SamModel, SamProcessor], cat: Image.Image
) -> None:
    model, processor = sam
    boxes = torch.tensor([[10.0, 20.0, 200.0, 250.0], [100.0, 50.0, 140.0, 90.0]])
    inputs = processor(images=cat, input_boxes=[boxes.tolist()], return_tensors="pt")
    inputs["input_boxes"] = inputs["input_boxes"].float()
    with torch.inference_mode():
        output = model(**inputs, multimask_output=False)
    theirs = processor.post_process_masks(
        output.pred_masks, inputs["original_sizes"].tolist(), inputs["reshaped_input_sizes"].tolist()
    )[0][:, 0]
    assert 0 < theirs.float().mean() < 1
    assert torch.equal(SamSegmenter(model, processor)(cat, boxes), theirs)


def test_segment_anything_is_a_segmenter(
    sam: tuple[SamModel, SamProcessor], tokenizer: PreTrainedTokenizerBase, cat: Image.Image
) -> None:
    found = tiny_predictor(tokenizer, heads={}).segment(cat, NAMES, segmenter=SamSegmenter(*sam))
    assert masks_of(found).shape == (len(found), *SIZE)
    assert len(found) > 0
