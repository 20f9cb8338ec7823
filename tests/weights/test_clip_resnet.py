"""A file of OpenAI's or open_clip's with a ResNet is read if it fits exactly, and says how large it is."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTokenizer

from glip.clip_configuration import ResNetClipConfig
from glip.clip_processing import CLIP_MEAN, CLIP_STD, ClipImageProcessor, ClipProcessor
from glip.errors import CheckpointError, ConfigError, ShapeError
from glip.models.clip_resnet import ResNetClipModel
from glip.models.clip_vit import VitClipModel
from glip.weights.clip_openai import read_openai_clip
from glip.zero_shot import ZeroShotClassifier
from tests.reference import published_resnet as tiny
from tests.weights.test_clip import save_clip
from tests.weights.test_clip_openai import openai_layout


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """A tiny network under the published names."""
    return tiny.weights(tiny.tiny_shapes())


def load(path: Path) -> ResNetClipModel:
    return ResNetClipModel.from_openai(path, quick_gelu=True, head_width=tiny.TINY_HEAD_WIDTH)


def test_the_shapes_say_how_large_the_network_is(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "clip.pt")
    config = load(tmp_path / "clip.pt").config
    assert (config.image_size, config.image_width, config.image_layers, config.image_heads) == (96, 8, [1, 2, 1, 1], 16)
    assert (config.text_width, config.text_layers, config.text_heads) == (32, 2, 2)
    assert (config.vocab_size, config.max_tokens, config.embed_dim) == (60, 12, 16)


def test_the_published_rn50_is_what_a_config_is_without_numbers(tmp_path: Path) -> None:
    stored = {name: torch.zeros(()).expand(shape) for name, shape in tiny.rn50_shapes().items()}  # one number each
    torch.save(stored, tmp_path / "RN50.pt")
    config, converted = read_openai_clip(tmp_path / "RN50.pt", quick_gelu=True)
    assert config.to_dict() == ResNetClipConfig().to_dict()
    with torch.device("meta"):
        expected = ResNetClipModel(ResNetClipConfig()).state_dict()
    assert {name: tensor.shape for name, tensor in converted.items()} == {n: t.shape for n, t in expected.items()}


def test_half_precision_safetensors_without_counts_are_read_in_float32(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    halves = {name: tensor.half() for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    save_file(halves, tmp_path / "clip.safetensors")
    torch.save({**state, "input_resolution": torch.tensor(96)}, tmp_path / "clip.pt")
    found, expected = load(tmp_path / "clip.safetensors"), load(tmp_path / "clip.pt")
    assert {tensor.dtype for tensor in found.state_dict().values()} == {torch.float32}
    with torch.no_grad():
        torch.testing.assert_close(
            found.encode_images(tiny.pictures()), expected.encode_images(tiny.pictures()), rtol=0, atol=1e-2
        )


@pytest.mark.parametrize(
    ("without", "more", "message"),
    [
        pytest.param(
            "visual.layer2.1.bn3.running_mean",
            {},
            r"1 missing and 0 unexpected .*stages\.1\.1\.expand\.norm\.running_mean",
            id="lacks a tensor of the image tower",
        ),
        pytest.param("ln_final.bias", {}, r"1 missing .*text_norm\.bias", id="lacks a tensor of the text tower"),
        pytest.param(
            "visual.layer3.0.conv1.weight",
            {},
            r"lacks \['stages\.2\.0\.reduce\.conv\.weight'\]",
            id="lacks a tensor that tells a size",
        ),
        pytest.param(
            "",
            {"visual.layer5.0.conv1.weight": torch.zeros(1)},
            "layer5.0.conv1.weight is no tensor",
            id="has a stage more",
        ),
        pytest.param("", {"visual.more": torch.zeros(1)}, "visual.more is no tensor", id="has a stranger"),
        pytest.param(
            "",
            {"visual.proj": torch.zeros(2, 2)},
            "1 unexpected .*image_projection",
            id="has a part of the other tower",
        ),
        pytest.param(
            "",
            {tiny.POSITIONS: torch.zeros(11, 256)},
            r"image_pool\.positions must be \(10, 256\), got \(11, 256\)",
            id="has positions that are no square",
        ),
        pytest.param(
            "",
            {tiny.POSITIONS: torch.zeros(256)},
            r"image_pool\.positions must be 2-dimensional and not empty, got \(256,\)",
            id="has positions without a width",
        ),
        pytest.param(
            "",
            {tiny.POSITIONS: torch.zeros(0, 256)},
            r"image_pool\.positions must be 2-dimensional and not empty, got \(0, 256\)",
            id="has no positions",
        ),
        pytest.param(
            "",
            {"visual.conv2.weight": torch.zeros(4, 4, 1, 1)},
            r"stem\.1\.conv\.weight must be \(4, 4, 3, 3\), got \(4, 4, 1, 1\)",
            id="has a smaller convolution",
        ),
        pytest.param(
            "",
            {"transformer.resblocks.0.attn.in_proj_bias": torch.zeros(32)},
            r"in_proj_bias must be 1-dimensional and not empty, with a multiple of 3 rows, got \(32,\)",
            id="has queries without keys",
        ),
        pytest.param(
            "",
            {"text_projection": torch.zeros(16)},
            r"text_projection must be 2-dimensional and not empty, got \(16,\)",
            id="has a projection without a width",
        ),
    ],
)
def test_a_file_is_refused_if_it(
    without: str, more: dict[str, Tensor], message: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save({name: tensor for name, tensor in state.items() if name != without} | more, tmp_path / "clip.pt")
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "clip.pt")


def test_a_file_without_an_image_tower_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({name: tensor for name, tensor in state.items() if "visual" not in name}, tmp_path / "clip.pt")
    with pytest.raises(CheckpointError, match="no CLIP with a vision transformer or a ResNet"):
        load(tmp_path / "clip.pt")


def test_each_model_names_the_other_for_the_others_files(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "resnet.pt")
    with pytest.raises(CheckpointError, match=r"another image tower than a VitClipModel; read it by ResNetClipModel"):
        VitClipModel.from_openai(tmp_path / "resnet.pt", quick_gelu=True, head_width=tiny.TINY_HEAD_WIDTH)
    torch.save(openai_layout(save_clip(tmp_path / "theirs", image_heads=3)), tmp_path / "vit.pt")
    with pytest.raises(CheckpointError, match=r"another image tower than a ResNetClipModel; read it by VitClipModel"):
        ResNetClipModel.from_openai(tmp_path / "vit.pt", quick_gelu=True, head_width=8)


def test_a_width_of_heads_that_does_not_fit_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "clip.pt")
    with pytest.raises(ConfigError, match="text_width must be a multiple of text_heads, got 32 and 0"):
        ResNetClipModel.from_openai(tmp_path / "clip.pt", quick_gelu=True)


def test_no_picture_gives_no_features_and_pictures_of_another_size_are_refused(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save(state, tmp_path / "clip.pt")
    model = load(tmp_path / "clip.pt")
    assert model.encode_images(torch.empty(0, 3, 96, 96)).shape == (0, 16)
    with pytest.raises(ShapeError, match=r"must be \(B, 3, 96, 96\), got \(1, 3, 64, 64\)"):
        model.encode_images(torch.zeros(1, 3, 64, 64))


def test_it_classifies_and_is_saved_as_ours(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "clip.pt")
    model = load(tmp_path / "clip.pt")
    letters = ["a", "c", "t", "d", "o", "g"]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=[])
    processor = ClipProcessor(
        ClipImageProcessor(model.config.image_size, CLIP_MEAN, CLIP_STD), tokenizer, model.config.max_tokens
    )
    classifier = ZeroShotClassifier(model, processor)
    picture = Image.new("RGB", (50, 40), "red")
    (found,) = classifier.classify(picture, ["cat", "dog"], templates=["a {}"])
    assert found.scores.sum().item() == pytest.approx(1.0)

    model.save_pretrained(tmp_path / "ours")
    processor.save_pretrained(tmp_path / "ours")
    loaded = ZeroShotClassifier.from_pretrained(tmp_path / "ours")
    assert isinstance(loaded.model, ResNetClipModel)
    (again,) = loaded.classify(picture, ["cat", "dog"], templates=["a {}"])
    torch.testing.assert_close(again.scores, found.scores)
