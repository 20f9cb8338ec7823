"""Official checkpoints load whole or not at all, whatever their wrapping; nothing in them is executed."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glip.configuration import GlipConfig, glip_large, glip_tiny, glip_tiny_a
from glip.errors import CheckpointError, FileError
from glip.models.glip import GlipModel
from glip.weights.official import (
    DROPPED,
    from_mmdetection,
    infer_config,
    our_name,
    read_official_checkpoint,
    to_our_names,
)
from glip.weights.reading import read_state_dict
from tests.parity.official import DATA

VARIANTS = [
    pytest.param("t_a", glip_tiny_a, id="GLIP-T (A)"),
    pytest.param("t_c", glip_tiny, id="GLIP-T (B), (C) and T"),
    pytest.param("l", glip_large, id="GLIP-L"),
]
EXTRAS = {
    "language_backbone.body.model.embeddings.position_ids": (1, 512),
    "language_backbone.body.model.pooler.dense.weight": (768, 768),
    "rpn.head.mlm_head.transform.dense.weight": (768, 768),
    "rpn.tunable_linear.weight": (1000, 768),
    "rpn.resizer.fc.weight": (256, 768),
    "rpn.head.cls_logits.weight": (4, 256, 1, 1),
}


def official_state(variant: str) -> dict[str, Tensor]:
    """Every key of an official file with its shape; the numbers are one zero, so that nothing takes memory."""
    shapes = json.loads((DATA / f"keys_glip_{variant}.json").read_text())
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


def expected_shapes(config: GlipConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):
        model = GlipModel(config)
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def kept(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not DROPPED.match(name)}


@pytest.mark.parametrize(("variant", "config"), VARIANTS)
def test_every_key_has_a_place_and_every_place_a_key_in(variant: str, config: Callable[[], GlipConfig]) -> None:
    state = kept({**official_state(variant), **{name: torch.zeros(shape) for name, shape in EXTRAS.items()}})
    found = {name: tensor.shape for name, tensor in to_our_names(state, source=variant).items()}
    assert found == expected_shapes(config())


@pytest.mark.parametrize(("variant", "config"), VARIANTS)
def test_the_numbers_are_read_off_the_shapes_of(variant: str, config: Callable[[], GlipConfig]) -> None:
    inferred, published = infer_config(official_state(variant), source=variant), config()
    for name in ("backbone", "channels", "num_blocks", "fusion", "fusion_dim", "strides"):
        assert getattr(inferred, name) == getattr(published, name), name
    assert (inferred.text["hidden_size"], inferred.text["num_attention_heads"]) == (768, 12)


@pytest.fixture(scope="module")
def small() -> dict[str, Tensor]:
    """A small official state dict with random numbers, of the compact parity copy."""
    import numpy as np

    arrays = np.load(DATA / "public_weights_f16.npz")
    return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda state: state, id="bare"),
        pytest.param(lambda state: {"model": state}, id="under model"),
        pytest.param(lambda state: {f"module.{k}": v for k, v in state.items()}, id="bare with module."),
        pytest.param(
            lambda state: {"model": {f"module.{k}": v for k, v in state.items()}, "iteration": 7}, id="as released"
        ),
        pytest.param(
            lambda state: {"model": {**state, **{k: torch.zeros(s) for k, s in EXTRAS.items()}}}, id="with extras"
        ),
    ],
)
def test_a_file_loads(wrap: Callable[[Any], Any], small: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "official.pth"
    torch.save(wrap(small), path)
    config, state = read_official_checkpoint(path)
    assert {name: tensor.shape for name, tensor in state.items()} == expected_shapes(config)


def test_the_first_convolution_is_turned_from_bgr_to_rgb(small: dict[str, Tensor]) -> None:
    state = to_our_names(kept(small), source="small")
    original = small["backbone.body.patch_embed.proj.weight"]
    assert torch.equal(state["backbone.patch_embed.proj.weight"], original[:, [2, 1, 0]])


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("raise SystemExit('the file was executed')",))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        pytest.param(lambda s: s.pop("rpn.head.bbox_pred.bias"), "1 missing", id="without a key"),
        pytest.param(
            lambda s: s.update({"rpn.head.surprise": torch.zeros(1)}), "no tensor of GLIP", id="with a new key"
        ),
        pytest.param(
            lambda s: s.update({"rpn.head.bbox_pred.bias": torch.zeros(5)}), "must be (4,)", id="with a wrong shape"
        ),
        pytest.param(lambda s: s.pop("backbone.body.patch_embed.proj.weight"), "no tensor", id="without its backbone"),
        pytest.param(lambda s: s.update({"rpn.head.log_scale": "one"}), "must be a tensor", id="with a string"),
        pytest.param(lambda s: s.clear(), "an empty dict", id="that is empty"),
    ],
)
def test_a_file_is_refused(
    change: Callable[[dict[str, Any]], object], fragment: str, small: dict[str, Tensor], tmp_path: Path
) -> None:
    state: dict[str, Any] = dict(small)
    change(state)
    path = tmp_path / "broken.pth"
    torch.save({"model": state} if state else state, path)
    with pytest.raises(CheckpointError) as error:
        GlipModel.from_original(path)
    assert fragment in str(error.value)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    path.write_bytes(pickle.dumps({"model": Bomb()}, protocol=2))
    with pytest.raises(CheckpointError, match="never run"):
        read_state_dict(path)


def test_a_cut_file_is_refused(small: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "cut.pth"
    torch.save(small, path)
    cut(path)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        read_state_dict(path)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        read_state_dict(tmp_path / "nothing.pth")


@pytest.mark.parametrize(
    "name",
    [
        "rpn.head.dyhead_tower.0.b_attn.attn.wrong_proj.weight",
        "rpn.head.dyhead_tower.2.DyConv.3.conv.weight",
        "backbone.fpn.fpn_inner1.weight",
        "",
    ],
)
def test_no_place_is_invented_for(name: str) -> None:
    assert our_name(name, fused=True) is None


def to_mmdetection(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The renaming that mmdetection's converter does, written down the other way round."""
    pairs = [
        ("backbone.body.patch_embed.proj.", "backbone.patch_embed.projection."),
        ("backbone.body.layers.", "backbone.stages."),
        ("backbone.body.", "backbone."),
        ("backbone.fpn.top_blocks.p6.", "neck.fpn_convs.3.conv."),
        ("backbone.fpn.top_blocks.p7.", "neck.fpn_convs.4.conv."),
        *((f"backbone.fpn.fpn_inner{i + 2}.", f"neck.lateral_convs.{i}.conv.") for i in range(3)),
        *((f"backbone.fpn.fpn_layer{i + 2}.", f"neck.fpn_convs.{i}.conv.") for i in range(3)),
        ("language_backbone.", "language_model.language_backbone."),
        ("rpn.head.", "bbox_head.head."),
    ]
    theirs = {}
    for name, tensor in state.items():
        renamed = next((new + name.removeprefix(old) for old, new in pairs if name.startswith(old)), name)
        if renamed.startswith("backbone."):
            renamed = renamed.replace(".attn.", ".attn.w_msa.")
            renamed = renamed.replace(".mlp.fc1.", ".ffn.layers.0.0.").replace(".mlp.fc2.", ".ffn.layers.1.")
        if ".downsample." in renamed:
            theirs[renamed] = tensor.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :].transpose(-1, -2).flatten(-2)
        else:
            theirs[renamed] = tensor
    return theirs


def test_mmdetections_names_and_layout_lead_back_to_the_official_ones(small: dict[str, Tensor]) -> None:
    state = kept(small)
    restored = from_mmdetection(to_mmdetection(state))
    assert restored.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(restored[name], tensor), name


def test_mmdetections_anchor_constants_are_dropped(small: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "mmdetection.pth"
    constants = {f"bbox_head.anchor_generator.cell_anchors.{level}": torch.zeros(1, 4) for level in range(5)}
    torch.save({"state_dict": {**to_mmdetection(kept(small)), **constants}}, path)
    config, state = read_official_checkpoint(path)
    assert {name: tensor.shape for name, tensor in state.items()} == expected_shapes(config)
