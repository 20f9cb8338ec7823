"""`tools/convert_checkpoint.py` turns an official file into a folder that `from_pretrained` reads, or changes nothing.

The official file is made here: a tiny random network whose tensors get the official names and layouts.
"""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from glip.configuration import GlipConfig
from glip.models.glip import GlipModel
from glip.processing import GlipProcessor
from tools.convert_checkpoint import main

VOCABULARY = 30522  # of the shipped tokenizer, which the converted folder gets
PATCH = "backbone.patch_embed.proj.weight"
# Ours to official, first match wins; in blocks, module 3 i is the fusion, 3 i + 1 the text layer, 3 i + 2 the DyConv.
OFFICIAL_NAMES = [
    (r"backbone\.norms\.0\.", "backbone.body.norm1."),
    (r"backbone\.norms\.1\.", "backbone.body.norm2."),
    (r"backbone\.norms\.2\.", "backbone.body.norm3."),
    (r"backbone\.", "backbone.body."),
    (r"fpn\.lateral\.0\.", "backbone.fpn.fpn_inner2."),
    (r"fpn\.lateral\.1\.", "backbone.fpn.fpn_inner3."),
    (r"fpn\.lateral\.2\.", "backbone.fpn.fpn_inner4."),
    (r"fpn\.output\.0\.", "backbone.fpn.fpn_layer2."),
    (r"fpn\.output\.1\.", "backbone.fpn.fpn_layer3."),
    (r"fpn\.output\.2\.", "backbone.fpn.fpn_layer4."),
    (r"fpn\.extra\.0\.", "backbone.fpn.top_blocks.p6."),
    (r"fpn\.extra\.1\.", "backbone.fpn.top_blocks.p7."),
    (r"text_encoder\.bert\.", "language_backbone.body.model."),
    (r"head\.box\.", "rpn.head.bbox_pred."),
    (r"head\.centerness\.", "rpn.head.centerness."),
    (r"head\.word_projection\.", "rpn.head.dot_product_projection_text."),
    (r"head\.word_bias$", "rpn.head.bias_lang"),
    (r"head\.bias$", "rpn.head.bias0"),
    (r"head\.log_scale$", "rpn.head.log_scale"),
    (r"head\.scales\.(\d)$", r"rpn.head.scales.\1.scale"),
]
OFFICIAL_PARTS = {
    "fusion.image_norm": (0, "b_attn.layer_norm_v"),
    "fusion.word_norm": (0, "b_attn.layer_norm_l"),
    "fusion.image_query": (0, "b_attn.attn.v_proj"),
    "fusion.word_key": (0, "b_attn.attn.l_proj"),
    "fusion.image_value": (0, "b_attn.attn.values_v_proj"),
    "fusion.word_value": (0, "b_attn.attn.values_l_proj"),
    "fusion.image_out": (0, "b_attn.attn.out_v_proj"),
    "fusion.word_out": (0, "b_attn.attn.out_l_proj"),
    "fusion.image_scale": (0, "b_attn.gamma_v"),
    "fusion.word_scale": (0, "b_attn.gamma_l"),
    "text_layer.query": (1, "attention.self.query"),
    "text_layer.key": (1, "attention.self.key"),
    "text_layer.value": (1, "attention.self.value"),
    "text_layer.attention_out": (1, "attention.output.dense"),
    "text_layer.attention_norm": (1, "attention.output.LayerNorm"),
    "text_layer.expand": (1, "intermediate.dense"),
    "text_layer.contract": (1, "output.dense"),
    "text_layer.feedforward_norm": (1, "output.LayerNorm"),
    "dyconv.from_coarser.conv": (2, "DyConv.0.conv"),
    "dyconv.from_coarser.norm": (2, "DyConv.0.bn"),
    "dyconv.from_same.conv": (2, "DyConv.1.conv"),
    "dyconv.from_same.norm": (2, "DyConv.1.bn"),
    "dyconv.from_finer.conv": (2, "DyConv.2.conv"),
    "dyconv.from_finer.norm": (2, "DyConv.2.bn"),
    "dyconv.scale_attention": (2, "AttnConv.1"),
    "dyconv.activation.squeeze": (2, "relu.fc.0"),
    "dyconv.activation.excite": (2, "relu.fc.2"),
    "dyconv.offset": (2, "offset"),
}


@pytest.fixture(scope="module")
def network() -> GlipModel:
    torch.manual_seed(0)
    tiny_swin = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4}
    tiny_bert = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 24}
    return GlipModel(
        GlipConfig(
            backbone={"kind": "swin", **tiny_swin},
            text={"vocab_size": VOCABULARY, **tiny_bert},
            channels=32,
            num_blocks=2,
            fusion_dim=40,
        )
    )


@pytest.fixture
def official(network: GlipModel, tmp_path: Path) -> Path:
    """The network as the official code would have saved it."""
    state = {official_name(name): official_layout(name, tensor) for name, tensor in network.state_dict().items()}
    state["rpn.head.cls_logits.bias"] = torch.zeros(80)  # every official file has it, and no network of ours
    path = tmp_path / "glip_tiny.pth"
    torch.save({"model": {f"module.{name}": tensor for name, tensor in state.items()}, "iteration": 7}, path)
    return path


