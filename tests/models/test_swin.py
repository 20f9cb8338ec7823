"""The Swin backbone is the paper's: torchvision's numbers, except that a map of one window is shifted, too."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer as TorchvisionSwin

from glip.models.backbones.swin import (
    REGION_PENALTY,
    SwinBlock,
    SwinTransformer,
    WindowAttention,
    relative_position_index,
    shift_penalty,
)

EMBED_DIM, DEPTHS, HEADS, WINDOW = 12, [2, 2, 2, 2], [1, 2, 3, 4], 2


def make_swin() -> SwinTransformer:
    torch.manual_seed(0)
    swin = SwinTransformer(embed_dim=EMBED_DIM, depths=DEPTHS, num_heads=HEADS, window_size=WINDOW, drop_path_rate=0.0)
    for parameter in swin.parameters():
        nn.init.normal_(parameter, std=0.2)
    return swin.eval()


def torchvision_with_weights_of(swin: SwinTransformer) -> TorchvisionSwin:
    twin = TorchvisionSwin([4, 4], EMBED_DIM, DEPTHS, HEADS, [WINDOW, WINDOW], stochastic_depth_prob=0.0)
    state = twin.state_dict()
    new_names = {"patch_embed.proj.": "features.0.0.", "patch_embed.norm.": "features.0.2."}
    for stage in range(len(DEPTHS)):
        new_names[f"layers.{stage}.blocks."] = f"features.{2 * stage + 1}."
        new_names[f"layers.{stage}.downsample."] = f"features.{2 * stage + 2}."
    for ours, tensor in swin.state_dict().items():
        prefix = next((old for old in new_names if ours.startswith(old)), None)
        if prefix is not None:  # the output norms are a detector's; torchvision has none
            name = ours.replace(prefix, new_names[prefix]).replace("mlp.fc1", "mlp.0").replace("mlp.fc2", "mlp.3")
            assert state[name].shape == tensor.shape
            state[name] = tensor
    twin.load_state_dict(state)
    return twin.eval()


@pytest.mark.parametrize(
    "size",
    [
        pytest.param((128, 192), id="whole windows at every stage"),
        pytest.param((132, 140), id="maps of odd sides, padded to windows and for merging"),
    ],
)
def test_every_stage_equals_torchvisions_where_maps_are_larger_than_the_window(size: tuple[int, int]) -> None:
    swin = make_swin()
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    features, expected = image, []
    for index, part in enumerate(torchvision_with_weights_of(swin).features):
        features = part(features)
        if index % 2:
            expected.append(features)
    found = swin.forward_stages(image)
    assert [stage.shape[3] for stage in found] == [12, 24, 48, 96]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_outputs_are_the_last_three_stages_normed_channels_first() -> None:
    swin = make_swin()
    image = torch.randn(1, 3, 64, 96)
    stages = swin.forward_stages(image)[1:]
    for output, stage, norm in zip(swin(image), stages, swin.norms, strict=True):
        torch.testing.assert_close(output, norm(stage).permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("size", "shapes"),
    [
        pytest.param((64, 96), [(8, 12), (4, 6), (2, 3)], id="a multiple of 32"),
        pytest.param((65, 33), [(9, 5), (5, 3), (3, 2)], id="one pixel more than patches hold"),
        pytest.param((1, 1), [(1, 1), (1, 1), (1, 1)], id="one pixel"),
    ],
)
def test_maps_have_the_rounded_up_size_of(size: tuple[int, int], shapes: list[tuple[int, int]]) -> None:
    found = make_swin()(torch.randn(1, 3, *size))
    assert [tuple(features.shape[2:]) for features in found] == shapes


def test_no_images_give_no_maps() -> None:
    assert [len(features) for features in make_swin()(torch.zeros(0, 3, 64, 64))] == [0, 0, 0]


def test_the_relative_position_index_of_a_window_of_two() -> None:
    # 3 x 3 relative positions: row = (down + 1) * 3 + (right + 1), seen from the key to the query
    expected = torch.tensor([[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]])
    assert torch.equal(relative_position_index(2), expected)


def test_the_shift_penalty_of_a_four_by_four_map_with_windows_of_two() -> None:
    found = shift_penalty(4, 4, 2, 1)  # (4 windows, 4, 4)
    no, yes = 0.0, REGION_PENALTY
    left_from_right = [[no, yes, no, yes], [yes, no, yes, no], [no, yes, no, yes], [yes, no, yes, no]]
    top_from_bottom = [[no, no, yes, yes], [no, no, yes, yes], [yes, yes, no, no], [yes, yes, no, no]]
    all_apart = [[no if i == j else yes for j in range(4)] for i in range(4)]
    expected = torch.tensor([[[no] * 4] * 4, left_from_right, top_from_bottom, all_apart])
    torch.testing.assert_close(found, expected)


def test_the_shift_penalty_of_a_map_of_one_window_still_splits_it() -> None:
    found = shift_penalty(2, 2, 2, 1)
    torch.testing.assert_close(found, (1 - torch.eye(4)).unsqueeze(0) * REGION_PENALTY)


def make_attention(shift: int) -> WindowAttention:
    torch.manual_seed(0)
    return WindowAttention(4, num_heads=2, window_size=4, shift=shift)


def test_positions_of_other_windows_do_not_matter_without_a_shift() -> None:
    features = torch.randn(1, 8, 8, 4)
    other = features.clone()
    other[:, 4:] = other[:, :, 4:] = 9.0
    attention = make_attention(0)
    torch.testing.assert_close(attention(features)[:, :4, :4], attention(other)[:, :4, :4])


def test_a_shift_lets_neighbours_of_two_windows_meet_but_never_opposite_edges() -> None:
    features = torch.randn(1, 8, 8, 4)
    attention = make_attention(2)

    def changed_by_a_change_at(row: int) -> Tensor:
        other = features.clone()
        other[:, row] += 5.0
        change: Tensor = attention(other) - attention(features)
        return change.abs().amax(dim=(0, 2, 3)) > 1e-5

    assert changed_by_a_change_at(4).tolist() == [False, False, True, True, True, True, False, False]
    assert changed_by_a_change_at(0).tolist() == [True, True, False, False, False, False, False, False]


def test_padding_to_whole_windows_is_zeros_that_take_part() -> None:
    attention = make_attention(0)
    features = torch.randn(1, 3, 5, 4)
    padded = nn.functional.pad(features, (0, 0, 0, 3, 0, 1))
    torch.testing.assert_close(attention(features), attention(padded)[:, :3, :5])


def test_drop_path_skips_blocks_in_training_only() -> None:
    torch.manual_seed(0)
    swin = SwinTransformer(embed_dim=EMBED_DIM, depths=DEPTHS, num_heads=HEADS, window_size=WINDOW, drop_path_rate=0.9)
    image = torch.randn(1, 3, 32, 32)
    calm = swin.eval()(image)
    torch.testing.assert_close(swin(image), calm, rtol=0, atol=0)
    assert not torch.equal(swin.train()(image)[2], calm[2])


def test_an_index_cached_in_inference_mode_serves_a_later_backward_pass() -> None:
    relative_position_index.cache_clear()
    shift_penalty.cache_clear()
    swin = make_swin()
    image = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        swin(image)
    swin(image)[2].square().sum().backward()
    for name, parameter in swin.named_parameters():
        assert parameter.grad is not None or name.startswith("norms."), name


def counted(half: Callable[..., Tensor], runs: list[str]) -> Callable[..., Tensor]:
    """The same half of a block, whose calls are listed."""

    def call(block: SwinBlock, features: Tensor) -> Tensor:
        runs.append(half.__name__)
        return half(block, features)

    return call


def test_checkpointed_stages_run_each_half_of_a_block_again_and_learn_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    for half in ("attend", "transform"):
        monkeypatch.setattr(SwinBlock, half, counted(getattr(SwinBlock, half), runs))
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        swin = make_swin().train()
        blocks = sum(isinstance(module, SwinBlock) for module in swin.modules())
        for layer in swin.layers:
            setattr(layer, "gradient_checkpointing", checkpointing)  # noqa: B010
        runs.clear()
        torch.manual_seed(1)
        maps = swin(torch.randn(1, 3, 64, 64))
        torch.stack([one.square().mean() for one in maps]).sum().backward()
        assert len(runs) == 2 * blocks * (2 if checkpointing else 1)  # each half
        gradients.append({name: parameter.grad for name, parameter in swin.named_parameters()})
    torch.testing.assert_close(gradients[1], gradients[0])
