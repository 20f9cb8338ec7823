"""One official training step of two photos: losses, assignment, and the gradient of every parameter."""

import pytest
import torch
from torch import Tensor

from glip.detection.anchors import make_anchors
from glip.detection.assigners import UNASSIGNED, AtssAssigner
from glip.detection.box_coder import decode_boxes, encode_boxes
from glip.detection.losses import GlipCriterion, centerness_targets
from glip.models.glip import GlipModel
from glip.structures.output import GlipOutput
from tests.parity.official import (
    DATA,
    HEAD_TOLERANCE,
    LOSS_NAMES,
    ZERO_GRADIENT,
    Comparison,
    Record,
    assert_agrees,
    load_official,
    ours,
    read_weights,
    token_map_of,
    without_dropout,
)
from tests.parity.recorder import by_level, count_unmatched, recording

IMAGES = [pytest.param(0, id="of the coffee"), pytest.param(1, id="of the cat")]
Step = tuple[GlipOutput, dict[str, Tensor], dict[str, Tensor]]


@pytest.fixture(scope="module")
def record() -> Record:
    return Record(DATA, "public", "train")


@pytest.fixture(scope="module")
def model(record: Record, tmp_path_factory: pytest.TempPathFactory) -> GlipModel:
    state = read_weights(DATA / "public_weights_f16.npz")
    return load_official(state, record.meta, tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def evaluated(record: Record, model: GlipModel) -> tuple[GlipOutput, dict[str, Tensor]]:
    """The batch in evaluation mode, and everything inside the network."""
    images, sizes = record.training_images()
    with torch.inference_mode(), recording(model) as seen:
        output = model(images, *record.words(padded=True), sizes)
    return output, seen


@pytest.fixture(scope="module")
def step(record: Record, model: GlipModel, evaluated: object) -> Step:
    """Output, losses and gradients in training mode without dropout; after `evaluated`, which needs the other mode."""
    without_dropout(model)
    images, sizes = record.training_images()
    output = model(images, *record.words(padded=True), sizes)
    losses = GlipCriterion()(output, record.training_targets(256))
    torch.stack(list(losses.values())).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return output, losses, gradients


def test_the_input_is_the_recorded_one(record: Record) -> None:
    images, _ = record.training_images()
    torch.testing.assert_close(images[:, :, 100:102], record["images.sample_rows"].flip(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("official", LOSS_NAMES)
def test_the_loss_agrees(official: str, record: Record, step: Step) -> None:
    expected = torch.tensor(record.meta["train"]["losses"][official])
    torch.testing.assert_close(step[1][LOSS_NAMES[official]].detach(), expected, rtol=1e-4, atol=0)


def test_the_sum_of_losses_agrees(record: Record, step: Step) -> None:
    total = torch.stack(list(step[1].values())).sum().detach()
    torch.testing.assert_close(total, torch.tensor(record.meta["train"]["total"]), rtol=1e-4, atol=0)


@torch.inference_mode()
def test_losses_do_not_depend_on_padding_the_captions(record: Record, model: GlipModel, step: Step) -> None:
    images, sizes = record.training_images()
    ids, mask = record.words(padded=False)
    losses = GlipCriterion()(model(images, ids, mask, sizes), record.training_targets(ids.shape[1]))
    found, expected = (torch.stack([part[name] for name in losses]) for part in (losses, step[1]))
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=0)


def test_head_outputs_agree(record: Record, step: Step) -> None:
    compared = set()
    for comparison in record.comparisons(by_level(step[0]), real=256):
        assert_agrees(comparison)
        compared.add(comparison.name)
    assert compared == record.tensor_names


def test_every_gradient_norm_agrees(record: Record, model: GlipModel, step: Step) -> None:
    norms: dict[str, float] = record.meta["train"]["grad_norms"]
    assert {ours(name) for name in norms} == {name for name, _ in model.named_parameters()}
    for official, norm in norms.items():
        if not official.endswith(ZERO_GRADIENT):
            found = float(step[2][ours(official)].norm())
            assert found == pytest.approx(norm, rel=1e-3, abs=1e-9), official


def test_gradients_that_are_zero_in_theory_are_noise(record: Record, step: Step) -> None:
    names = [name for name in record.meta["train"]["grad_norms"] if name.endswith(ZERO_GRADIENT)]
    assert len(names) == 4  # two layers of BERT, one text layer a block
    for name in names:
        assert float(step[2][ours(name)].norm()) < 1e-3, name
    assert float(step[2]["head.scales.4"].abs()) == 0.0  # no box is large enough for the coarsest level


def test_the_norm_of_all_gradients_agrees(record: Record, step: Step) -> None:
    total = torch.stack([gradient.norm() for gradient in step[2].values()]).norm()
    torch.testing.assert_close(total, torch.tensor(record.meta["train"]["total_grad_norm"]), rtol=1e-4, atol=0)


def test_recorded_gradients_agree(record: Record, step: Step) -> None:
    names = [name for name in record.arrays.files if name.startswith("grad.") and not name.endswith(ZERO_GRADIENT)]
    assert len(names) > 80
    for name in names:
        expected = record[name]
        found = step[2][ours(name.removeprefix("grad."))].view(expected.shape)
        largest = float(expected.abs().max())
        assert_agrees(Comparison(name, found, expected, 1e-3 * largest))


@pytest.mark.parametrize("image", IMAGES)
def test_anchors_and_their_assignment_are_identical(image: int, record: Record, step: Step) -> None:
    output, target = step[0], record.training_targets(256)[image]
    anchors = make_anchors(output.level_shapes, output.strides)
    assert torch.equal(anchors, record[f"anchors.{image}"])
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


@pytest.mark.parametrize("image", IMAGES)
def test_targets_of_positive_anchors_agree(image: int, record: Record) -> None:
    target = record.training_targets(256)[image]
    positive = record[f"assign.positive_anchor_indices.{image}"]
    box = record[f"assign.matched_gt_index.{image}"][positive]
    deltas = encode_boxes(target.boxes[box], record[f"anchors.{image}"][positive])
    torch.testing.assert_close(deltas, record[f"assign.reg_targets_of_positives.{image}"], atol=1e-5, rtol=1e-5)
    assert torch.equal(target.token_map[box], record[f"assign.token_labels_of_positives.{image}"].bool())


@pytest.mark.parametrize("image", IMAGES)
def test_negatives_have_no_token_but_the_officials_masked_one(image: int, record: Record) -> None:
    """The official row is one at column 255, which is padding here and counts for nothing."""
    row = record[f"assign.token_label_of_negative.{image}"]
    assert row.nonzero().flatten().tolist() == [255]
    assert not record["tokens.attention_mask"][image, 255]


def test_centerness_targets_agree(record: Record) -> None:
    found = []
    for image, target in enumerate(record.training_targets(256)):
        positive = record[f"assign.positive_anchor_indices.{image}"]
        anchors = record[f"anchors.{image}"][positive]
        box = target.boxes[record[f"assign.matched_gt_index.{image}"][positive]]
        found.append(centerness_targets(decode_boxes(encode_boxes(box, anchors), anchors), anchors))
    torch.testing.assert_close(torch.cat(found), record["centerness_targets_of_positives"], atol=1e-5, rtol=1e-5)


def test_a_batch_in_evaluation_agrees(record: Record, evaluated: tuple[GlipOutput, dict[str, Tensor]]) -> None:
    output, seen = evaluated
    last = f"tower.{len(record.meta['tower']) - 1}.DyConv"
    renamed = {name.replace(last, "last_tower"): tensor for name, tensor in seen.items()}
    compared = set()
    for comparison in record.comparisons(renamed | by_level(output), real=256, prefix="batch_eval."):
        assert_agrees(comparison)
        compared.add(comparison.name)
    recorded = {name for name in record.arrays.files if name.startswith("batch_eval.") and ".det." not in name}
    assert compared == recorded


@pytest.mark.parametrize("image", IMAGES)
def test_at_most_two_detections_differ_in_a_batch(
    image: int, record: Record, evaluated: tuple[GlipOutput, dict[str, Tensor]]
) -> None:
    token_map = token_map_of(record.meta["train"]["batch_eval_positive_map"], 256)
    found = record.post_processor("mean").decode(evaluated[0], image, token_map)
    recorded = record.detections(f"batch_eval.det.{image}")
    assert len(found[0]) == len(recorded[0]) == 100
    assert count_unmatched(found, recorded, pixels=0.05, score=HEAD_TOLERANCE) <= 2
