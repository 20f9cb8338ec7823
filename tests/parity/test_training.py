"""One official training step of two photos: losses, assignment, and the gradient of every parameter."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from glip.data.dataset import Batch
from glip.detection.anchors import make_anchors
from glip.detection.assigners import UNASSIGNED, AtssAssigner
from glip.detection.box_coder import decode_boxes, encode_boxes
from glip.detection.losses import centerness_targets
from glip.engine.config import TrainConfig
from glip.engine.trainer import Trainer
from glip.engine.tuning import TuningConfig
from glip.models.glip import GlipModel
from glip.processing import GlipImageProcessor, GlipProcessor
from glip.structures.output import GlipOutput
from glip.structures.targets import Targets
from tests.parity.official import (
    DATA,
    HEAD_TOLERANCE,
    LEVELS,
    Record,
    load_official,
    normalize_bgr_record,
    ours,
    read_weights,
    without_dropout,
)

OFFICIAL_LOSSES = {
    "loss_dot_product_token": "loss_alignment",
    "loss_reg": "loss_giou",
    "loss_centerness": "loss_centerness",
}
ZERO_GRADIENT = ".attention.self.key.bias"  # moves all scores of a query alike; what is left is noise


@pytest.fixture(scope="module")
def record() -> Record:
    return Record(DATA, "public", "train")


@pytest.fixture(scope="module")
def targets(record: Record) -> list[Targets]:
    rows = record["positive_map"].bool()
    first = len(record["gt_boxes.0"])
    return [
        Targets(record[f"gt_boxes.{index}"], part, torch.arange(len(part)))
        for index, part in enumerate((rows[:first], rows[first:]))
    ]


def batch(record: Record) -> tuple[Tensor, Tensor]:
    """Padded images and their true sizes."""
    height, width = record.meta["train"]["padded"][2:]
    images = torch.zeros(2, 3, height, width)
    for index in range(2):
        pixels = normalize_bgr_record(record[f"image_rgb_uint8.{index}"])
        images[index, :, : pixels.shape[1], : pixels.shape[2]] = pixels
    return images, torch.tensor(record.meta["train"]["image_sizes_hw"])


@pytest.fixture(scope="module")
def trainer(record: Record, tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerBase) -> Trainer:
    """The trainer of `tools/train.py`, started from the official weights, without dropout."""
    folder = tmp_path_factory.mktemp("official")
    state = read_weights(DATA / "public_weights_f16.npz")
    load_official(state, record.meta, folder).save_pretrained(folder / "start")
    GlipProcessor(GlipImageProcessor(), tokenizer).save_pretrained(folder / "start")
    config = TrainConfig(
        start=folder / "start",
        output=folder / "run",
        sources=({"annotations": "never read", "kind": "grounding"},),  # type: ignore[arg-type]  # pydantic makes it
        steps=1,
        tuning=TuningConfig(frozen=()),
    )
    made = Trainer(config)
    without_dropout(made.model)
    return made


@pytest.fixture(scope="module")
def model(trainer: Trainer) -> GlipModel:
    return trainer.model


@pytest.fixture(scope="module")
def step(record: Record, trainer: Trainer, targets: list[Targets]) -> tuple[GlipOutput, dict[str, Tensor]]:
    """Forward, loss and backward as a training step does them, and what the network said."""
    images, sizes = batch(record)
    ids, mask = record["tokens.input_ids"], record["tokens.attention_mask"].bool()
    losses = trainer._losses(Batch(images, sizes, ids, mask, tuple(targets), ("coffee", "cat")))
    torch.stack(list(losses.values())).sum().backward()
    with torch.no_grad():
        output = trainer.model(images, ids, mask, sizes)
    return output, losses


def test_the_input_is_the_recorded_one(record: Record) -> None:
    images, _ = batch(record)
    rows = record["images.sample_rows"].flip(1)
    torch.testing.assert_close(images[:, :, 100:102], rows, atol=1e-5, rtol=0)


def test_losses_agree(record: Record, step: tuple[GlipOutput, dict[str, Tensor]]) -> None:
    for official, name in OFFICIAL_LOSSES.items():
        expected = torch.tensor(record.meta["train"]["losses"][official])
        torch.testing.assert_close(step[1][name].detach(), expected, rtol=1e-4, atol=0, msg=name)


def test_head_outputs_agree(record: Record, step: tuple[GlipOutput, dict[str, Tensor]]) -> None:
    output = step[0]
    for index, name, width in ((0, "head.bbox_reg", 4), (1, "head.centerness", 1)):
        found = (output.box_deltas, output.centerness_logits.unsqueeze(-1))[index].detach()
        torch.testing.assert_close(found, record.levels(name, width), atol=HEAD_TOLERANCE, rtol=0)
    level = output.levels[2]
    found = output.alignment_logits[:, level].detach()
    torch.testing.assert_close(found, record["head.dot_product_logits.2"], atol=HEAD_TOLERANCE, rtol=0)


def test_every_gradient_norm_agrees(record: Record, model: GlipModel, step: object) -> None:
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    norms: dict[str, float] = record.meta["train"]["grad_norms"]
    compared = 0
    for official, norm in norms.items():
        if not official.endswith(ZERO_GRADIENT):
            gradient = gradients[ours(official)]
            assert gradient is not None, official
            torch.testing.assert_close(float(gradient.norm()), norm, rtol=1e-3, atol=1e-7, msg=official)
            compared += 1
    assert compared > 280


def test_recorded_gradients_agree(record: Record, model: GlipModel, step: object) -> None:
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    names = [name for name in record.arrays.files if name.startswith("grad.") and not name.endswith(ZERO_GRADIENT)]
    assert len(names) > 50
    for name in names:
        expected = record[name]
        gradient = gradients[ours(name.removeprefix("grad."))]
        assert gradient is not None
        scale = float(expected.abs().max())
        torch.testing.assert_close(
            gradient.view(expected.shape), expected, atol=1e-3 * max(scale, 1e-6), rtol=0, msg=name
        )


@pytest.mark.parametrize("image", [0, 1])
def test_assigned_anchors_and_their_targets_are_identical(
    image: int, record: Record, targets: list[Targets], step: tuple[GlipOutput, Any]
) -> None:
    output, target = step[0], targets[image]
    anchors = make_anchors(output.level_shapes, output.strides)
    assigned = AtssAssigner()(
        anchors,
        output.levels,
        target,
        alignment_logits=output.alignment_logits[image],
        box_deltas=output.box_deltas[image],
    )
    assert torch.equal(assigned, record[f"assign.matched_gt_index.{image}"])
    positive = (assigned != UNASSIGNED).nonzero()[:, 0]
    assert torch.equal(positive, record[f"assign.positive_anchor_indices.{image}"])
    deltas = encode_boxes(target.boxes[assigned[positive]], anchors[positive])
    torch.testing.assert_close(deltas, record[f"assign.reg_targets_of_positives.{image}"])
    rows = target.token_map[assigned[positive]].float()
    recorded = record[f"assign.token_labels_of_positives.{image}"].float()
    torch.testing.assert_close(rows, recorded)


def test_centerness_targets_agree(record: Record, targets: list[Targets], step: tuple[GlipOutput, Any]) -> None:
    anchors = make_anchors(step[0].level_shapes, step[0].strides)
    found = []
    for image, target in enumerate(targets):
        assigned = record[f"assign.matched_gt_index.{image}"]
        positive = assigned != UNASSIGNED
        boxes = decode_boxes(encode_boxes(target.boxes[assigned[positive]], anchors[positive]), anchors[positive])
        found.append(centerness_targets(boxes, anchors[positive]))
    torch.testing.assert_close(torch.cat(found), record["centerness_targets_of_positives"], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_batch_in_evaluation_agrees(record: Record, model: GlipModel, step: object) -> None:
    images, sizes = batch(record)
    was_training = model.training
    model.eval()
    output = model(images, record["tokens.input_ids"], record["tokens.attention_mask"], sizes)
    model.train(was_training)
    expected = record.levels("batch_eval.head.bbox_reg", 4)
    torch.testing.assert_close(output.box_deltas, expected, atol=HEAD_TOLERANCE, rtol=0)
    assert len(output.level_shapes) == len(LEVELS)
