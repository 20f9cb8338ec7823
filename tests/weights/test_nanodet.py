"""NanoDet-g's graph becomes weights of `CspPan`, or is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from glip.errors import CheckpointError, FileError
from glip.models.backbones import build_backbone
from glip.weights.nanodet import decode_nanodet, read_nanodet

CHANNELS = {"kind": "csp", "stem_channels": 2, "stage_channels": [4, 8, 16, 32], "stage_depths": [1, 2, 2, 3]}


def write_graph(folder: Path, shapes: list[tuple[int, ...]]) -> Path:
    """A TensorFlow.js graph of convolutions (kernels HWIO) with biases, numbered as in the package."""
    nodes, weights, numbers = [], [], []
    for index, shape in enumerate(shapes):
        name = f"net/Conv2D_{index}" if index else "net/Conv2D"
        nodes.append({"name": name, "op": "Conv2D", "input": ["x", f"kernel{index}"]})
        nodes.append({"name": f"add{index}", "op": "Add", "input": [name, f"bias{index}"]})
        for tensor, size in ((f"kernel{index}", shape), (f"bias{index}", (shape[-1],))):
            weights.append(
                {"name": tensor, "shape": list(size), "dtype": "float32", "quantization": {"dtype": "float16"}}
            )
            numbers.append(np.full(size, index / 8, dtype=np.float16))
    path = folder / "nanodet.json"
    path.write_text(json.dumps({"modelTopology": {"node": nodes}, "weightsManifest": [{"weights": weights}]}))
    path.with_suffix(".bin").write_bytes(b"".join(array.tobytes() for array in numbers))
    return path


def graph_shapes() -> list[tuple[int, ...]]:
    """Kernels of a narrow NanoDet-g in the graph's order."""
    backbone = build_backbone({**CHANNELS, "neck_channels": 4})
    convolutions = {name: module for name, module in backbone.named_modules() if isinstance(module, torch.nn.Conv2d)}
    shapes = [_hwio(c) for name, c in convolutions.items() if not name.startswith("towers")]
    for name, convolution in convolutions.items():
        if name.startswith("towers"):
            shapes += [_hwio(convolution), (1, 1, 4, 124)]
    return shapes


def _hwio(convolution: torch.nn.Conv2d) -> tuple[int, ...]:
    out, inside, height, width = convolution.weight.shape
    return height, width, inside, out


def test_every_convolution_finds_its_place(tmp_path: Path) -> None:
    state, outputs = read_nanodet(write_graph(tmp_path, graph_shapes()))
    backbone = build_backbone({**CHANNELS, "neck_channels": 4})
    backbone.load_state_dict(state)
    assert float(state["stem.conv.bias"][0]) == 0.0
    assert float(state["stages.0.entry.conv.bias"][0]) == 1 / 8
    assert [tuple(weight.shape) for weight, _ in outputs] == [(124, 4)] * 3


def test_another_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected 34 convolutions"):
        read_nanodet(write_graph(tmp_path, graph_shapes()[:-1]))


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"nanodet\.json: no such file"):
        read_nanodet(tmp_path / "nanodet.json")


def test_equal_bins_mean_a_box_of_five_strides_to_each_side() -> None:
    boxes, scores = decode_nanodet(torch.zeros(1, 124, 1, 2), 8)
    torch.testing.assert_close(boxes[0], torch.tensor([[-36.0, -36.0, 44.0, 44.0], [-28.0, -36.0, 52.0, 44.0]]))
    torch.testing.assert_close(scores, torch.full((1, 2, 80), 0.5))
