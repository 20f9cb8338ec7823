"""Triton's deformable convolution gives torchvision's numbers: here in Triton's interpreter, on a CPU, not on a GPU.

The interpreter must be chosen before anything imports Triton, so a process of its own runs the cases and saves what it
found: `python -m tests.layers.test_deform_conv_triton PATH`.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest
import torch
from torch import Tensor

from glip.layers import deform_conv
from glip.layers.deform_conv import ModulatedDeformConv, gather_deform_conv2d, torchvision_deform_conv2d
from tests.layers.test_deform_conv import Inputs, make_inputs

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
NAMES = ("result", "features", "offsets", "mask", "weight", "bias")


@dataclass(frozen=True)
class Case:
    """Inputs by their numbers."""

    batch: int
    size: tuple[int, int]
    reach: float
    stride: int

    def inputs(self) -> Inputs:
        """As `make_inputs` makes them."""
        return make_inputs(self.batch, self.size, self.stride, reach=self.reach)


MAPS = {
    "one image, even sides, small offsets": (1, (8, 6), 0.5),
    "two images, odd sides, offsets of some pixels": (2, (7, 5), 2.0),
    "offsets far outside the map": (2, (5, 9), 40.0),
    "no movement, every point on a pixel or just outside": (1, (5, 4), 0.0),
}
CASES = {f"{name}, stride {stride}": Case(*of_map, stride) for name, of_map in MAPS.items() for stride in (1, 2)}
CASES["offsets past the last integer"] = Case(1, (4, 4), 1e30, 1)
CASES["a map of one position"] = Case(1, (1, 1), 0.7, 1)
SEVERAL_BLOCKS = Case(2, (7, 5), 2.0, 1)
NO_IMAGES = Case(0, (4, 6), 1.0, 2)
IN_BFLOAT16 = Case(2, (7, 5), 2.0, 1)


def result_and_gradients(convolve: deform_conv.DeformConv2d, inputs: Inputs, stride: int) -> list[Tensor]:
    """What comes out, and the gradient of each input, for a random gradient of what comes out."""
    result = convolve(*inputs, stride)
    direction = torch.randn(result.shape, generator=torch.Generator().manual_seed(1)).to(result.dtype)
    return [result.detach(), *torch.autograd.grad(result, inputs, direction)]


def in_bfloat16(inputs: Inputs) -> Inputs:
    """All but the offsets and the mask, which autocast leaves in float32."""
    features, offsets, mask, weight, bias = inputs
    return features.bfloat16(), offsets, mask, weight.bfloat16(), bias.bfloat16()


def leaves(inputs: Inputs) -> Inputs:
    features, offsets, mask, weight, bias = (tensor.detach().requires_grad_() for tensor in inputs)
    return features, offsets, mask, weight, bias


def assert_equal_to_one_in(parts: float, found: list[Tensor], expected: list[Tensor]) -> None:
    """Up to that part of the largest number of each tensor."""
    for name, one, other in zip(NAMES, found, expected, strict=True):
        scale = other.abs().amax().item() if other.numel() else 0.0
        torch.testing.assert_close(one, other, rtol=0, atol=scale / parts, msg=(name + ": {}").format)


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Tensor]]:
    """What Triton's interpreter found, by the case's name."""
    path = tmp_path_factory.mktemp("interpreted") / "found.pt"
    ended = subprocess.run(
        [sys.executable, "-m", __name__, str(path)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=Path(__file__).parents[2],
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    found: dict[str, list[Tensor]] = torch.load(path)
    return found


@needs_triton
@pytest.mark.parametrize("name", [pytest.param(name, id=name) for name in CASES])
def test_triton_equals_torchvision_forward_and_in_every_gradient(
    name: str, interpreted: dict[str, list[Tensor]]
) -> None:
    case = CASES[name]
    expected = result_and_gradients(torchvision_deform_conv2d, case.inputs(), case.stride)
    assert_equal_to_one_in(1e5, interpreted[name], expected)


@needs_triton
def test_several_blocks_of_positions_and_channels_make_one_result(interpreted: dict[str, list[Tensor]]) -> None:
    expected = result_and_gradients(torchvision_deform_conv2d, SEVERAL_BLOCKS.inputs(), SEVERAL_BLOCKS.stride)
    assert_equal_to_one_in(1e5, interpreted["several blocks"], expected)


@needs_triton
def test_in_bfloat16_it_stays_close_to_float32(interpreted: dict[str, list[Tensor]]) -> None:
    rounded = in_bfloat16(IN_BFLOAT16.inputs())
    found = interpreted["bfloat16"]
    assert [tensor.dtype for tensor in found[1:]] == [tensor.dtype for tensor in rounded]
    features, offsets, mask, weight, bias = (tensor.float() for tensor in rounded)
    in_float32 = leaves((features, offsets, mask, weight, bias))
    expected = result_and_gradients(torchvision_deform_conv2d, in_float32, IN_BFLOAT16.stride)
    assert_equal_to_one_in(2**7, [tensor.float() for tensor in found], expected)  # bfloat16 has eight bits


@needs_triton
def test_no_images_are_no_images_and_move_no_weight(interpreted: dict[str, list[Tensor]]) -> None:
    result, *gradients = interpreted["no images"]
    assert result.shape == (0, 6, 2, 3)
    for gradient, one in zip(gradients, NO_IMAGES.inputs(), strict=True):
        torch.testing.assert_close(gradient, torch.zeros_like(one), rtol=0, atol=0)


@needs_triton
def test_an_offset_that_is_no_number_shows(interpreted: dict[str, list[Tensor]]) -> None:
    (result,) = interpreted["not a number"]
    assert result[0, :, 1, 2].isnan().all()
    assert result.isnan().sum() == result.shape[1]


@needs_triton
def test_the_path_on_a_cpu_never_loads_it(interpreted: dict[str, list[Tensor]]) -> None:
    (loaded,) = interpreted["loaded by a CPU"]
    assert not loaded


def features_on(device: str) -> Tensor:
    stand_in: Tensor = mock.Mock(device=torch.device(device))
    return stand_in


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody wants Triton's kernels."""
    monkeypatch.setattr(deform_conv, "USE_TRITON", True)


