"""An assigner gives each anchor a box or none: ATSS by statistics of overlap, Hungarian one anchor to a box."""

import itertools

import pytest
import torch
from torch import Tensor

from glip.detection.anchors import make_anchors
from glip.detection.assigners import UNASSIGNED, Assigner, AtssAssigner, HungarianAssigner
from glip.detection.box_coder import decode_boxes, encode_boxes
from glip.structures.targets import Targets

SHAPES, STRIDES = [(4, 4), (2, 2)], [8, 16]
ANCHORS = make_anchors(SHAPES, STRIDES)
LEVELS = [slice(0, 16), slice(16, 20)]


def make_targets(*boxes: list[float]) -> Targets:
    """Box i is named by token i."""
    count = len(boxes)
    return Targets(torch.tensor(boxes).view(-1, 4), torch.eye(count, 3, dtype=torch.bool), torch.arange(count))


def assign(assigner: Assigner, targets: Targets, logits: Tensor | None = None, deltas: Tensor | None = None) -> Tensor:
    return assigner(
        ANCHORS,
        LEVELS,
        targets,
        alignment_logits=torch.zeros(20, 3) if logits is None else logits,
        box_deltas=torch.zeros(20, 4) if deltas is None else deltas,
    )


@pytest.mark.parametrize(
    "assigner", [pytest.param(AtssAssigner(), id="ATSS"), pytest.param(HungarianAssigner(), id="Hungarian")]
)
def test_without_boxes_no_anchor_has_one_by(assigner: Assigner) -> None:
    found = assign(assigner, make_targets())
    assert found.tolist() == [UNASSIGNED] * 20
    assert found.dtype == torch.int64


def test_atss_with_one_candidate_a_level_takes_the_better_overlap() -> None:
    # Nearest anchors of the box with centre (11.5, 11.5): number 5 (row 1, column 1), 64 wide, and number 16, the
    # coarse one at (7.5, 7.5), 128 wide. Legacy IoU of the 64-pixel box: 1, and 64 * 64 / 128 ** 2 = 0.25.
    # Mean 0.625 and deviation 0.5303 make a threshold of 1.1553: not even the perfect anchor reaches it.
    box = ANCHORS[5].tolist()
    assert assign(AtssAssigner(top_k=1), make_targets(box)).tolist() == [UNASSIGNED] * 20


def test_atss_with_two_candidates_a_level_by_hand() -> None:
    # The box is anchor 5 moved 1 to the right: centre (12.5, 11.5). Nearest at stride 8: number 5 at 1 pixel and
    # number 6 at 7; at stride 16: number 16 at 6.4 and number 17 at 11.7 pixels.
    # Legacy IoU: 63 / 65, 57 / 71 and twice 64 * 64 / 128 ** 2 (the box lies inside both).
    box = [-19.0, -20.0, 44.0, 43.0]
    overlaps = torch.tensor([63 / 65, 57 / 71, 0.25, 0.25])
    threshold = float(overlaps.mean() + overlaps.std())  # 0.568 + 0.373 = 0.941
    assert 57 / 71 < threshold < 63 / 65
    expected = [UNASSIGNED] * 20
    expected[5] = 0
    assert assign(AtssAssigner(top_k=2), make_targets(box)).tolist() == expected


@pytest.mark.parametrize(
    ("margin", "positive"),
    [
        pytest.param(-1.0, False, id="outside the box"),
        pytest.param(0.005, False, id="inside by less than a hundredth of a pixel"),
        pytest.param(0.02, True, id="inside by more"),
    ],
)
def test_atss_and_a_centre_that_lies(margin: float, positive: bool) -> None:
    # A small box, next to the centre (11.5, 11.5) of anchor 5. With one candidate on each of three levels the overlaps
    # are as 1 : 1/4 : 1/16, and their mean plus deviation is 0.4375 + 0.496 of the first: overlap alone is enough.
    anchors = make_anchors([(4, 4), (2, 2), (1, 1)], [8, 16, 32])
    found = AtssAssigner(top_k=1)(
        anchors,
        [*LEVELS, slice(20, 21)],
        make_targets([11.5 - margin, 10.0, 13.5, 13.0]),
        alignment_logits=torch.zeros(21, 3),
        box_deltas=torch.zeros(21, 4),
    )
    assert (found != UNASSIGNED).nonzero().flatten().tolist() == ([5] if positive else [])


def test_an_anchor_that_two_boxes_claim_goes_to_the_higher_overlap() -> None:
    better, worse = ANCHORS[5].tolist(), (ANCHORS[5] + torch.tensor([3.0, 0.0, 3.0, 0.0])).tolist()
    for boxes, winner in (((better, worse), 0), ((worse, better), 1)):
        alone = assign(AtssAssigner(top_k=4), make_targets(worse))
        assert alone[5] == 0, "the worse box alone would have the anchor"
        assert assign(AtssAssigner(top_k=4), make_targets(*boxes))[5] == winner


