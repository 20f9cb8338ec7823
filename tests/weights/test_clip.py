"""A published CLIP converted to ours says what transformers says, to 1e-5, whatever its activation and end token."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel

from glip.errors import CheckpointError, FileError, PromptError, ShapeError
from glip.models.clip_vit import VitClipModel

VOCABULARY = 60
END = VOCABULARY - 1


def save_clip(
    folder: Path, *, activation: str = "quick_gelu", end: int = 2, image_heads: int = 2, **text: Any
) -> CLIPModel:
    """Transformers' own tiny CLIP with random weights, saved; norms and biases are random, too."""
    torch.manual_seed(0)
    shared = {"num_attention_heads": 2, "hidden_act": activation}
    tower = {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": VOCABULARY, **text}
    ids = {"max_position_embeddings": 12, "eos_token_id": end, "bos_token_id": 1, "pad_token_id": 0}
    config = CLIPConfig(
        text_config={**shared, **tower, **ids},
        vision_config={
            **shared,
            "num_attention_heads": image_heads,
            "hidden_size": 24,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "image_size": 32,
            "patch_size": 8,
        },
        projection_dim=10,
    )
    model: CLIPModel = CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def texts() -> torch.Tensor:
    """Three texts of other lengths, each with one end token; zeros behind it."""
    ids = torch.randint(3, END, (3, 9), generator=torch.Generator().manual_seed(1))
    ids[:, 0] = 1
    for row, place in enumerate((8, 5, 2)):
        ids[row, place] = END
        ids[row, place + 1 :] = 0
    return ids


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("end", [2, END], ids=["the largest id ends a text", "the end token ends it"])
def test_a_converted_clip_says_what_transformers_says(activation: str, end: int, tmp_path: Path) -> None:
    theirs = save_clip(tmp_path, activation=activation, end=end)
    ours = VitClipModel.from_published(tmp_path)
    images, ids = torch.randn(3, 3, 32, 32), texts()
    with torch.no_grad():
        expected = theirs(input_ids=ids, pixel_values=images)
        found = ours(images, ids)
    torch.testing.assert_close(found.image_features, expected.image_embeds, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.text_features, expected.text_embeds, rtol=0, atol=1e-5)
    logits = found.logit_scale * found.image_features @ found.text_features.T
    torch.testing.assert_close(logits, expected.logits_per_image, rtol=1e-5, atol=1e-4)


def test_the_first_of_two_end_tokens_ends_a_text(tmp_path: Path) -> None:
    theirs = save_clip(tmp_path, end=7)
    ids = torch.tensor([[1, 5, 7, 40, 7, 0]])
    with torch.no_grad():
        expected = theirs.text_projection(theirs.text_model(input_ids=ids).pooler_output)
        found = VitClipModel.from_published(tmp_path).encode_texts(ids)
    torch.testing.assert_close(found, expected / expected.norm(), rtol=0, atol=1e-5)


def test_the_activation_is_not_a_matter_of_taste(tmp_path: Path) -> None:
    save_clip(tmp_path / "quick")
    save_clip(tmp_path / "plain", activation="gelu")
    images = torch.randn(1, 3, 32, 32)
    features = [VitClipModel.from_published(tmp_path / name).encode_images(images) for name in ("quick", "plain")]
    assert (features[0] - features[1]).abs().max() > 1e-4


def test_a_converted_clip_is_saved_and_read_as_ours(tmp_path: Path) -> None:
    save_clip(tmp_path / "theirs")
    model = VitClipModel.from_published(tmp_path / "theirs")
    model.save_pretrained(tmp_path / "ours")
    loaded = VitClipModel.from_pretrained(tmp_path / "ours")
    assert torch.equal(loaded.encode_texts(texts()), model.encode_texts(texts()))


def test_old_files_count_their_positions(tmp_path: Path) -> None:
    save_clip(tmp_path)
    file = tmp_path / "model.safetensors"
    positions = {"text_model.embeddings.position_ids": torch.arange(12).unsqueeze(0)}
    save_file(load_file(file) | positions, file, metadata={"format": "pt"})
    assert VitClipModel.from_published(tmp_path).config.max_tokens == 12


@pytest.mark.parametrize(
    ("without", "more", "message"),
    [
        pytest.param("logit_scale", {}, "1 missing and 0 unexpected", id="lacks a tensor"),
        pytest.param(
            "", {"text_model.stranger": torch.zeros(1)}, "text_model.stranger is no tensor", id="has a stranger"
        ),
        pytest.param(
            "", {"logit_scale": torch.zeros(2)}, r"log_scale must be \(\), got \(2,\)", id="has another shape"
        ),
    ],
)
def test_a_file_is_refused_if_it(without: str, more: dict[str, torch.Tensor], message: str, tmp_path: Path) -> None:
    save_clip(tmp_path)
    file = tmp_path / "model.safetensors"
    state = {name: tensor for name, tensor in load_file(file).items() if name != without}
    save_file(state | more, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=message):
        VitClipModel.from_published(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"model_type": "siglip"}, "not of a 'clip' model", id="another model"),
        pytest.param({"text_config": {"hidden_act": "relu"}}, "hidden_act must be one of", id="an unknown activation"),
        pytest.param({"text_config": {"intermediate_size": 5}}, "intermediate_size must be 2048", id="another width"),
    ],
)
def test_a_config_is_refused_of(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_clip(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        VitClipModel.from_published(tmp_path)


def test_files_that_are_missing_or_cut_short_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"config\.json: no such file"):
        VitClipModel.from_published(tmp_path)
    save_clip(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cut short"):
        VitClipModel.from_published(tmp_path)


def test_pictures_and_texts_of_other_sizes_are_refused(tmp_path: Path) -> None:
    save_clip(tmp_path)
    model = VitClipModel.from_published(tmp_path)
    with pytest.raises(ShapeError, match=r"must be \(B, 3, 32, 32\)"):
        model.encode_images(torch.zeros(1, 3, 64, 64))
    with pytest.raises(PromptError, match="may have 12 tokens, got 13"):
        model.encode_texts(torch.ones(1, 13, dtype=torch.int64))
    assert model.encode_images(torch.empty(0, 3, 32, 32)).shape == (0, 10)
