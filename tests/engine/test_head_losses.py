"""Each head's loss, by hand; an image without truth for a head counts nothing in it."""

import math

import pytest
import torch
from torch import Tensor

from glip.engine.head_losses import HeadCriterion, HeadLossWeights, Questions
from glip.structures.output import GlipOutput
from glip.structures.targets import Targets
from glip.structures.tasks import IGNORED, TaskInputs, TaskOutput, TaskTruth

LN2 = math.log(2)
NO_TRUTH = TaskTruth(
    word_labels=torch.full((2, 3), IGNORED),
    described=torch.zeros(0, dtype=torch.int64),
    descriptions=torch.zeros(0, 2, dtype=torch.int64),
    answers=torch.zeros(2, 4),
    is_asked=torch.zeros(2, dtype=torch.bool),
    token_keys=torch.zeros(2, 3, dtype=torch.int64),
    token_nouns=torch.zeros(2, 3, dtype=torch.int64),
)
EVERY = ("masks", "mlm", "captioning", "vqa", "contrast")


def output_of(**said: Tensor) -> GlipOutput:
    """Two images, four anchors, three tokens."""
    return GlipOutput(
        alignment_logits=torch.zeros(2, 4, 3), attention_mask=torch.ones(2, 3).bool(), tasks=TaskOutput(**said)
    )


def target_of(count: int, *, masks: bool = True) -> Targets:
    """So many boxes of 8 pixels, the left half of each a thing."""
    boxes = torch.tensor([[4.0, 4.0, 12.0, 12.0]]).repeat(count, 1)
    drawn = torch.zeros(count, 16, 16, dtype=torch.bool)
    drawn[:, 4:12, 4:8] = True
    token_map = torch.ones(count, 3, dtype=torch.bool)
    return Targets(boxes, token_map, torch.zeros(count).long(), masks=drawn if masks else None)


def loss_of(name: str, output: GlipOutput, truth: TaskTruth, weights: HeadLossWeights | None = None) -> float:
    criterion = HeadCriterion([name], weights=weights)
    targets = [target_of(0), target_of(0)]
    assigned = [torch.full((4,), -1)] * 2
    losses = criterion(output, targets, truth, criterion.ask(targets, truth), assigned)
    assert list(losses) == [f"loss_{name}"]
    return losses[f"loss_{name}"].item()


def test_words_cost_what_guessing_them_costs() -> None:
    """One word among eight alike: ln 8."""
    labels = torch.tensor([[IGNORED, 5, IGNORED], [IGNORED] * 3])
    truth = TaskTruth(word_labels=labels)
    assert loss_of("mlm", output_of(word_logits=torch.zeros(1, 8)), truth) == pytest.approx(math.log(8))


def test_a_description_costs_the_mean_of_its_next_words_and_its_padding_nothing() -> None:
    """Logits that are sure of token 7: right for the first, 100 wrong for the end; two places of padding."""
    logits = torch.zeros(1, 4, 8)
    logits[..., 7] = 100
    truth = TaskTruth(described=torch.tensor([1]), descriptions=torch.tensor([[1, 7, 2, 0, 0]]))
    assert loss_of("captioning", output_of(description_logits=logits), truth) == pytest.approx(50)


def test_answers_cost_their_sum_and_questions_their_mean() -> None:
    """Two questions, four answers each, nothing known: 4 ln 2."""
    truth = TaskTruth(answers=torch.rand(2, 4), is_asked=torch.tensor([True, True]))
    assert loss_of("vqa", output_of(answer_logits=torch.zeros(2, 4)), truth) == pytest.approx(4 * LN2)


def test_an_image_that_is_not_asked_costs_nothing() -> None:
    logits = torch.tensor([[0.0] * 4, [99.0] * 4])
    truth = TaskTruth(answers=torch.zeros(2, 4), is_asked=torch.tensor([True, False]))
    assert loss_of("vqa", output_of(answer_logits=logits), truth) == pytest.approx(4 * LN2)


