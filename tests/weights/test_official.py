"""Official checkpoints load whole or not at all, whatever their wrapping; nothing in them is executed."""

import json
import lzma
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
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
    pytest.param("t_b", glip_tiny, id="GLIP-T (B)"),
    pytest.param("t_c", glip_tiny, id="GLIP-T (C) and T"),
    pytest.param("l", glip_large, id="GLIP-L"),
]
# May be in a published file and are nobody's: every kind that the parity notes name, beside those of the key lists.
EXTRAS = {
    "language_backbone.body.model.embeddings.position_ids": (1, 512),
    "language_backbone.body.model.pooler.dense.weight": (768, 768),
    "language_backbone.body.model.pooler.dense.bias": (768,),
    "rpn.head.mlm_head.transform.dense.weight": (768, 768),
    "rpn.head.mlm_head.transform.LayerNorm.weight": (768,),
    "rpn.head.mlm_head.decoder.weight": (30522, 768),
    "rpn.head.mlm_head.bias": (30522,),
    "rpn.tunable_linear.weight": (1000, 768),
    "rpn.resizer.fc.weight": (256, 768),
    "rpn.resizer.layer_norm.bias": (256,),
}
IN_EVERY_FILE = {  # of the official key lists, and no part of the arithmetic
    "rpn.head.cls_logits.weight",
    "rpn.head.cls_logits.bias",
    *(f"rpn.anchor_generator.cell_anchors.{level}" for level in range(5)),
}
RELEASED = pytest.mark.parametrize("extras", [False, True], ids=["as listed", "with everything that may be dropped"])


@pytest.fixture(scope="module")
def key_lists() -> dict[str, dict[str, list[int]]]:
    """Every key of the official models and its shape."""
    lists: dict[str, dict[str, list[int]]] = json.loads(lzma.decompress((DATA / "keys_glip.json.xz").read_bytes()))
    return lists


def zeros(shapes: dict[str, Any]) -> dict[str, Tensor]:
    """Tensors of these shapes; the numbers are one zero each, so that nothing takes memory."""
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


def expected_shapes(config: GlipConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):
        model = GlipModel(config)
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def kept(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not DROPPED.match(name)}


@pytest.mark.parametrize(
    ("variant", "count"), [("t_a", 541), ("t_b", 745), ("t_c", 745), ("l", 1021)], ids=["A", "B", "C", "L"]
)
def test_the_key_lists_are_whole(variant: str, count: int, key_lists: dict[str, dict[str, list[int]]]) -> None:
    assert len(key_lists[variant]) == count


def test_variants_b_and_c_differ_in_training_data_only(key_lists: dict[str, dict[str, list[int]]]) -> None:
    assert key_lists["t_b"] == key_lists["t_c"]


@RELEASED
@pytest.mark.parametrize(("variant", "config"), VARIANTS)
def test_a_file_loads_strictly_into(
    variant: str, config: Callable[[], GlipConfig], extras: bool, key_lists: dict[str, dict[str, list[int]]]
) -> None:
    state = zeros(key_lists[variant] | (EXTRAS if extras else {}))
    with torch.device("meta"):
        model = GlipModel(config())
    model.load_state_dict(to_our_names(kept(state), source=variant), strict=True, assign=True)


@pytest.mark.parametrize(("variant", "config"), VARIANTS)
def test_only_what_may_be_dropped_is_dropped_from(
    variant: str, config: Callable[[], GlipConfig], key_lists: dict[str, dict[str, list[int]]]
) -> None:
    dropped = set(key_lists[variant]) - set(kept(zeros(key_lists[variant])))
    indices = {name for name in key_lists[variant] if name.endswith("attn.relative_position_index")}
    assert dropped == IN_EVERY_FILE | indices
    assert len(indices) == sum(config().backbone["depths"])
    assert not kept(zeros(EXTRAS))


@pytest.mark.parametrize(("variant", "config"), VARIANTS)
def test_the_published_numbers_are_read_off_the_shapes_of(
    variant: str, config: Callable[[], GlipConfig], key_lists: dict[str, dict[str, list[int]]]
) -> None:
    inferred, published = infer_config(zeros(key_lists[variant]), source=variant), config()
    for name in ("backbone", "channels", "num_blocks", "fusion", "fusion_dim", "fusion_heads", "strides"):
        assert getattr(inferred, name) == getattr(published, name), name
    assert inferred.text == {
        "vocab_size": 30522,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    }


@pytest.fixture(scope="module")
def small() -> dict[str, Tensor]:
    """A small official state dict with random numbers, of the compact parity copy."""
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
            lambda state: {"model": {f"module.{k}": v for k, v in (state | zeros(EXTRAS)).items()}}, id="with extras"
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


SPARK = Path(tempfile.gettempdir()) / f"glip-test-bomb-{os.getpid()}"


class Bomb:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, (f"open({str(SPARK)!r}, 'w').close()",))


