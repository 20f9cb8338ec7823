"""Accuracy at one and five; recall both ways where an image has several captions, equal to looking one by one."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from glip.errors import ShapeError
from glip.evaluation.zero_shot import accuracy, retrieval_recall


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        pytest.param(torch.empty(0, 3), [], (0.0, 0.0), id="no picture"),
        pytest.param(torch.tensor([[0.1, 0.9]]), [1], (1.0, 1.0), id="one that is right"),
        pytest.param(torch.tensor([[0.1, 0.9], [0.1, 0.9]]), [1, 0], (0.5, 1.0), id="one of two is right"),
        pytest.param(
            torch.arange(6.0).expand(6, 6), range(6), (1 / 6, 5 / 6), id="five of six are among the first five"
        ),
        pytest.param(torch.zeros(2, 6), [0, 5], (0.5, 0.5), id="equal scores are no hit by chance"),
    ],
)
def test_the_accuracy_of(scores: Tensor, labels: list[int], expected: tuple[float, float]) -> None:
    found = accuracy(scores, torch.tensor(list(labels), dtype=torch.int64))
    assert (found["top1"], found["top5"]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param([0], "each picture needs a label", id="too few"),
        pytest.param([0, 3], r"must be in \[0, 3\), got 0 to 3", id="no class"),
        pytest.param([-1, 0], r"must be in \[0, 3\), got -1 to 0", id="below 0"),
    ],
)
def test_labels_are_refused(labels: list[int], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        accuracy(torch.zeros(2, 3), torch.tensor(labels))


def by_brute_force(images: Tensor, texts: Tensor, owners: list[int]) -> dict[str, float]:
    """Sort everything for every question, and look at the first k."""
    numbers = {}
    for k in (1, 5, 10):
        hits = 0
        for text, owner in enumerate(owners):
            order = sorted(range(len(images)), key=lambda image: (-float(texts[text] @ images[image]), image))
            hits += owner in order[:k]
        numbers[f"text_to_image_recall@{k}"] = hits / len(owners)
        hits, asking = 0, sorted(set(owners))
        for image in asking:
            order = sorted(range(len(texts)), key=lambda text: (-float(texts[text] @ images[image]), text))
            hits += any(owners[text] == image for text in order[:k])
        numbers[f"image_to_text_recall@{k}"] = hits / len(asking)
    return numbers


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("captions", [1, 5, "some"])
def test_recall_is_that_of_brute_force_with_captions_an_image(captions: int | str, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    images = F.normalize(torch.randn(30, 4, generator=draw, dtype=torch.float64), dim=-1)
    counts = torch.randint(0, 6, (30,), generator=draw).tolist() if captions == "some" else [int(captions)] * 30
    owners = [image for image, count in enumerate(counts) for _ in range(count)]
    owners = [owners[place] for place in torch.randperm(len(owners), generator=draw).tolist()]
    noise = torch.randn(len(owners), 4, generator=draw, dtype=torch.float64)
    texts = F.normalize(images[owners] + 0.7 * noise, dim=-1)
    expected = by_brute_force(images, texts, owners)
    assert retrieval_recall(images, texts, owners) == pytest.approx(expected)
    assert 0 < expected["text_to_image_recall@1"] < 1


def test_any_of_an_images_captions_is_a_hit() -> None:
    images = torch.eye(2)
    texts = torch.tensor([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]])  # the first of image 0 is nearer to image 1
    found = retrieval_recall(images, texts, [0, 0, 1])
    assert found["image_to_text_recall@1"] == 1.0
    assert found["text_to_image_recall@1"] == pytest.approx(2 / 3)


def test_features_that_are_all_alike_are_not_found_by_chance() -> None:
    alike = torch.ones(4, 2)
    assert retrieval_recall(alike, alike, [0, 1, 2, 3])["text_to_image_recall@1"] == 0.25


def test_without_texts_nothing_is_found() -> None:
    assert set(retrieval_recall(torch.eye(2), torch.empty(0, 2), []).values()) == {0.0}


@pytest.mark.parametrize("owners", [[0], [0, 2], [-1, 0]], ids=["too few", "no such image", "below 0"])
def test_owners_are_refused(owners: list[int]) -> None:
    with pytest.raises(ShapeError, match="number of one of 2 images"):
        retrieval_recall(torch.eye(2), torch.eye(2), owners)
