"""Weights under OpenAI's names say what transformers says of the same numbers; the layout is written by hand."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPModel

from glip.errors import CheckpointError, FileError
from glip.models.clip_vit import VitClipModel
from tests.weights.test_clip import save_clip, texts

HEAD_WIDTH = 8


def openai_layout(model: CLIPModel) -> dict[str, Tensor]:
    """The tensors of a transformers CLIP as OpenAI's code names and stores them."""
    theirs = model.state_dict()
    layout = {
        "logit_scale": theirs["logit_scale"],
        "visual.proj": theirs["visual_projection.weight"].T.contiguous(),
        "text_projection": theirs["text_projection.weight"].T.contiguous(),
        "visual.class_embedding": theirs["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": theirs["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": theirs["vision_model.embeddings.position_embedding.weight"],
        "token_embedding.weight": theirs["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": theirs["text_model.embeddings.position_embedding.weight"],
    }
    for kind in ("weight", "bias"):
        layout[f"visual.ln_pre.{kind}"] = theirs[f"vision_model.pre_layrnorm.{kind}"]
        layout[f"visual.ln_post.{kind}"] = theirs[f"vision_model.post_layernorm.{kind}"]
        layout[f"ln_final.{kind}"] = theirs[f"text_model.final_layer_norm.{kind}"]
        for tower, prefix, count in (("vision_model", "visual.transformer", 3), ("text_model", "transformer", 2)):
            for number in range(count):
                own, layer = f"{prefix}.resblocks.{number}", f"{tower}.encoder.layers.{number}"
                attention = [theirs[f"{layer}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
                layout[f"{own}.attn.in_proj_{kind}"] = torch.cat(attention)
                layout[f"{own}.attn.out_proj.{kind}"] = theirs[f"{layer}.self_attn.out_proj.{kind}"]
                layout[f"{own}.ln_1.{kind}"] = theirs[f"{layer}.layer_norm1.{kind}"]
                layout[f"{own}.ln_2.{kind}"] = theirs[f"{layer}.layer_norm2.{kind}"]
                layout[f"{own}.mlp.c_fc.{kind}"] = theirs[f"{layer}.mlp.fc1.{kind}"]
                layout[f"{own}.mlp.c_proj.{kind}"] = theirs[f"{layer}.mlp.fc2.{kind}"]
    return {name: tensor.clone() for name, tensor in layout.items()}


def load(path: Path, *, quick_gelu: bool = True) -> VitClipModel:
    return VitClipModel.from_openai(path, quick_gelu=quick_gelu, head_width=HEAD_WIDTH)


@pytest.fixture
def theirs(tmp_path: Path) -> CLIPModel:
    return save_clip(tmp_path / "theirs", image_heads=3)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_the_same_numbers_say_the_same_from_a_file(activation: str, suffix: str, tmp_path: Path) -> None:
    theirs = save_clip(tmp_path / "theirs", activation=activation, image_heads=3)
    path = tmp_path / f"clip{suffix}"
    state = openai_layout(theirs)
    if suffix == ".pt":
        torch.save({**state, "input_resolution": torch.tensor(32), "vocab_size": torch.tensor(60)}, path)
    else:
        save_file(state, path)
    ours = load(path, quick_gelu=activation == "quick_gelu")
    images, ids = torch.randn(2, 3, 32, 32), texts()[:2]
    with torch.no_grad():
        expected, found = theirs(input_ids=ids, pixel_values=images), ours(images, ids)
    torch.testing.assert_close(found.image_features, expected.image_embeds, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.text_features, expected.text_embeds, rtol=0, atol=1e-5)
    assert found.logit_scale.item() == pytest.approx(theirs.logit_scale.exp().item())


def test_half_precision_becomes_float32(theirs: CLIPModel, tmp_path: Path) -> None:
    torch.save({name: tensor.half() for name, tensor in openai_layout(theirs).items()}, tmp_path / "half.pt")
    assert {parameter.dtype for parameter in load(tmp_path / "half.pt").parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("without", "more", "message"),
    [
        pytest.param("ln_final.bias", {}, r"1 missing .*text_norm\.bias", id="lacks a tensor"),
        pytest.param("positional_embedding", {}, r"lacks \['text_positions'\]", id="lacks a tensor that tells a size"),
        pytest.param("", {"visual.more": torch.zeros(1)}, "visual.more is no tensor", id="has a stranger"),
        pytest.param("visual.class_embedding", {}, r"1 missing .*class_token", id="lacks a tensor of no size"),
    ],
)
def test_a_file_is_refused_if_it(
    without: str, more: dict[str, Tensor], message: str, theirs: CLIPModel, tmp_path: Path
) -> None:
    state = {name: tensor for name, tensor in openai_layout(theirs).items() if name != without}
    torch.save(state | more, tmp_path / "clip.pt")
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "clip.pt")


def test_files_that_are_missing_or_cut_short_are_refused(theirs: CLIPModel, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        load(tmp_path / "gone.pt")
    save_file(openai_layout(theirs), tmp_path / "clip.safetensors")
    content = (tmp_path / "clip.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:100])
    with pytest.raises(CheckpointError, match="cut short"):
        load(tmp_path / "cut.safetensors")