def test_the_bomb_would_go_off(tmp_path: Path) -> None:
    """Else the tests of it could not fail."""
    pickle.loads(pickle.dumps(Bomb()))  # our own bytes, made in this line
    assert SPARK.exists()
    SPARK.unlink()


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


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(
            lambda path: path.write_bytes(pickle.dumps({"model": Bomb()}, protocol=2)), id="written by plain pickle"
        ),
        pytest.param(lambda path: torch.save({"model": {"a": torch.zeros(1)}, "b": Bomb()}, path), id="beside tensors"),
    ],
)
def test_code_is_refused_and_not_run(write: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    write(path)
    with pytest.raises(CheckpointError, match="never run"):
        read_state_dict(path)
    assert not SPARK.exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999], ids="{:.1%} of it".format)
def test_a_cut_file_is_refused(share: float, small: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "cut.pth"
    torch.save(small, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        pytest.param([torch.zeros(1)], "got a list", id="a list"),
        pytest.param(torch.zeros(1), "got a Tensor", id="a tensor"),
        pytest.param(None, "got a NoneType", id="nothing"),
        pytest.param({0: torch.zeros(1)}, "got a dict", id="a dict with numbers for names"),
        pytest.param({"model": {}}, "got an empty dict", id="a model without tensors"),
    ],
)
def test_what_is_no_state_dict_is_refused(content: object, fragment: str, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="expected a dict of named tensors") as error:
        read_state_dict(path)
    assert fragment in str(error.value)


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


MMDETECTION_NAMES = (  # in the order of its converter, from GLIP's names to its own; the first that fits
    *((f"backbone.fpn.fpn_inner{level + 2}.", f"neck.lateral_convs.{level}.conv.") for level in range(3)),
    *((f"backbone.fpn.fpn_layer{level + 2}.", f"neck.fpn_convs.{level}.conv.") for level in range(3)),
    ("backbone.fpn.top_blocks.p6.", "neck.fpn_convs.3.conv."),
    ("backbone.fpn.top_blocks.p7.", "neck.fpn_convs.4.conv."),
    ("backbone.body.patch_embed.proj.", "backbone.patch_embed.projection."),
    ("backbone.body.layers.", "backbone.stages."),
    ("backbone.body.", "backbone."),
    ("language_backbone.", "language_model.language_backbone."),
    ("rpn.", "bbox_head."),
)
MMDETECTION_INNER = {".attn.": ".attn.w_msa.", ".mlp.fc1.": ".ffn.layers.0.0.", ".mlp.fc2.": ".ffn.layers.1."}


def to_mmdetection(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What mmdetection's converter makes of an official file: other names, other order in patch merging.

    It drops the pooler only: the frozen class head, the anchors and the resizer stay, under `bbox_head.`.
    """
    theirs = {}
    for name, tensor in state.items():
        old, new = next(pair for pair in MMDETECTION_NAMES if name.startswith(pair[0]))
        renamed = new + name.removeprefix(old)
        if renamed.startswith("backbone.stages."):
            for ours, inner in MMDETECTION_INNER.items():
                renamed = renamed.replace(ours, inner)
        if ".pooler." not in renamed:
            theirs[renamed] = unfold_order(tensor) if ".downsample." in renamed else tensor
    return theirs


def unfold_order(tensor: Tensor) -> Tensor:
    """Official merging stacks neighbours (0,0), (1,0), (0,1), (1,1), all channels of each; nn.Unfold gives each
    channel its neighbours (0,0), (0,1), (1,0), (1,1).
    """
    width = tensor.shape[-1] // 4
    order = [neighbour * width + channel for channel in range(width) for neighbour in (0, 2, 1, 3)]
    return tensor[..., order]


def test_mmdetections_names_and_layout_lead_back_to_the_official_ones(small: dict[str, Tensor]) -> None:
    state = kept(small)
    restored = from_mmdetection(to_mmdetection(state))
    assert restored.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(restored[name], tensor), name


def test_four_numbered_neighbours_are_put_back_in_order() -> None:
    """Two channels: 10 to 13 and 20 to 23 are one channel's neighbours, counted row by row."""
    theirs = {"backbone.stages.0.downsample.norm.bias": torch.tensor([10, 11, 12, 13, 20, 21, 22, 23])}
    restored = from_mmdetection(theirs)["backbone.body.layers.0.downsample.norm.bias"]
    assert restored.tolist() == [10, 20, 12, 22, 11, 21, 13, 23]


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda state: state, id="as published"),
        pytest.param(lambda state: {"meta": {}, "state_dict": state}, id="as written after training"),
    ],
)
def test_a_file_of_mmdetection_is_the_official_one(
    wrap: Callable[[Any], Any], small: dict[str, Tensor], tmp_path: Path
) -> None:
    official, theirs = tmp_path / "official.pth", tmp_path / "mmdetection.pth"
    torch.save(small, official)
    torch.save(wrap(to_mmdetection(small | zeros(EXTRAS))), theirs)
    config, expected = read_official_checkpoint(official)
    found_config, found = read_official_checkpoint(theirs)
    assert found_config.to_dict() == config.to_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