def test_a_weight_multiplies() -> None:
    truth = TaskTruth(answers=torch.zeros(2, 4), is_asked=torch.tensor([True, True]))
    output = output_of(answer_logits=torch.zeros(2, 4))
    assert loss_of("vqa", output, truth, HeadLossWeights(vqa=0.5)) == pytest.approx(2 * LN2)


def test_both_masks_cost_and_a_perfect_one_nothing() -> None:
    """The agnostic mask knows nothing: ln 2. The word's mask is sure, and wrong where the cut rounds four corners."""
    criterion = HeadCriterion(["masks"])
    targets = [target_of(1), target_of(1, masks=False)]
    box = targets[0].boxes
    assert targets[0].masks is not None
    questions = Questions(TaskInputs(boxes=(box, box[:0])), (targets[0].masks, targets[0].masks[:0]))
    right = torch.full((1, 28, 28), -20.0)
    right[..., :14] = 20
    output = output_of(mask_logits=torch.zeros(1, 28, 28), word_mask_logits=right)
    losses = criterion(output, targets, NO_TRUTH, questions, [torch.full((4,), -1)] * 2)
    assert losses["loss_masks"].item() == pytest.approx(LN2 + 4 * 20 / 28**2)


def test_boxes_are_asked_about_a_little_beside_where_they_are_and_no_more_than_a_hundred() -> None:
    targets = [target_of(150), target_of(3, masks=False)]
    questions = HeadCriterion(["masks"]).ask(targets, NO_TRUTH)
    boxes, maps = questions.inputs.boxes, questions.inputs.token_maps
    assert boxes is not None
    assert maps is not None
    assert (
        [len(one) for one in boxes] == [len(one) for one in maps] == [len(one) for one in questions.masks] == [100, 0]
    )
    moved = (boxes[0] - targets[0].boxes[0]).abs()
    assert 0.7 < moved.max() <= 0.8  # a tenth of eight pixels
    assert torch.equal(targets[0].boxes[0], torch.tensor([4.0, 4.0, 12.0, 12.0]))


def test_a_batch_without_truth_costs_nothing_and_names_every_loss() -> None:
    criterion = HeadCriterion(EVERY)
    targets = [target_of(0), target_of(2, masks=False)]
    questions = criterion.ask(targets, NO_TRUTH)
    output = output_of(
        mask_logits=torch.zeros(0, 28, 28),
        word_mask_logits=torch.zeros(0, 28, 28),
        description_logits=torch.zeros(0, 1, 8),
        answer_logits=torch.ones(2, 4),
        word_logits=torch.zeros(0, 8),
        region_embeddings=torch.ones(2, 4, 2),
        word_embeddings=torch.ones(2, 3, 2),
        contrast_scale=torch.tensor(1.0),
    )
    losses = criterion(output, targets, NO_TRUTH, questions, [torch.full((4,), -1)] * 2)
    assert {name: loss.item() for name, loss in losses.items()} == {f"loss_{name}": 0 for name in EVERY}


def test_the_words_of_a_question_are_no_negatives_of_the_contrast() -> None:
    """The second caption is a question: whatever its words are, the loss is that of the first image alone."""
    criterion = HeadCriterion(["contrast"])
    grounded = target_of(1)
    question = Targets(torch.zeros(0, 4), torch.zeros(0, 3).bool(), torch.zeros(0).long(), is_grounded=False)
    draw = torch.Generator().manual_seed(0)
    regions, words = torch.randn(2, 4, 2, generator=draw), torch.randn(2, 3, 2, generator=draw)
    found = []
    for second in (words[1], -words[1]):
        output = output_of(
            region_embeddings=regions,
            word_embeddings=torch.stack([words[0], second]),
            contrast_scale=torch.tensor(1.0),
        )
        targets = [grounded, question]
        assigned = [torch.tensor([0, -1, -1, -1]), torch.full((4,), -1)]
        found.append(criterion(output, targets, NO_TRUTH, criterion.ask(targets, NO_TRUTH), assigned)["loss_contrast"])
    assert found[0] == found[1] > 0
