"""A region belongs to its own words and to equal names elsewhere; equal nouns alone are left out of account.

In hand examples embeddings are unit vectors and the scale is 1: a likeness is 1 or 0.
"""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, multiprocessing

from glip.contrastive.regions import RegionWordLoss
from glip.structures.tasks import TaskOutput, TaskTruth
from tests.contrastive.two_region_processes import PROCESSES, Pictures, pictures, process

LOSS = RegionWordLoss(most_regions=4)
DOG, RED_DOG, CAT = 11, 12, 13  # names
DOGS, CATS = 21, 22  # nouns
X, Y = [1.0, 0.0], [0.0, 1.0]


def loss_of(
    regions: list[list[list[float]]],
    words: list[list[list[float]]],
    assigned: list[list[int]],
    maps: list[list[list[int]]],
    keys: list[list[int]],
    nouns: list[list[int]],
) -> float:
    """Images in the outer lists; two tokens a caption."""
    said = TaskOutput(
        region_embeddings=torch.tensor(regions), word_embeddings=torch.tensor(words), contrast_scale=torch.tensor(1.0)
    )
    truth = TaskTruth(token_keys=torch.tensor(keys), token_nouns=torch.tensor(nouns))
    boxes = [torch.tensor(one) for one in assigned]
    token_maps = [torch.tensor(one).bool().view(-1, 2) for one in maps]
    mask = torch.ones(len(keys), 2, dtype=torch.bool)
    return LOSS(said, mask, boxes, token_maps, truth).item()


def test_one_region_between_its_word_and_another() -> None:
    """-log(e / (e + 1)) towards words; the word has one region to choose from, which costs nothing."""
    found = loss_of([[X]], [[X, Y]], [[0]], [[[1, 0]]], [[DOG, 0]], [[DOGS, 0]])
    assert found == pytest.approx(math.log(1 + math.exp(-1)) / 2)


def test_a_word_between_its_region_and_a_place_without_a_box() -> None:
    found = loss_of([[X, Y]], [[X, Y]], [[0, -1]], [[[1, 0]]], [[DOG, 0]], [[DOGS, 0]])
    assert found == pytest.approx(math.log(1 + math.exp(-1)))


def test_the_first_box_counts_like_any_other() -> None:
    first = loss_of([[X, Y]], [[X, Y]], [[0, -1]], [[[1, 0], [0, 1]]], [[DOG, CAT]], [[DOGS, CATS]])
    second = loss_of([[Y, X]], [[Y, X]], [[-1, 1]], [[[1, 0], [0, 1]]], [[CAT, DOG]], [[CATS, DOGS]])
    assert first == pytest.approx(second)
    assert first > 0.1


def test_several_words_of_one_region_share_its_target() -> None:
    """Half of log(1 + e) for Y, half of log(1 + 1 / e) for X; back, each word has one region."""
    found = loss_of([[X]], [[X, Y]], [[0]], [[[1, 1]]], [[DOG, DOG]], [[DOGS, DOGS]])
    assert found == pytest.approx((math.log(1 + math.e) + math.log(1 + math.exp(-1))) / 4)


@pytest.mark.parametrize(
    ("key", "noun", "expected"),
    [
        # four words: two of its own caption (likeness 1 and 0), two of the other (1 and 0)
        pytest.param(DOG, DOGS, math.log(2 * math.e + 2) - 1, id="the same name elsewhere is right, too"),
        pytest.param(RED_DOG, DOGS, math.log(math.e + 2) - 1, id="the same noun elsewhere is left out"),
        pytest.param(CAT, CATS, math.log(2 * math.e + 2) - 1, id="another name elsewhere is wrong"),
    ],
)
def test_towards_words_of_another_image(key: int, noun: int, expected: float) -> None:
    """The other image has no box. Back from the words there is one region and a place of the other image."""
    found = loss_of(
        [[X], [Y]], [[X, Y], [X, Y]], [[0], [-1]], [[[1, 0]], []], [[DOG, 0], [key, 0]], [[DOGS, 0], [noun, 0]]
    )
    back = math.log(math.e + 1) - 1  # of each word that belongs to the region
    assert found == pytest.approx((expected + back) / 2)


def test_a_batch_without_boxes_costs_nothing() -> None:
    assert loss_of([[X]], [[X, Y]], [[-1]], [[]], [[DOG, 0]], [[DOGS, 0]]) == 0


def test_padding_is_no_word() -> None:
    said = TaskOutput(
        region_embeddings=torch.tensor([[X]]), word_embeddings=torch.tensor([[X, X]]), contrast_scale=torch.tensor(1.0)
    )
    truth = TaskTruth(token_keys=torch.tensor([[DOG, 0]]), token_nouns=torch.tensor([[DOGS, 0]]))
    maps = [torch.tensor([[True, False]])]
    for mask, expected in (([True, False], 0.0), ([True, True], math.log(2) / 2)):
        assert LOSS(said, torch.tensor([mask]), [torch.tensor([0])], maps, truth).item() == pytest.approx(expected)


def test_boxes_come_before_other_places_where_there_are_too_many() -> None:
    """Of a hundred anchors the only one with a box is always among the two that take part."""
    regions = torch.nn.functional.normalize(torch.randn(1, 100, 2, generator=torch.Generator().manual_seed(0)), dim=2)
    said = TaskOutput(
        region_embeddings=regions, word_embeddings=torch.tensor([[X, Y]]), contrast_scale=torch.tensor(1.0)
    )
    truth = TaskTruth(token_keys=torch.tensor([[DOG, 0]]), token_nouns=torch.tensor([[DOGS, 0]]))
    assigned = torch.full((100,), -1)
    assigned[57] = 0
    for seed in range(20):
        torch.manual_seed(seed)
        few = RegionWordLoss(most_regions=2)
        assert few(said, torch.ones(1, 2).bool(), [assigned], [torch.tensor([[True, False]])], truth) > 0


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Tensor, Tensor, Tensor]]:
    """What each process wrote: the loss, and the gradients of all regions and words."""
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(process, args=(str(folder),), nprocs=PROCESSES)  # type: ignore[attr-defined]
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(PROCESSES)]


def test_two_processes_are_one(answers: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    """Their captions are of different lengths."""
    whole: Pictures = pictures()
    loss = whole.loss()
    loss.backward()
    assert whole.regions.grad is not None
    assert whole.words.grad is not None
    for rank, (found, regions, words) in enumerate(answers):
        torch.testing.assert_close(found, loss.detach())
        mine = slice(2 * rank, 2 * rank + 2)
        torch.testing.assert_close(regions, whole.regions.grad[mine])
        torch.testing.assert_close(words, whole.words.grad[mine][:, : words.shape[1]])
