"""Plain cues tell a linear reader where a position is, how coarse its level is, and which colours lie around it."""

import pytest
import torch
from torch import nn

from glip.models.cues import PALETTE, PLACES, STRENGTH, PlainCues

CHANNELS, LEVELS = 40, 2
CUES = PALETTE + PLACES + LEVELS


@pytest.fixture
def cues() -> PlainCues:
    torch.manual_seed(0)
    return PlainCues(CHANNELS, num_levels=LEVELS)


def empty_levels(batch: int = 1) -> list[torch.Tensor]:
    return [torch.zeros(batch, CHANNELS, 4, 8), torch.zeros(batch, CHANNELS, 2, 4)]


def read(level: torch.Tensor) -> torch.Tensor:
    """The cues behind a level's own channels, as they were before the projection."""
    return level[:, CHANNELS - CUES :] / STRENGTH


def test_the_backbones_own_channels_are_left_alone(cues: PlainCues) -> None:
    levels = [torch.randn_like(level) for level in empty_levels()]
    for before, after in zip(levels, cues(torch.randn(1, 3, 32, 64), levels), strict=True):
        assert before.shape == after.shape
        torch.testing.assert_close(after[:, : CHANNELS - CUES], before[:, : CHANNELS - CUES])


def test_places_run_from_left_to_right_and_from_top_to_bottom(cues: PlainCues) -> None:
    places = read(cues(torch.randn(1, 3, 32, 64), empty_levels())[1])[0, PALETTE : PALETTE + PLACES]
    torch.testing.assert_close(places[0], torch.tensor([-0.375, -0.125, 0.125, 0.375]).expand(2, 4))
    torch.testing.assert_close(places[1], torch.tensor([[-0.25], [0.25]]).expand(2, 4))
    torch.testing.assert_close(places[2], places[0].square())
    torch.testing.assert_close(places[3], places[1].square())


def test_places_are_those_of_the_image_without_its_padding(cues: PlainCues) -> None:
    sizes = torch.tensor([[32, 32]])  # half as wide as the batch
    places = read(cues(torch.randn(1, 3, 32, 64), empty_levels(), sizes)[1])[0, PALETTE]
    torch.testing.assert_close(places[0, :2], torch.tensor([-0.25, 0.25]))


def test_a_level_knows_its_own_number(cues: PlainCues) -> None:
    for index, level in enumerate(cues(torch.randn(1, 3, 32, 64), empty_levels())):
        expected = torch.zeros(LEVELS)
        expected[index] = 1
        torch.testing.assert_close(read(level)[0, -LEVELS:, 0, 0], expected)


def test_colours_are_shares_of_a_palette(cues: PlainCues) -> None:
    nn.init.zeros_(cues.palette.weight)
    assert cues.palette.bias is not None
    nn.init.zeros_(cues.palette.bias)
    cues.palette.weight.data[5, 0] = 100.0  # the sixth colour is red
    image = torch.zeros(1, 3, 32, 64)
    image[:, 0, :, :32] = 1.0  # the left half
    shares = read(cues(image, empty_levels())[0])[0, :PALETTE]
    torch.testing.assert_close(shares.sum(dim=0), torch.ones(4, 8))
    torch.testing.assert_close(shares[5, :, 0], torch.ones(4))
    torch.testing.assert_close(shares[5, :, 7], torch.full((4,), 1 / PALETTE))


def test_no_image_gives_no_level(cues: PlainCues) -> None:
    assert [len(level) for level in cues(torch.zeros(0, 3, 32, 64), empty_levels(0))] == [0, 0]