def test_overlap_counts_sides_one_pixel_longer() -> None:
    # Both boxes lie centred inside anchor 5. In plain corners the square is larger (39.75 ** 2 = 1580 over
    # 63 * 25 = 1575), with a pixel more on each side the bar is (64 * 26 = 1664 over 40.75 ** 2 = 1661).
    anchors = make_anchors([(4, 4), (2, 2), (1, 1)], [8, 16, 32])
    found = AtssAssigner(top_k=1)(
        anchors,
        [*LEVELS, slice(20, 21)],
        make_targets([-8.375, -8.375, 31.375, 31.375], [-20.0, -1.0, 43.0, 24.0]),
        alignment_logits=torch.zeros(21, 3),
        box_deltas=torch.zeros(21, 4),
    )
    assert found[5] == 1


def test_hungarian_gives_each_box_the_anchor_that_predicts_it() -> None:
    targets = make_targets([0.0, 0.0, 20.0, 10.0], [5.0, 5.0, 30.0, 30.0])
    deltas = torch.zeros(20, 4)
    deltas[[3, 18]] = encode_boxes(targets.boxes, ANCHORS[[3, 18]])
    found = assign(HungarianAssigner(), targets, deltas=deltas)
    expected = [UNASSIGNED] * 20
    expected[3], expected[18] = 0, 1
    assert found.tolist() == expected


def test_hungarian_prefers_among_equal_boxes_the_anchor_that_believes_in_the_words() -> None:
    targets = make_targets([0.0, 0.0, 20.0, 10.0])
    deltas = encode_boxes(targets.boxes.expand(20, 4), ANCHORS)  # every anchor predicts the box
    logits = torch.full((20, 3), -2.0)
    logits[7, 0] = 1.0
    logits[9, 1] = 9.0  # another box's token
    assert (assign(HungarianAssigner(), targets, logits, deltas) != UNASSIGNED).nonzero().flatten().tolist() == [7]


def test_hungarian_finds_the_least_total_cost_not_the_least_of_each() -> None:
    # With two anchors: box 0 is happy with either, box 1 only with anchor 0.
    anchors, levels = ANCHORS[:2], [slice(0, 2)]
    targets = make_targets([0.0, 0.0, 20.0, 10.0], [0.0, 0.0, 20.0, 10.0])
    logits = torch.tensor([[3.0, 3.0, 0.0], [2.9, -3.0, 0.0]])
    deltas = encode_boxes(targets.boxes, anchors)
    found = HungarianAssigner()(anchors, levels, targets, alignment_logits=logits, box_deltas=deltas)
    assert found.tolist() == [1, 0]


def test_hungarian_is_the_cheapest_of_all_matchings() -> None:
    generator = torch.Generator().manual_seed(0)
    anchors, deltas, logits = (
        ANCHORS[:5],
        torch.randn(5, 4, generator=generator),
        torch.randn(5, 3, generator=generator),
    )
    targets = make_targets([0.0, 0.0, 40.0, 30.0], [10.0, 5.0, 60.0, 50.0], [-10.0, 0.0, 30.0, 60.0])
    found = HungarianAssigner(alignment_weight=1.0, l1_weight=1.0, giou_weight=0.0)(
        anchors, [slice(0, 5)], targets, alignment_logits=logits, box_deltas=deltas
    )
    boxes = decode_boxes(deltas, anchors)

    def cost(anchor: int, box: int) -> float:
        truth = targets.boxes[box]
        side = float((truth[2] - truth[0] + truth[3] - truth[1]) / 2 + 1)
        return float(1 - logits[anchor, box].sigmoid() + (boxes[anchor] - truth).abs().mean() / side)

    best = min(
        itertools.permutations(range(5), 3), key=lambda chosen: sum(cost(a, box) for box, a in enumerate(chosen))
    )
    assert [found.tolist().index(box) for box in range(3)] == list(best)


def test_hungarian_with_more_boxes_than_anchors_gives_every_anchor_a_box_of_its_own() -> None:
    targets = make_targets([0.0, 0.0, 20.0, 10.0], [5.0, 5.0, 30.0, 30.0], [50.0, 50.0, 90.0, 90.0])
    found = HungarianAssigner()(
        ANCHORS[:2], [slice(0, 2)], targets, alignment_logits=torch.zeros(2, 3), box_deltas=torch.zeros(2, 4)
    )
    assert len(set(found.tolist())) == 2
    assert UNASSIGNED not in found


def test_inputs_are_unchanged() -> None:
    targets = make_targets([0.0, 0.0, 20.0, 10.0])
    inputs = [targets.boxes, targets.token_map, torch.zeros(20, 3), torch.zeros(20, 4), ANCHORS]
    before = [tensor.clone() for tensor in inputs]
    for assigner in (AtssAssigner(), HungarianAssigner()):
        assign(assigner, targets, inputs[2], inputs[3])
    for tensor, copy in zip(inputs, before, strict=True):
        assert torch.equal(tensor, copy)
