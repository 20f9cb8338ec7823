"""What `save_pretrained` wrote, `from_pretrained` reads back bit for bit, or refuses; nothing is filled in silently."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import tests.reference.load_saved_models as program
from glip.errors import CheckpointError
from glip.models.glip import GlipModel
from tests.reference.tiny_models import (
    TINY_BACKBONES,
    random_captions,
    random_images,
    tiny_config,
    tiny_model,
)

TIMM_WITH_COMPUTED_BUFFERS = {"kind": "timm", "name": "test_maxvit", "out_indices": [2, 3, 4]}
SAVED: dict[str, Callable[[], GlipModel]] = {
    **{f"{kind} backbone": lambda kind=kind: tiny_model(kind) for kind in TINY_BACKBONES if kind != "timm"},  # type: ignore[misc]
    "without fusion": lambda: tiny_model(fusion=False),
    "four levels": lambda: tiny_model("csp", strides=[8, 16, 32, 64], top_down=False, mask_padding=True),
    "a timm backbone that computes its buffers": lambda: tiny_model("timm", backbone=TIMM_WITH_COMPUTED_BUFFERS),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of `SAVED`, with the model and, from a fresh process, its outputs and buffers."""
    root = tmp_path_factory.mktemp("saved")
    folders = [root / name for name in SAVED]
    for folder, make in zip(folders, SAVED.values(), strict=True):
        make().save_pretrained(folder)
    fresh = subprocess.run(
        [sys.executable, "-m", program.__name__, *map(str, folders)],
        check=False,  # a network that cannot be run fails its own tests below, not those of the others
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        cwd=Path(__file__).parents[2],
    )
    (root / "stderr.txt").write_text(fresh.stderr)
    return root


def from_the_fresh_process(saved: Path, name: str, file: str) -> dict[str, Tensor]:
    path = saved / name / file
    assert path.is_file(), (saved / "stderr.txt").read_text()
    tensors: dict[str, Tensor] = torch.load(path)
    return tensors


@pytest.mark.parametrize("name", [pytest.param(name, id=name) for name in SAVED])
def test_a_fresh_process_says_bit_for_bit_the_same_with(name: str, saved: Path) -> None:
    model = SAVED[name]()
    with torch.no_grad():
        expected = model(random_images(1, 160, 160), random_captions(1))
    for part, tensor in from_the_fresh_process(saved, name, "output.pt").items():
        torch.testing.assert_close(tensor, expected[part], rtol=0, atol=0)


@pytest.mark.parametrize("name", [pytest.param(name, id=name) for name in SAVED])
def test_every_buffer_is_as_it_was_even_those_that_are_not_saved_with(name: str, saved: Path) -> None:
    found = from_the_fresh_process(saved, name, "buffers.pt")
    expected = dict(SAVED[name]().named_buffers())
    assert expected.keys() == found.keys()
    for buffer, tensor in expected.items():
        torch.testing.assert_close(found[buffer], tensor, rtol=0, atol=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved tiny network whose file a test may spoil."""
    tiny_model("csp").save_pretrained(tmp_path)
    return tmp_path


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def without_the_box_head(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name != "head.box.weight"}


def with_a_stranger(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**state, "head.stranger": torch.zeros(2)}


def with_a_narrow_box_head(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**state, "head.box.weight": torch.zeros(4, 31)}


def without_words(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith("text_encoder.")}


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        pytest.param(without_the_box_head, r"1 missing keys, first head\.box\.weight", id="lacks a tensor"),
        pytest.param(without_words, r"37 missing keys, first text_encoder\.bert", id="lacks transformers' own part"),
        pytest.param(with_a_stranger, r"1 unexpected keys, first head\.stranger", id="has a tensor too many"),
        pytest.param(with_a_narrow_box_head, r"head\.box\.weight", id="has a tensor of another shape"),
    ],
)
def test_a_file_is_refused_by_name_if_it(
    spoil: Callable[[dict[str, Tensor]], dict[str, Tensor]], name: str, folder: Path
) -> None:
    rewrite(folder, spoil)
    with pytest.raises(CheckpointError, match=name):
        GlipModel.from_pretrained(folder)


def test_a_network_saved_in_half_precision_loads_as_float32_with_the_same_numbers(tmp_path: Path) -> None:
    tiny_model("csp").half().save_pretrained(tmp_path)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {torch.float16}
    model = GlipModel.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    expected = tiny_model("csp").head.box.weight.half().float()
    torch.testing.assert_close(model.head.box.weight, expected, rtol=0, atol=0)


def test_another_precision_can_be_asked_for(folder: Path) -> None:
    model = GlipModel.from_pretrained(folder, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_a_loaded_network_is_in_evaluation_mode_and_keeps_its_config(folder: Path) -> None:
    model = GlipModel.from_pretrained(folder)
    assert not model.training
    found, expected = model.config.to_dict(), tiny_config("csp").to_dict()
    assert {name: found[name] for name in ("backbone", "text", "strides", "channels")} == {
        name: expected[name] for name in ("backbone", "text", "strides", "channels")
    }


def test_the_loading_report_is_given_when_asked_for(folder: Path) -> None:
    loaded: Any = GlipModel.from_pretrained(folder, output_loading_info=True)
    model, report = loaded
    assert isinstance(model, GlipModel)
    assert not report["missing_keys"]


def test_construction_keeps_the_modules_own_start_values() -> None:
    model = tiny_model()
    torch.testing.assert_close(model.head.bias, torch.tensor([-4.59511985]))
    torch.testing.assert_close(model.head.scales[0], torch.ones(1))
    for block in model.blocks:
        assert dict(block.named_parameters())["fusion.image_scale"].tolist() == [0.5] * 32  # 1 / blocks
    assert float(dict(model.named_parameters())["fpn.output.0.weight"].detach().std()) > 0.05  # Kaiming, not 0.02
