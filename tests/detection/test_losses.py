"""Alignment by focal loss over real tokens; boxes by GIoU and L1, weighted by centerness; all in float32."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from glip.detection.anchors import make_anchors
from glip.detection.assigners import UNASSIGNED, HungarianAssigner
from glip.detection.box_coder import decode_boxes, encode_boxes
from glip.detection.losses import GlipCriterion, LossWeights, alignment_focal_loss, centerness_targets
from glip.errors import ShapeError
from glip.structures.boxes import elementwise_giou
from glip.structures.output import GlipOutput
from glip.structures.targets import Targets

SHAPES, STRIDES = ((4, 6), (2, 3)), (8, 16)
ANCHORS = make_anchors(SHAPES, STRIDES)
NAMES = {"loss_alignment", "loss_giou", "loss_l1", "loss_centerness"}
ALL_TERMS = LossWeights(alignment=1.0, giou=2.0, l1=1.0, centerness=1.0)


def make_output(batch: int = 2) -> GlipOutput:
    generator = torch.Generator().manual_seed(0)
    length, count = 5, len(ANCHORS)
    return GlipOutput(
        alignment_logits=torch.randn(batch, count, length, generator=generator).requires_grad_(),
        box_deltas=torch.randn(batch, count, 4, generator=generator).requires_grad_(),
        centerness_logits=torch.randn(batch, count, generator=generator).requires_grad_(),
        level_shapes=SHAPES,
        strides=STRIDES,
        image_sizes=torch.tensor([[32, 48]]).expand(batch, 2),
        input_ids=torch.zeros(batch, length, dtype=torch.int64),
        attention_mask=torch.tensor([True, True, True, True, False]).expand(batch, length),
    )


def make_targets(*boxes: list[float]) -> Targets:
    """Box i is named by token i + 1."""
    count = len(boxes)
    token_map = torch.zeros(count, 5, dtype=torch.bool)
    token_map[range(count), range(1, count + 1)] = True
    return Targets(torch.tensor(boxes).view(-1, 4), token_map, torch.arange(count))


BOXES = make_targets([-20.0, -20.0, 40.0, 42.0], [-10.0, -22.0, 50.0, 40.0])
NOTHING = make_targets()


class Chosen:
    """An assigner that gives box 0 to the anchors it was told, and remembers nothing else."""

    centres_inside = True

    def __init__(self, *anchors: int) -> None:
        self.anchors = anchors

    def __call__(self, anchors: Tensor, levels: object, targets: Targets, **_: Tensor) -> Tensor:
        """Box 0 for the chosen anchors, if there is one."""
        assigned = torch.full((len(anchors),), UNASSIGNED)
        if len(targets):
            assigned[list(self.anchors)] = 0
        return assigned


def hand_focal(logit: float, positive: bool) -> float:
    probability = 1 / (1 + math.exp(-logit))
    if positive:
        return -0.25 * (1 - probability) ** 2 * math.log(probability)
    return -0.75 * probability**2 * math.log(1 - probability)


def test_the_focal_loss_equals_a_loop_over_anchors_and_real_tokens() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 4, generator=generator) * 3
    targets = torch.rand(2, 3, 4, generator=generator) < 0.3
    mask = torch.tensor([[True, True, True, False], [True, True, False, False]])
    expected = 0.0
    for image in range(2):
        for anchor in range(3):
            for token in range(4):
                if mask[image, token]:
                    expected += hand_focal(float(logits[image, anchor, token]), bool(targets[image, anchor, token]))
    torch.testing.assert_close(alignment_focal_loss(logits, targets, mask), torch.tensor(expected))


@pytest.mark.parametrize(
    ("logit", "positive", "loss"),
    [
        pytest.param(0.0, True, 0.25 * 0.25 * math.log(2), id="an undecided positive"),
        pytest.param(0.0, False, 0.75 * 0.25 * math.log(2), id="an undecided negative"),
        pytest.param(50.0, True, 0.0, id="a sure positive"),
        pytest.param(-50_000.0, True, 0.25 * 50_000, id="a positive at the clamp"),
        pytest.param(-50_000.0, False, 0.0, id="a negative at the clamp"),
    ],
)
def test_the_focal_loss_of(logit: float, positive: bool, loss: float) -> None:
    found = alignment_focal_loss(
        torch.tensor([[[logit]]]), torch.tensor([[[positive]]]), torch.ones(1, 1, dtype=torch.bool)
    )
    torch.testing.assert_close(found, torch.tensor(loss))


def test_the_focal_loss_of_no_anchors_is_zero() -> None:
    found = alignment_focal_loss(
        torch.zeros(1, 0, 4), torch.zeros(1, 0, 4, dtype=torch.bool), torch.ones(1, 4, dtype=torch.bool)
    )
    assert found == 0


@pytest.mark.parametrize(
    ("box", "centerness"),
    [
        pytest.param([0.0, 0.0, 7.0, 7.0], 1.0, id="centred on the anchor"),
        pytest.param([2.5, 3.5 - 4, 6.5, 3.5 + 4], math.sqrt(1 / 3), id="with the centre at a quarter of its width"),
        pytest.param([2.5, 2.5, 6.5, 6.5], 1 / 3, id="with the centre at a quarter of both sides"),
        pytest.param([3.5, 0.0, 9.0, 7.0], 0.0, id="with the centre on its edge"),
        pytest.param([4.5, 0.0, 9.0, 7.0], 0.0, id="with the centre outside"),
    ],
)
def test_the_centerness_of_an_anchor_at_three_and_a_half_in_a_box(box: list[float], centerness: float) -> None:
    anchor = make_anchors([(1, 1)], [8])
    torch.testing.assert_close(centerness_targets(torch.tensor([box]), anchor), torch.tensor([centerness]))


def test_no_boxes_have_no_centerness() -> None:
    assert centerness_targets(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)


def one_image(
    box: list[float], anchor: int, deltas: list[float], weights: LossWeights = ALL_TERMS
) -> dict[str, Tensor]:
    """Losses of one image with one box and one positive anchor that predicts `deltas`."""
    output = make_output(1)
    box_deltas = output.box_deltas.detach().clone()
    box_deltas[0, anchor] = torch.tensor(deltas)
    output = GlipOutput(**{**dict(output.items()), "box_deltas": box_deltas})
    return GlipCriterion(assigner=Chosen(anchor), weights=weights)(output, [make_targets(box)])


def test_a_perfect_box_costs_nothing() -> None:
    box = [-10.0, -10.0, 30.0, 30.0]
    deltas = encode_boxes(torch.tensor([box]), ANCHORS[7:8])[0].tolist()
    losses = one_image(box, 7, deltas)
    torch.testing.assert_close(losses["loss_giou"], torch.tensor(0.0), rtol=0, atol=1e-5)
    torch.testing.assert_close(losses["loss_l1"], torch.tensor(0.0), rtol=0, atol=1e-5)


def test_the_l1_term_is_the_mean_distance_of_deltas() -> None:
    box = ANCHORS[7].tolist()  # its true deltas are 0
    losses = one_image(box, 7, [1.0, -2.0, 3.0, 0.0], LossWeights(l1=5.0))
    torch.testing.assert_close(losses["loss_l1"], torch.tensor(5 * 1.5))
    assert one_image(box, 7, [1.0, -2.0, 3.0, 0.0], LossWeights(l1=0.0))["loss_l1"] == 0


def test_the_giou_term_by_hand() -> None:
    # Box and anchor: 64 legacy pixels wide, so 63 in plain corners. Moved right by a delta of 5: half of 64 pixels.
    # Overlap 31 x 63, union 2 * 63 * 63 - overlap, hull 95 x 63.
    losses = one_image(ANCHORS[7].tolist(), 7, [5.0, 0.0, 0.0, 0.0], LossWeights(giou=3.0))
    overlap, union, hull = 31 * 63, 2 * 63 * 63 - 31 * 63, 95 * 63
    giou = overlap / union - (hull - union) / hull
    torch.testing.assert_close(losses["loss_giou"], torch.tensor(3 * (1 - giou)), rtol=1e-4, atol=1e-5)


def test_the_centerness_term_is_the_cross_entropy_with_the_target() -> None:
    losses = one_image(ANCHORS[7].tolist(), 7, [0.0] * 4)  # the anchor is its own box: the target is 1
    logit = float(make_output(1).centerness_logits[0, 7].detach())
    torch.testing.assert_close(losses["loss_centerness"], torch.tensor(math.log(1 + math.exp(-logit))))


def test_box_terms_are_weighted_by_centerness() -> None:
    # Anchors 7 and 8 have the same box, the anchor of 7: centerness 1, and (31.5 - 8) / (31.5 + 8) in x alone.
    output = make_output(1)
    losses = GlipCriterion(assigner=Chosen(7, 8), weights=ALL_TERMS)(output, [make_targets(ANCHORS[7].tolist())])
    weights = torch.tensor([1.0, math.sqrt(23.5 / 39.5)])
    truth = encode_boxes(ANCHORS[[7, 7]], ANCHORS[7:9])
    distances = (output.box_deltas.detach()[0, 7:9] - truth).abs().mean(dim=1)
    torch.testing.assert_close(losses["loss_l1"].detach(), (weights * distances).sum() / weights.sum())
    decoded = decode_boxes(output.box_deltas.detach()[0, 7:9], ANCHORS[7:9])
    costs = 2 * (1 - elementwise_giou(decoded, ANCHORS[[7, 7]]))
    torch.testing.assert_close(losses["loss_giou"].detach(), (weights * costs).sum() / weights.sum())


def test_box_terms_are_not_weighted_where_the_rule_lets_centres_lie_outside() -> None:
    assigner = Chosen(7, 8)
    assigner.centres_inside = False
    output = make_output(1)
    losses = GlipCriterion(assigner=assigner, weights=ALL_TERMS)(output, [make_targets(ANCHORS[7].tolist())])
    truth = encode_boxes(ANCHORS[[7, 7]], ANCHORS[7:9])
    distances = (output.box_deltas.detach()[0, 7:9] - truth).abs().mean(dim=1)
    torch.testing.assert_close(losses["loss_l1"].detach(), distances.mean())


def test_alignment_and_centerness_are_divided_by_the_number_of_positive_anchors() -> None:
    output, targets = make_output(), [make_targets(ANCHORS[7].tolist()), NOTHING]
    token_targets = torch.zeros(2, len(ANCHORS), 5, dtype=torch.bool)
    token_targets[0, 6:9, 1] = True
    expected = alignment_focal_loss(output.alignment_logits, token_targets, output.attention_mask) / 3
    losses = GlipCriterion(assigner=Chosen(6, 7, 8))(output, targets)
    torch.testing.assert_close(losses["loss_alignment"], expected)


def test_an_image_without_box_loss_counts_in_the_alignment_loss_only() -> None:
    output, told, loose = make_output(), make_targets(ANCHORS[7].tolist()), make_targets(ANCHORS[8].tolist())
    criterion = GlipCriterion(assigner=Chosen(7, 8), weights=ALL_TERMS)
    both = criterion(output, [told, loose])
    one = criterion(output, [told, replace(loose, box_loss=False)])
    alone = criterion(make_output(), [told, NOTHING])
    torch.testing.assert_close(one["loss_alignment"], both["loss_alignment"], rtol=0, atol=0)
    for name in NAMES - {"loss_alignment"}:
        torch.testing.assert_close(one[name], alone[name], rtol=0, atol=0)
        assert one[name] != both[name]
    torch.stack(list(one.values())).sum().backward()
    for prediction in (output.box_deltas, output.centerness_logits):
        assert prediction.grad is not None
        assert prediction.grad[0].abs().max() > 0
        assert prediction.grad[1].abs().max() == 0


def test_a_mean_over_processes_replaces_the_count_and_the_sum_of_weights() -> None:
    output, targets = make_output(), [BOXES, NOTHING]
    alone = GlipCriterion(weights=ALL_TERMS)(output, targets)
    shared = GlipCriterion(weights=ALL_TERMS, reduce_mean=lambda number: 2 * number)(output, targets)
    for name in NAMES:
        torch.testing.assert_close(shared[name], alone[name] / 2)


def test_pads_teach_nothing() -> None:
    output = make_output()
    GlipCriterion()(output, [BOXES, NOTHING])["loss_alignment"].backward()
    assert output.alignment_logits.grad is not None
    assert output.alignment_logits.grad[..., 4].abs().max() == 0
    assert output.alignment_logits.grad[..., :4].abs().min() > 0


def test_a_token_that_names_no_box_is_a_negative_everywhere_cls_and_sep_included() -> None:
    output = make_output()
    GlipCriterion()(output, [BOXES, NOTHING])["loss_alignment"].backward()
    assert output.alignment_logits.grad is not None
    assert (output.alignment_logits.grad[..., [0, 3]] > 0).all()  # a step down the gradient lowers these scores


def test_images_without_boxes_give_finite_losses_zero_box_terms_and_a_gradient() -> None:
    output = make_output()
    losses = GlipCriterion(weights=ALL_TERMS)(output, [NOTHING, NOTHING])
    assert losses.keys() == NAMES
    assert losses["loss_alignment"].isfinite()
    assert losses["loss_alignment"] > 0
    assert [float(losses[name].detach()) for name in ("loss_giou", "loss_l1", "loss_centerness")] == [0.0] * 3
    torch.stack(list(losses.values())).sum().backward()
    for prediction in (output.alignment_logits, output.box_deltas, output.centerness_logits):
        assert prediction.grad is not None  # every process of a training run must have one
        assert prediction.grad.isfinite().all()


def test_an_image_without_boxes_costs_its_neighbour_nothing_in_box_terms() -> None:
    output = make_output()
    first: dict[str, Any] = {name: value[:1] for name, value in output.items() if isinstance(value, Tensor)}
    alone = GlipOutput(**first, level_shapes=SHAPES, strides=STRIDES)
    together = GlipCriterion(weights=ALL_TERMS)(output, [BOXES, NOTHING])
    apart = GlipCriterion(weights=ALL_TERMS)(alone, [BOXES])
    for name in ("loss_giou", "loss_l1", "loss_centerness"):
        torch.testing.assert_close(together[name], apart[name])


@pytest.mark.parametrize("assigner", [pytest.param(None, id="ATSS"), pytest.param(HungarianAssigner(), id="Hungarian")])
def test_every_prediction_has_a_gradient_and_inputs_are_unchanged_with(assigner: HungarianAssigner | None) -> None:
    output, targets = make_output(), [BOXES, NOTHING]
    tensors = [output.alignment_logits, output.box_deltas, output.centerness_logits, BOXES.boxes, BOXES.token_map]
    before = [tensor.detach().clone() for tensor in tensors]
    losses = GlipCriterion(assigner=assigner, weights=ALL_TERMS)(output, targets)
    assert losses.keys() == NAMES
    torch.stack(list(losses.values())).sum().backward()
    for prediction in tensors[:3]:
        assert prediction.grad is not None
        assert prediction.grad.isfinite().all()
        assert prediction.grad[0].abs().max() > 0
    for tensor, copy in zip(tensors, before, strict=True):
        assert torch.equal(tensor.detach(), copy)


def test_steps_down_the_gradient_lower_every_term() -> None:
    output = make_output()
    predictions = [output.alignment_logits, output.box_deltas, output.centerness_logits]
    criterion = GlipCriterion(weights=ALL_TERMS)
    optimizer = torch.optim.Adam(predictions, lr=0.05)
    history = []
    for _ in range(150):
        losses = criterion(output, [BOXES, NOTHING])
        history.append({name: float(loss.detach()) for name, loss in losses.items()})
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    for name in NAMES:
        assert history[-1][name] < history[0][name], name
    assert history[-1]["loss_alignment"] < 0.1 * history[0]["loss_alignment"]
    assert history[-1]["loss_giou"] < 0.1


def test_half_precision_predictions_give_float32_losses() -> None:
    output = make_output()
    half = GlipOutput(
        **{
            **dict(output.items()),
            **{name: output[name].bfloat16() for name in ("alignment_logits", "box_deltas", "centerness_logits")},
        }
    )
    for loss in GlipCriterion(weights=ALL_TERMS)(half, [BOXES, NOTHING]).values():
        assert loss.dtype == torch.float32


def test_images_and_targets_must_pair() -> None:
    with pytest.raises(ShapeError, match="each image needs its targets, got 1 for 2 images"):
        GlipCriterion()(make_output(), [BOXES])


def test_a_token_map_of_another_caption_length_is_refused() -> None:
    long = replace(BOXES, token_map=torch.zeros(2, 7, dtype=torch.bool))
    with pytest.raises(ShapeError, match=r"token_map must be \(N, 5\), as long as the batch's captions, got \(2, 7\)"):
        GlipCriterion()(make_output(), [BOXES, long])


def test_truth_beyond_the_coders_reach_is_compared_after_the_same_clamp() -> None:
    # Truth 100 times as wide as the anchor decodes to 62.5 times; a prediction at the clamp is then perfect.
    anchor = ANCHORS[7:8]
    box = torch.tensor([[-3200.0, -20.0, 3200.0 - 1, 43.0]])
    deltas = encode_boxes(box, anchor)
    assert not torch.allclose(decode_boxes(deltas, anchor), box)
    losses = one_image(box[0].tolist(), 7, deltas[0].tolist())
    torch.testing.assert_close(losses["loss_giou"], torch.tensor(0.0), rtol=0, atol=1e-5)
