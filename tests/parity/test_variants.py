"""Two small official models, with and without fusion: every module gives the recorded numbers.

Tolerances: 2e-4 for head outputs, ten times the official model's own float32 error elsewhere.
"""

import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from glip.detection.anchors import make_anchors
from glip.detection.postprocess import Aggregation
from glip.models.glip import GlipModel
from glip.structures.boxes import scale_boxes
from glip.structures.output import GlipOutput
from glip.text.prompts import prompt_from_labels
from glip.text.tokens import tokenize_prompts
from tests.parity.make_data import IMAGE_ROWS
from tests.parity.official import (
    DATA,
    HEAD_TOLERANCE,
    LEVELS,
    Record,
    assert_agrees,
    load_official,
    read_weights,
    token_map_of,
)
from tests.parity.recorder import by_level, count_unmatched, recording

VARIANTS = [pytest.param("public", id="with fusion"), pytest.param("public_a", id="without fusion")]
CAPTION_LENGTHS = [pytest.param(False, id="at the caption's length"), pytest.param(True, id="padded to 256")]
AGGREGATIONS = [pytest.param("mean", id="mean over tokens"), pytest.param("max", id="best token")]

PIXEL_ROUNDING, SCORE_ROUNDING = 1e-4, 1e-6  # a few float32 steps; another CPU rounds otherwise

Run = tuple[GlipOutput, dict[str, Tensor]]


@pytest.fixture(scope="module")
def records() -> dict[str, Record]:
    return {variant: Record(DATA, variant) for variant in ("public", "public_a")}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, records: dict[str, Record]) -> dict[str, GlipModel]:
    """Both models; the Swin weights of the one without fusion are not in the compact copy and stay zero."""
    scratch = tmp_path_factory.mktemp("official")
    fused = read_weights(DATA / "public_weights_f16.npz")
    plain = read_weights(DATA / "public_a_weights_f16.npz")
    swin = {name: torch.zeros_like(tensor) for name, tensor in fused.items() if name.startswith("backbone.body.")}
    return {
        "public": load_official(fused, records["public"].meta, scratch),
        "public_a": load_official({**swin, **plain}, records["public_a"].meta, scratch),
    }


@pytest.fixture(scope="module")
def runs(records: dict[str, Record], models: dict[str, GlipModel]) -> dict[tuple[str, bool], Run]:
    """What both models give, and everything inside them, at both caption lengths.

    With fusion from the photo on; without, from the recorded Swin maps on.
    """
    return {
        (variant, padded): run(records[variant], models[variant], padded=padded)
        for variant in ("public", "public_a")
        for padded in (False, True)
    }


@torch.inference_mode()
def run(record: Record, model: GlipModel, *, padded: bool) -> Run:
    ids, mask = record.words(padded=padded)
    sizes = torch.tensor([record.meta["resized_hw"]])
    with recording(model) as seen:
        if model.config.fusion:
            output = model(record.image(), ids, mask, sizes)
        else:
            maps = [record[f"swin.out.{stage}"] for stage in (1, 2, 3)]
            output = model.align(model.fpn(maps), ids, mask, image_sizes=sizes)
    return output, seen | by_level(output)


