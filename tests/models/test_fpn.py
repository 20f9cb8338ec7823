"""The pyramid gives every level the same width, adds coarse levels to fine ones, and stands two levels on top."""

import pytest
import torch
from torch import Tensor, nn

from glip.models.fpn import FeaturePyramid


def make_pyramid(*, num_extra: int = 2, top_down: bool = True, drop_block: float = 0.0) -> FeaturePyramid:
    torch.manual_seed(0)
    return FeaturePyramid([4, 6, 8], 5, num_extra=num_extra, top_down=top_down, drop_block=drop_block)


def make_maps(*shapes: tuple[int, int], batch: int = 2) -> list[Tensor]:
    return [torch.randn(batch, width, *shape) for width, shape in zip([4, 6, 8], shapes, strict=True)]


@pytest.mark.parametrize(
    ("shapes", "extra"),
    [
        pytest.param([(8, 12), (4, 6), (2, 3)], [(1, 2), (1, 1)], id="even maps"),
        pytest.param([(9, 5), (5, 3), (3, 2)], [(2, 1), (1, 1)], id="odd maps"),
    ],
)
def test_levels_have_the_backbones_sizes_and_two_halved_ones(
    shapes: list[tuple[int, int]], extra: list[tuple[int, int]]
) -> None:
    levels = make_pyramid()(make_maps(*shapes))
    assert [tuple(level.shape) for level in levels] == [(2, 5, *shape) for shape in shapes + extra]


def test_no_extra_levels_can_be_asked_for() -> None:
    assert len(make_pyramid(num_extra=0)(make_maps((4, 4), (2, 2), (1, 1)))) == 3


def test_no_images_give_empty_levels() -> None:
    levels = make_pyramid()(make_maps((4, 4), (2, 2), (1, 1), batch=0))
    assert [len(level) for level in levels] == [0] * 5


def make_identity(*, top_down: bool) -> FeaturePyramid:
    """A pyramid of one channel whose convolutions all copy the middle pixel."""
    pyramid = FeaturePyramid([1, 1, 1], 1, num_extra=2, top_down=top_down, drop_block=0.0)
    for conv in [*pyramid.lateral, *pyramid.output, *pyramid.extra]:
        assert isinstance(conv, nn.Conv2d)
        nn.init.dirac_(conv.weight)
    return pyramid


@pytest.mark.parametrize(
    ("top_down", "sums"),
    [
        pytest.param(True, [111.0, 110.0, 100.0, 100.0, 100.0], id="on, each level holds what lies above"),
        pytest.param(False, [1.0, 10.0, 100.0, 100.0, 100.0], id="off, each level holds its own map"),
    ],
)
def test_with_top_down(top_down: bool, sums: list[float]) -> None:
    maps = [torch.full((1, 1, 2 * size, 2 * size), value) for size, value in ((4, 1.0), (2, 10.0), (1, 100.0))]
    levels = make_identity(top_down=top_down)(maps)
    for level, value in zip(levels, sums, strict=True):
        torch.testing.assert_close(level, torch.full_like(level, value))


def test_the_first_extra_level_has_passed_no_relu_and_the_second_has() -> None:
    maps = [torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 4, 4), torch.full((1, 1, 2, 2), -3.0)]
    levels = make_identity(top_down=True)(maps)
    torch.testing.assert_close(levels[3], torch.full((1, 1, 1, 1), -3.0))
    torch.testing.assert_close(levels[4], torch.zeros(1, 1, 1, 1))


def test_drop_block_spares_the_coarsest_map_and_the_way_down() -> None:
    pyramid = make_identity(top_down=True)
    pyramid.drop_block = make_pyramid(drop_block=0.9).drop_block
    maps = [torch.ones(1, 1, 16, 16), torch.ones(1, 1, 8, 8), torch.ones(1, 1, 4, 4)]
    torch.manual_seed(0)
    levels = pyramid.train()(maps)
    assert (levels[0] == 0).any()
    assert (levels[1] == 0).any()
    torch.testing.assert_close(levels[2], torch.ones(1, 1, 4, 4))
    kept = levels[0][levels[0] != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 3.0 * 256 / len(kept)))  # 1 + 1 + 1, none lost on the way
