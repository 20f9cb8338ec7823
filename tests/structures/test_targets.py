"""The truth about an image: N boxes, N rows of tokens, N labels; N may be 0."""

import pytest
import torch

from glip.errors import ShapeError
from glip.structures.targets import Targets


def make(*, boxes: tuple[int, ...], token_map: tuple[int, ...], labels: tuple[int, ...]) -> Targets:
    """Targets of zeros with these shapes."""
    return Targets(torch.zeros(boxes), torch.zeros(token_map, dtype=torch.bool), torch.zeros(labels, dtype=torch.int64))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_fields_that_agree_are_kept(count: int) -> None:
    assert len(make(boxes=(count, 4), token_map=(count, 6), labels=(count,))) == count


@pytest.mark.parametrize(
    ("boxes", "token_map", "labels", "message"),
    [
        pytest.param((4,), (1, 6), (1,), r"boxes must be \(N, 4\)", id="a box without a list"),
        pytest.param((2, 4), (3, 6), (2,), r"token_map \(2, L\)", id="a row of tokens too many"),
        pytest.param((2, 4), (2,), (2,), r"token_map \(2, L\)", id="a token map without columns"),
        pytest.param((2, 4), (2, 6), (1,), r"labels \(2,\)", id="a label too few"),
        pytest.param((2, 4), (2, 6), (2, 1), r"labels \(2,\)", id="labels with columns"),
        pytest.param((0, 4), (1, 6), (0,), r"targets of 0 boxes", id="tokens without a box"),
    ],
)
def test_fields_that_disagree_are_refused(
    boxes: tuple[int, ...], token_map: tuple[int, ...], labels: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        make(boxes=boxes, token_map=token_map, labels=labels)


def test_all_fields_move_to_the_device_and_the_first_stay() -> None:
    targets = make(boxes=(2, 4), token_map=(2, 6), labels=(2,))
    moved = targets.to("meta")
    assert {moved.boxes.device.type, moved.token_map.device.type, moved.labels.device.type} == {"meta"}
    assert {targets.boxes.device.type, targets.token_map.device.type, targets.labels.device.type} == {"cpu"}