@pytest.mark.parametrize("padded", CAPTION_LENGTHS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_module_gives_the_recorded_tensor(
    variant: str, padded: bool, records: dict[str, Record], runs: dict[tuple[str, bool], Run]
) -> None:
    record, (_, seen) = records[variant], runs[variant, padded]
    real = 256 if padded else int(record["tokens.attention_mask"].sum())
    for comparison in record.comparisons(seen, real=real):
        assert_agrees(comparison)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_recorded_tensor_is_left_uncompared(
    variant: str, records: dict[str, Record], runs: dict[tuple[str, bool], Run]
) -> None:
    record, (_, seen) = records[variant], runs[variant, False]
    inputs = {f"swin.out.{stage}" for stage in (1, 2, 3)} if variant == "public_a" else {"lang.embedded"}
    assert record.tensor_names - set(seen) == inputs
    for level in LEVELS:
        for kind in ("bbox_reg", "centerness", "dot_product_logits"):
            assert f"head.{kind}.{level}" in record


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_photo_becomes_the_recorded_pixels(variant: str, records: dict[str, Record]) -> None:
    record = records[variant]
    image = record.image(records["public"].arrays["image.raw_rgb_uint8"])
    assert list(image.shape[2:]) == record.meta["padded_hw"]
    torch.testing.assert_close(image[:, :, list(IMAGE_ROWS)], record["image.rows"].flip(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_anchors_are_identical(variant: str, records: dict[str, Record]) -> None:
    record = records[variant]
    output = record.output()
    anchors = make_anchors(output.level_shapes, output.strides)
    for level, part in zip(LEVELS, output.levels, strict=True):
        assert torch.equal(anchors[part], record[f"anchors.{level}"])


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_recorded_head_outputs_give_exactly_the_recorded_detections(
    variant: str, aggregation: Aggregation, records: dict[str, Record]
) -> None:
    record = records[variant]
    output = record.output()
    token_map = token_map_of(record.meta["positive_map_label_to_token"], output.alignment_logits.shape[2])
    found = record.post_processor(aggregation).decode(output, 0, token_map)
    recorded = record.detections(f"det.{aggregation.upper()}")
    assert len(found[0]) == len(recorded[0]) == 100
    assert count_unmatched(found, recorded, pixels=PIXEL_ROUNDING, score=SCORE_ROUNDING) == 0
    torch.testing.assert_close(found[1], recorded[1], atol=SCORE_ROUNDING, rtol=0)  # best first, both
    resized, raw = record.meta["resized_hw"], record.meta["raw_hw"]
    scaled = scale_boxes(found[0], tuple(resized), tuple(raw)), *found[1:]
    original = record.detections(f"det.{aggregation.upper()}", boxes="boxes_original_image")
    assert count_unmatched(scaled, original, pixels=PIXEL_ROUNDING, score=SCORE_ROUNDING) == 0


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_each_level_sends_the_recorded_candidates_on(
    variant: str, aggregation: Aggregation, records: dict[str, Record]
) -> None:
    """Without suppression and limit, the detections are the candidates of all levels together."""
    record = records[variant]
    output = record.output()
    token_map = token_map_of(record.meta["positive_map_label_to_token"], output.alignment_logits.shape[2])
    rules = replace(record.post_processor(aggregation), nms_threshold=1.0, max_detections=100_000)
    found = rules.decode(output, 0, token_map)
    boxes, scores, labels = (
        torch.cat([record[f"cand.{aggregation.upper()}.{level}.{part}"] for level in LEVELS])
        for part in ("boxes", "scores", "labels")
    )
    assert len(found[0]) == len(boxes)
    assert count_unmatched(found, (boxes, scores, labels - 1), pixels=PIXEL_ROUNDING, score=SCORE_ROUNDING) == 0


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_end_to_end_at_most_two_of_a_hundred_detections_differ(
    variant: str,
    aggregation: Aggregation,
    records: dict[str, Record],
    runs: dict[tuple[str, bool], Run],
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    record, (output, _) = records[variant], runs[variant, False]
    prompt = prompt_from_labels(record.meta["categories"])
    words = tokenize_prompts([prompt], tokenizer)
    assert prompt.caption == record.meta["caption"]
    assert torch.equal(words.input_ids, output.input_ids)
    found = record.post_processor(aggregation).decode(output, 0, words.token_maps[0])
    recorded = record.detections(f"det.{aggregation.upper()}")
    assert len(found[0]) == len(recorded[0]) == 100
    assert count_unmatched(found, recorded, pixels=0.05, score=HEAD_TOLERANCE) <= 2


def test_tower_modules_are_those_of_the_official_tower(records: dict[str, Record]) -> None:
    for record in records.values():
        names = (re.match(r"tower\.(\d+)\.(\w+)\.", name) for name in record.tensor_names)
        found = {int(match[1]): match[2] for match in names if match}
        assert [found[index] for index in sorted(found)] == record.meta["tower"]
