"""Two small official models, with and without fusion: every module gives the recorded numbers.

Tolerances: 2e-4 for head outputs, ten times the official model's own float32 error elsewhere.
"""

from typing import Literal

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from glip.detection.postprocess import PostProcessor
from glip.models.glip import GlipModel
from glip.structures.boxes import scale_boxes
from glip.text.prompts import prompt_from_labels
from glip.text.tokens import tokenize_prompts
from tests.parity.official import DATA, HEAD_TOLERANCE, LEVELS, Record, load_official, read_weights, run_recorded

VARIANTS = [pytest.param("public", id="with fusion"), pytest.param("public_a", id="without fusion")]
CAPTION_LENGTHS = [pytest.param(False, id="at the caption's length"), pytest.param(True, id="padded to 256")]
AGGREGATIONS = [pytest.param("mean", id="mean over tokens"), pytest.param("max", id="best token")]


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


def words_of(record: Record, *, padded: bool) -> tuple[Tensor, Tensor]:
    ids, mask = record["tokens.input_ids"], record["tokens.attention_mask"].bool()
    length = ids.shape[1] if padded else int(mask.sum())
    return ids[:, :length], mask[:, :length]


def swin_maps(record: Record, model: GlipModel) -> list[Tensor]:
    """The backbone's maps: computed from the photo, or as recorded where the weights are left out."""
    if "image.raw_rgb_uint8" in record:
        maps: list[Tensor] = model.backbone(record.image())
        return maps
    return [record[f"swin.out.{stage}"] for stage in (1, 2, 3)]


@pytest.mark.parametrize("padded", CAPTION_LENGTHS)
@pytest.mark.parametrize("variant", VARIANTS)
@torch.inference_mode()
def test_every_recorded_tensor_of(
    variant: str, padded: bool, records: dict[str, Record], models: dict[str, GlipModel]
) -> None:
    record, model = records[variant], models[variant]
    ids, mask = words_of(record, padded=padded)
    real = int(mask.sum())
    maps = swin_maps(record, model)
    levels = model.fpn(maps)
    seen = {f"swin.out.{stage}": features for stage, features in zip((1, 2, 3), maps, strict=True)}
    seen |= {f"fpn.{index}": level for index, level in enumerate(levels)}
    seen |= run_recorded(model, levels, ids, mask)
    compared = 0
    for name, tensor in seen.items():
        if name in record:
            found = tensor[:, :real] if "lang" in name else tensor
            torch.testing.assert_close(found, record[name], atol=record.tolerance(name), rtol=0, msg=name)
            compared += 1
    assert compared >= (35 if variant == "public" else 15)


@pytest.mark.parametrize("padded", CAPTION_LENGTHS)
@pytest.mark.parametrize("variant", VARIANTS)
@torch.inference_mode()
def test_head_outputs_of(variant: str, padded: bool, records: dict[str, Record], models: dict[str, GlipModel]) -> None:
    record, model = records[variant], models[variant]
    ids, mask = words_of(record, padded=padded)
    output = model.align(model.fpn(swin_maps(record, model)), ids, mask)
    expected = record.output()
    real = int(mask.sum())
    torch.testing.assert_close(
        output.alignment_logits[..., :real], expected.alignment_logits[..., :real], atol=HEAD_TOLERANCE, rtol=0
    )
    torch.testing.assert_close(output.box_deltas, expected.box_deltas, atol=HEAD_TOLERANCE, rtol=0)
    torch.testing.assert_close(output.centerness_logits, expected.centerness_logits, atol=HEAD_TOLERANCE, rtol=0)
    assert output.level_shapes == expected.level_shapes


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_recorded_head_outputs_give_exactly_the_recorded_detections_of(
    variant: str, aggregation: Literal["mean", "max"], records: dict[str, Record]
) -> None:
    record = records[variant]
    output = record.output()
    token_map = record.token_map(output.alignment_logits.shape[2])
    boxes, scores, labels = PostProcessor(aggregation=aggregation).decode(output, 0, token_map)
    prefix = f"det.{aggregation.upper()}"
    order = record[f"{prefix}.scores"].argsort(descending=True, stable=True)
    assert torch.equal(scores, record[f"{prefix}.scores"][order])
    assert torch.equal(boxes, record[f"{prefix}.boxes"][order])
    assert torch.equal(labels + 1, record[f"{prefix}.labels"][order])
    resized, raw = record.meta["resized_hw"], record.meta["raw_hw"]
    original = scale_boxes(boxes, tuple(resized), tuple(raw))
    torch.testing.assert_close(original, record[f"{prefix}.boxes_original_image"][order], atol=1e-3, rtol=0)


@torch.inference_mode()
def test_from_photo_and_words_at_most_two_of_a_hundred_detections_differ(
    records: dict[str, Record], models: dict[str, GlipModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    record, model = records["public"], models["public"]
    prompt = prompt_from_labels(record.meta["categories"])
    assert prompt.caption == record.meta["caption"]
    words = tokenize_prompts([prompt], tokenizer)
    sizes = torch.tensor([record.meta["resized_hw"]])
    output = model(record.image(), words.input_ids, words.attention_mask, sizes)
    boxes, scores, labels = PostProcessor().decode(output, 0, words.token_maps[0])
    recorded = zip(record["det.MEAN.boxes"], record["det.MEAN.scores"], record["det.MEAN.labels"], strict=True)
    unmatched = 0
    for box, score, label in recorded:
        same_place = ((boxes - box).abs().amax(dim=1) < 0.05) & ((scores - score).abs() < 1e-3)
        unmatched += int(not (same_place & (labels + 1 == label)).any())
    assert len(boxes) == len(record["det.MEAN.boxes"])
    assert unmatched <= 2


def test_the_records_cover_all_levels(records: dict[str, Record]) -> None:
    for record in records.values():
        assert all(f"head.bbox_reg.{level}" in record for level in LEVELS)