def test_nobody_gets_triton_unasked() -> None:
    assert deform_conv._path_for(features_on("cuda")) is torchvision_deform_conv2d


@needs_triton
@pytest.mark.usefixtures("asked_for")
def test_on_a_gpu_triton_is_the_path_if_it_is_asked_for() -> None:
    from glip.layers.deform_conv_triton import triton_deform_conv2d

    assert deform_conv._path_for(features_on("cuda")) is triton_deform_conv2d


@pytest.mark.usefixtures("asked_for")
def test_on_a_gpu_without_triton_torchvision_is_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "glip.layers.deform_conv_triton", raising=False)
    assert deform_conv._path_for(features_on("cuda")) is torchvision_deform_conv2d


@pytest.mark.usefixtures("asked_for")
@pytest.mark.parametrize(
    ("reader", "question"),
    [
        pytest.param(torch.compiler, "is_compiling", id="torch.compile"),
        pytest.param(torch.jit, "is_tracing", id="torch.jit.trace"),
    ],
)
def test_torchvisions_operator_is_what_a_gpu_shows_to(
    reader: ModuleType, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, question, lambda: True)
    assert deform_conv._path_for(features_on("cuda")) is torchvision_deform_conv2d


@pytest.mark.parametrize(
    ("device", "path"),
    [
        pytest.param("cpu", gather_deform_conv2d, id="gathering on a CPU"),
        pytest.param("mps", torchvision_deform_conv2d, id="torchvision's operator on a GPU of another kind"),
    ],
)
def test_the_path_without_triton_is(device: str, path: deform_conv.DeformConv2d) -> None:
    assert deform_conv._path_for(features_on(device)) is path


def find_all() -> dict[str, list[Tensor]]:
    """Every case, run by Triton; where the interpreter is chosen, without a GPU."""
    ModulatedDeformConv(5, 6)(*(tensor.detach() for tensor in SEVERAL_BLOCKS.inputs()[:3]))
    found = {"loaded by a CPU": [torch.tensor("glip.layers.deform_conv_triton" in sys.modules)]}

    from glip.layers import deform_conv_triton

    convolve = deform_conv_triton.triton_deform_conv2d
    deform_conv_triton.POSITION_BLOCK = 128  # the interpreter's time goes by programs, not by numbers
    for name, case in {**CASES, "no images": NO_IMAGES}.items():
        found[name] = result_and_gradients(convolve, case.inputs(), case.stride)
    found["bfloat16"] = result_and_gradients(convolve, leaves(in_bfloat16(IN_BFLOAT16.inputs())), IN_BFLOAT16.stride)
    with mock.patch.multiple(deform_conv_triton, POSITION_BLOCK=32, CHANNEL_BLOCK=4):
        found["several blocks"] = result_and_gradients(convolve, SEVERAL_BLOCKS.inputs(), SEVERAL_BLOCKS.stride)

    features, offsets, mask, weight, bias = leaves(Case(1, (3, 4), 1.0, 1).inputs())
    broken = offsets.detach().clone()
    broken[0, 8, 1, 2] = torch.nan
    found["not a number"] = [convolve(features, broken, mask, weight, bias, 1).detach()]
    return found


if __name__ == "__main__":
    torch.save(find_all(), sys.argv[1])