def official_name(name: str) -> str:
    block = re.fullmatch(r"blocks\.(\d+)\.(.+?)(\.weight|\.bias)?", name)
    if block:
        module, part = OFFICIAL_PARTS[block[2]]
        return f"rpn.head.dyhead_tower.{3 * int(block[1]) + module}.{part}{block[3] or ''}"
    for ours, theirs in OFFICIAL_NAMES:
        renamed, count = re.subn(f"^{ours}", theirs, name)
        if count:
            return renamed
    raise AssertionError(name)


def official_layout(name: str, tensor: Tensor) -> Tensor:
    """BGR, and 1x1 convolutions where ours are linear."""
    if name == PATCH:
        return tensor.flip(1)
    is_pointwise = name.endswith((".scale_attention.weight", "head.box.weight", "head.centerness.weight"))
    return tensor[:, :, None, None] if is_pointwise else tensor


def test_the_folder_holds_the_network_of_the_file(network: GlipModel, official: Path, tmp_path: Path) -> None:
    assert main([str(official), str(tmp_path / "out")]) == 0
    found = GlipModel.from_pretrained(tmp_path / "out")
    expected = network.state_dict()
    assert found.state_dict().keys() == expected.keys()
    for name, tensor in found.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0, msg=name)
    assert found.config.num_blocks == 2
    assert found.config.backbone["window_size"] == 4


def test_the_folder_prepares_pictures_and_words_as_published(official: Path, tmp_path: Path) -> None:
    assert main([str(official), str(tmp_path / "out")]) == 0
    processor: GlipProcessor = GlipProcessor.from_pretrained(tmp_path / "out")
    assert (processor.image_processor.short_side, processor.image_processor.max_side) == (800, 1333)
    assert processor.max_tokens == 256
    assert processor.tokenizer("cat")["input_ids"] == [101, 4937, 102]


def test_the_command_says_what_the_network_is(
    official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(official), str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert "embed_dim 8, depths [1, 1, 1, 1], num_heads [1, 1, 2, 2], window_size 4" in said
    assert "1 layers, hidden_size 16, num_attention_heads 1, vocab_size 30522" in said
    assert "2 blocks, channels 32, fusion_dim 40" in said
    assert "missing 0, unexpected 0" in said


def test_an_empty_folder_is_filled(official: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert main([str(official), str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "config.json").is_file()


def test_a_folder_with_something_in_it_is_left_alone(
    official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "out" / "config.json"
    mine.parent.mkdir()
    mine.write_text("mine")
    assert main([str(official), str(mine.parent)]) == 1
    assert "--overwrite" in one_line_of_error(capsys)
    assert mine.read_text() == "mine"
    assert list(mine.parent.iterdir()) == [mine]


def test_a_folder_with_something_in_it_is_written_over_when_asked(official: Path, tmp_path: Path) -> None:
    mine = tmp_path / "out" / "config.json"
    mine.parent.mkdir()
    mine.write_text("mine")
    assert main([str(official), str(mine.parent), "--overwrite"]) == 0
    assert json.loads(mine.read_text())["model_type"] == "glip"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param(None, "no such file", id="a file that is not there"),
        pytest.param(b"", "not a readable checkpoint", id="an empty file"),
        pytest.param(b"no weights", "not a readable checkpoint", id="a file of another kind"),
    ],
)
def test_one_line_is_said_and_nothing_written_for(
    content: bytes | None, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.pth"
    if content is not None:
        source.write_bytes(content)
    assert main([str(source), str(tmp_path / "out")]) == 1
    assert complaint in one_line_of_error(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        pytest.param("module.roi_heads.mask.weight", "roi_heads", id="a tensor that GLIP does not have"),
        pytest.param("module.backbone.body.norm9.weight", "1 unexpected", id="a tensor too many"),
    ],
)
def test_a_file_is_refused_that_has(
    name: str, complaint: str, official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(official, weights_only=True)
    content["model"][name] = torch.zeros(1)
    torch.save(content, official)
    assert main([str(official), str(tmp_path / "out")]) == 1
    assert complaint in one_line_of_error(capsys)
    assert not (tmp_path / "out").exists()


def test_a_file_is_refused_that_lacks_a_tensor(
    official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(official, weights_only=True)
    del content["model"]["module.rpn.head.bbox_pred.bias"]
    torch.save(content, official)
    assert main([str(official), str(tmp_path / "out")]) == 1
    assert "1 missing and 0 unexpected" in one_line_of_error(capsys)
    assert not (tmp_path / "out").exists()


def test_a_target_that_is_a_file_is_left_alone(
    official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out"
    target.write_text("mine")
    assert main([str(official), str(target), "--overwrite"]) == 1
    assert "is a file" in one_line_of_error(capsys)
    assert target.read_text() == "mine"


def one_line_of_error(capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says on stderr, which is one line and nothing on stdout."""
    said = capsys.readouterr()
    assert not said.out
    lines = said.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]
