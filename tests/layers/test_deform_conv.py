"""A modulated deformable convolution samples nine moved, weighted taps; our path gives torchvision's numbers."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from glip.layers import deform_conv
from glip.layers.deform_conv import ModulatedDeformConv, gather_deform_conv2d, torchvision_deform_conv2d

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def make_inputs(batch: int, size: tuple[int, int], stride: int, *, reach: float) -> Inputs:
    """Features, offsets of up to about `reach` pixels, mask, weight and bias: 5 channels in, 6 out."""
    generator = torch.Generator().manual_seed(0)
    height, width = (-(-side // stride) for side in size)
    return (
        torch.randn(batch, 5, *size, generator=generator).requires_grad_(),
        (torch.randn(batch, 18, height, width, generator=generator) * reach).requires_grad_(),
        torch.rand(batch, 9, height, width, generator=generator).requires_grad_(),
        torch.randn(6, 5, 3, 3, generator=generator).requires_grad_(),
        torch.randn(6, generator=generator).requires_grad_(),
    )


@pytest.mark.parametrize("stride", [pytest.param(1, id="stride 1"), pytest.param(2, id="stride 2")])
@pytest.mark.parametrize(
    ("batch", "size", "reach"),
    [
        pytest.param(1, (8, 6), 0.5, id="one image, even sides, small offsets"),
        pytest.param(2, (7, 5), 2.0, id="two images, odd sides, offsets of some pixels"),
        pytest.param(2, (5, 9), 40.0, id="offsets far outside the map"),
        pytest.param(1, (1, 1), 0.7, id="a map of one position"),
    ],
)
@pytest.mark.parametrize("slice_length", [7, 2048], ids=["in slices of seven positions", "in one slice"])
def test_gather_equals_torchvision_forward_and_in_every_gradient(
    batch: int, size: tuple[int, int], reach: float, stride: int, slice_length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deform_conv, "SLICE", slice_length)
    inputs = make_inputs(batch, size, stride, reach=reach)
    gathered = gather_deform_conv2d(*inputs, stride)
    expected = torchvision_deform_conv2d(*inputs, stride)
    torch.testing.assert_close(gathered, expected, rtol=1e-5, atol=1e-5)

    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    found_gradients = torch.autograd.grad((gathered * direction).sum(), inputs)
    expected_gradients = torch.autograd.grad((expected * direction).sum(), inputs)
    for found, wanted in zip(found_gradients, expected_gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_gather_of_no_images_is_no_images() -> None:
    inputs = make_inputs(0, (4, 6), 2, reach=1.0)
    assert gather_deform_conv2d(*inputs, 2).shape == (0, 6, 2, 3)


@pytest.mark.parametrize("stride", [1, 2])
def test_without_movement_and_with_full_weights_it_is_the_plain_convolution(stride: int) -> None:
    features, offsets, mask, weight, bias = make_inputs(2, (7, 5), stride, reach=1.0)
    moved = gather_deform_conv2d(features, offsets * 0, torch.ones_like(mask), weight, bias, stride)
    torch.testing.assert_close(moved, F.conv2d(features, weight, bias, stride=stride, padding=1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("row_offset", "column_offset", "expected"),
    [
        pytest.param(0.0, 0.0, 5.0, id="at the pixel itself"),
        pytest.param(1.0, 0.0, 8.0, id="one row down"),
        pytest.param(0.0, 1.0, 6.0, id="one column to the right"),
        pytest.param(0.5, 0.5, 7.0, id="half-way to the four neighbours below and right"),
        pytest.param(0.0, 1.5, 3.0, id="half a pixel outside, where the map is zero"),
        pytest.param(0.0, 2.0, 0.0, id="outside"),
    ],
)
def test_the_middle_tap_of_the_middle_of_one_to_nine_reads(
    row_offset: float, column_offset: float, expected: float
) -> None:
    features = torch.arange(1.0, 10.0).view(1, 1, 3, 3)
    offsets = torch.zeros(1, 18, 3, 3)
    offsets[0, 8, 1, 1], offsets[0, 9, 1, 1] = row_offset, column_offset  # tap 4 of 9: channels 8 and 9
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 1] = 1.0
    result = gather_deform_conv2d(features, offsets, torch.ones(1, 9, 3, 3), weight, torch.zeros(1), 1)
    torch.testing.assert_close(result[0, 0, 1, 1], torch.tensor(expected))


def test_the_mask_weighs_each_tap() -> None:
    features = torch.ones(1, 1, 3, 3)
    mask = torch.arange(9.0).view(1, 9, 1, 1).expand(1, 9, 3, 3)
    weight = torch.ones(1, 1, 3, 3)
    result = gather_deform_conv2d(features, torch.zeros(1, 18, 3, 3), mask, weight, torch.tensor([0.5]), 1)
    torch.testing.assert_close(result[0, 0, 1, 1], torch.tensor(36.5))  # 0 + 1 + ... + 8, and the bias


def test_the_module_computes_in_float32_whatever_comes_in() -> None:
    features, offsets, mask, _, _ = (tensor.detach() for tensor in make_inputs(1, (4, 4), 1, reach=1.0))
    torch.manual_seed(0)
    module = ModulatedDeformConv(5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        result = module(features, offsets, mask)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, module(features, offsets, mask), rtol=0, atol=0)


def test_off_the_cpu_the_module_makes_no_tensor_on_the_cpu() -> None:
    with torch.device("meta"):
        module = ModulatedDeformConv(5, 6, stride=2)
        result = module(torch.empty(2, 5, 7, 5), torch.empty(2, 18, 4, 3), torch.empty(2, 9, 4, 3))
    assert result.device.type == "meta"
    assert result.shape == (2, 6, 4, 3)
