"""A DyConv block mixes each level with its neighbours, all read from the block's input."""

import pytest
import torch
from torch import Tensor, nn

from glip.models.dyhead import DyConv, flat_prefix

SHAPES = [(8, 6), (4, 3), (2, 2)]


def make_levels(batch: int = 2, shapes: list[tuple[int, int]] = SHAPES) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, 8, *shape, generator=generator) for shape in shapes]


def make_block() -> DyConv:
    torch.manual_seed(0)
    block = DyConv(8, num_groups=4)
    nn.init.ones_(block.activation.squeeze.bias)  # so narrow a squeeze would often be dead otherwise
    return block


def test_a_flat_prefix_reads_each_images_first_numbers_in_memory_order() -> None:
    maps = torch.arange(32.0).view(2, 2, 2, 4)  # image 0 holds 0..15, image 1 holds 16..31
    expected = torch.tensor([[[[0.0, 1.0]], [[2.0, 3.0]]], [[[16.0, 17.0]], [[18.0, 19.0]]]])
    torch.testing.assert_close(flat_prefix(maps, (1, 2)), expected)


def test_the_flat_prefix_of_the_published_sizes_ends_in_the_middle_of_channel_four() -> None:
    maps = torch.arange(18.0).view(1, 18, 1, 1).expand(1, 18, 100, 168)  # each number is its channel
    found = flat_prefix(maps, (50, 84))
    assert found.shape == (1, 18, 50, 84)
    counts = torch.bincount(found.flatten().long())
    assert counts.tolist() == [16800, 16800, 16800, 16800, 8400]  # 75,600 numbers


@pytest.mark.parametrize(
    "shapes",
    [
        pytest.param(SHAPES, id="three levels"),
        pytest.param([(5, 7), (3, 4), (2, 2), (1, 1)], id="odd levels down to one position"),
        pytest.param([(4, 4)], id="a level without neighbours"),
    ],
)
def test_shapes_stay_with(shapes: list[tuple[int, int]]) -> None:
    levels = make_levels(shapes=shapes)
    assert [level.shape for level in make_block()(levels)] == [level.shape for level in levels]


def test_a_level_sees_its_neighbours_and_nothing_farther() -> None:
    block = make_block()
    levels = make_levels()
    for changed in range(3):
        other = [level + 3.0 * (index == changed) for index, level in enumerate(levels)]
        moved = [
            bool((ours - theirs).abs().max() > 1e-4) for ours, theirs in zip(block(levels), block(other), strict=True)
        ]
        assert moved == [abs(index - changed) <= 1 for index in range(3)]


def test_with_resting_taps_and_equal_weights_it_is_the_mean_of_plain_views() -> None:
    block = make_block()
    nn.init.zeros_(block.offset.weight)
    assert block.offset.bias is not None
    block.offset.bias.data = torch.cat([torch.zeros(18), torch.full((9,), 100.0)])  # no movement, full tap weights
    nn.init.zeros_(block.scale_attention.weight)  # every candidate weighs 0.5
    nn.init.zeros_(block.activation.excite.weight)
    nn.init.zeros_(block.activation.excite.bias)  # the plain ReLU
    fine, middle, coarse = make_levels()

    def view(part: nn.Module, features: Tensor, stride: int) -> Tensor:
        seen: Tensor = part.norm(  # type: ignore[operator]
            nn.functional.conv2d(features, part.conv.weight, part.conv.bias, stride=stride, padding=1)  # type: ignore
        )
        return seen

    from_above = nn.functional.interpolate(
        view(block.from_coarser, coarse, 1), size=(4, 3), mode="bilinear", align_corners=True
    )
    total = view(block.from_same, middle, 1) + view(block.from_finer, fine, 2) + from_above
    torch.testing.assert_close(block([fine, middle, coarse])[1], (0.5 * total / 3).relu(), rtol=1e-4, atol=1e-5)


def test_a_batch_equals_its_images_one_by_one() -> None:
    block = make_block()
    levels = make_levels()
    for index in range(2):
        alone = block([level[index : index + 1] for level in levels])
        for together, apart in zip(block(levels), alone, strict=True):
            torch.testing.assert_close(together[index : index + 1], apart)


def test_with_masks_the_weights_ignore_what_is_hidden() -> None:
    block = make_block()
    nn.init.normal_(block.scale_attention.weight)
    levels = make_levels(1, [(4, 4)])
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[:, :, 0] = True
    candidate = torch.randn(1, 8, 4, 4)
    other = torch.where(mask.unsqueeze(1), candidate, 50.0)
    torch.testing.assert_close(block._weight(candidate, mask), block._weight(other, mask))
    assert not torch.equal(block(levels, [mask])[0], block(levels)[0])


def test_no_images_give_empty_levels() -> None:
    assert [tuple(level.shape) for level in make_block()(make_levels(0))] == [(0, 8, *shape) for shape in SHAPES]


def test_gradient_reaches_every_parameter_and_every_level() -> None:
    block = make_block()
    levels = [level.requires_grad_() for level in make_levels()]
    sum((level.square()).sum() for level in block(levels)).backward()
    named = {**dict(block.named_parameters()), **{f"level {index}": level for index, level in enumerate(levels)}}
    for name, leaf in named.items():
        assert leaf.grad is not None, name
        assert leaf.grad.abs().max() > 0, name
