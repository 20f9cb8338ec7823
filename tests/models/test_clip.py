"""Two towers give features of norm 1; what is saved is the same again; towers go to a GLIP and back, or not at all."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from glip.contrastive.losses import InfoNceLoss
from glip.errors import CheckpointError, PromptError, ShapeError
from glip.models.clip import ClipModel, copy_towers
from glip.models.glip import GlipModel
from tests.reference.tiny_models import (
    TINY_BACKBONES,
    TINY_TEXT,
    random_captions,
    random_images,
    tiny_clip,
    tiny_model,
)


@pytest.mark.parametrize("pool", ["mean", "attention"])
@pytest.mark.parametrize("kind", TINY_BACKBONES)
def test_features_have_norm_one_over_a_backbone_of(kind: str, pool: str) -> None:
    output = tiny_clip(kind, image_pool=pool)(random_images(3, 64, 64), random_captions(3))
    for features in (output.image_features, output.text_features):
        assert features.shape == (3, 16)
        torch.testing.assert_close(features.norm(dim=-1), torch.ones(3))
    assert output.logit_scale.item() == pytest.approx(1 / 0.07)
    assert output.logit_bias is None


@pytest.mark.parametrize("pool", ["mean", "first"])
def test_padding_changes_no_text(pool: str) -> None:
    model = tiny_clip(text_pool=pool)
    ids = random_captions(2)
    mask = torch.ones_like(ids).bool()
    padded = torch.nn.functional.pad(ids, (0, 3), value=7)
    padded_mask = torch.nn.functional.pad(mask, (0, 3))
    torch.testing.assert_close(model.encode_texts(padded, padded_mask), model.encode_texts(ids, mask))
    torch.testing.assert_close(model.encode_texts(ids), model.encode_texts(ids, mask))


def test_a_batch_is_its_pairs_one_by_one() -> None:
    model = tiny_clip(image_pool="attention")
    images, captions = random_images(3, 64, 64), random_captions(3)
    together = model(images, captions)
    for row in range(3):
        alone = model(images[row : row + 1], captions[row : row + 1])
        torch.testing.assert_close(alone.image_features[0], together.image_features[row])
        torch.testing.assert_close(alone.text_features[0], together.text_features[row])


def test_no_image_has_no_features() -> None:
    model = tiny_clip()
    assert model.encode_images(torch.empty(0, 3, 64, 64)).shape == (0, 16)


def test_the_loss_reaches_every_parameter_that_the_coarsest_map_is_made_of() -> None:
    model = tiny_clip("resnet", image_pool="attention")
    InfoNceLoss()(model(random_images(3, 64, 64), random_captions(3))).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("log_scale", "scale"),
    [pytest.param(0.0, 1.0, id="1 stays"), pytest.param(math.log(200), 100.0, id="200 becomes 100")],
)
def test_the_scale_is_at_most_a_hundred(log_scale: float, scale: float) -> None:
    model = tiny_clip()
    model.log_scale.data.fill_(log_scale)
    model.clamp_scale()
    output = model(random_images(1, 64, 64), random_captions(1))
    assert output.logit_scale.item() == pytest.approx(scale)
    output.logit_scale.backward()
    assert model.log_scale.grad is not None
    assert model.log_scale.grad.item() == pytest.approx(scale)  # a clamped scale can come down again


def test_a_bias_is_part_of_the_network_where_the_config_has_one() -> None:
    model = tiny_clip(initial_bias=-10.0)
    assert model(random_images(1, 64, 64), random_captions(1)).logit_bias.item() == -10.0
    assert "logit_bias" not in tiny_clip().state_dict()


def test_two_texts_for_three_images_are_refused() -> None:
    with pytest.raises(ShapeError, match="3 images and 2 texts"):
        tiny_clip()(random_images(3, 64, 64), random_captions(2))


def test_a_text_that_is_too_long_is_refused() -> None:
    with pytest.raises(PromptError, match="may have 4 tokens, got 7"):
        tiny_clip(max_tokens=4).encode_texts(random_captions(1))


@pytest.mark.parametrize("kind", ["csp", "swin"])
def test_a_saved_network_says_bit_for_bit_the_same(kind: str, tmp_path: Path) -> None:
    model = tiny_clip(kind, image_pool="attention", text_pool="first", initial_bias=-2.0)
    model.save_pretrained(tmp_path)
    loaded = ClipModel.from_pretrained(tmp_path)
    assert loaded.config.text_pool == "first"
    found, expected = (one(random_images(2, 64, 64), random_captions(2)) for one in (loaded, model))
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0)


def test_a_file_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    tiny_clip().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    del state["image_projection.weight"]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 missing keys, first image_projection\.weight"):
        ClipModel.from_pretrained(tmp_path)


def test_a_glip_is_no_clip_and_a_clip_no_glip(tmp_path: Path) -> None:
    tiny_clip().save_pretrained(tmp_path / "clip")
    tiny_model("csp").save_pretrained(tmp_path / "glip")
    with pytest.raises(CheckpointError, match="of a 'glip' model, expected 'glip_clip'"):
        ClipModel.from_pretrained(tmp_path / "glip")
    with pytest.raises(CheckpointError, match="of a 'glip_clip' model, expected 'glip'"):
        GlipModel.from_pretrained(tmp_path / "clip")


def changed(model: ClipModel) -> ClipModel:
    """The same network with other numbers, as after training."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("kind", TINY_BACKBONES)
def test_a_glip_starts_from_a_clips_towers_bit_for_bit(kind: str, tmp_path: Path) -> None:
    changed(tiny_clip(kind)).save_pretrained(tmp_path)
    clip, glip = ClipModel.from_pretrained(tmp_path), tiny_model(kind)
    head = {name: tensor.clone() for name, tensor in glip.head.state_dict().items()}
    copy_towers(clip, glip)
    images, captions = random_images(2, 64, 64), random_captions(2)
    mask = torch.ones_like(captions).bool()
    for found, expected in zip(glip.backbone(images), clip.backbone(images), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(glip.text_encoder(captions, mask), clip.text_encoder(captions, mask))
    assert all(torch.equal(tensor, head[name]) for name, tensor in glip.head.state_dict().items())


def test_a_clip_starts_from_a_glips_towers() -> None:
    glip, clip = tiny_model("csp"), changed(tiny_clip("csp"))
    copy_towers(glip, clip)
    images = random_images(1, 64, 64)
    assert torch.equal(clip.backbone(images)[-1], glip.backbone(images)[-1])


WIDER = {**TINY_TEXT, "hidden_size": 32}
MORE_HEADS = {**TINY_TEXT, "num_attention_heads": 2}


@pytest.mark.parametrize(
    ("glip", "message"),
    [
        pytest.param(tiny_model("resnet"), r"backbone\.depths|backbone\.kind|backbone\.layers", id="another backbone"),
        pytest.param(tiny_model("csp", text=WIDER), r"text\.hidden_size is 24 .* and 32", id="a wider text encoder"),
        pytest.param(
            tiny_model("csp", text=MORE_HEADS),
            r"text\.num_attention_heads is 4 .* and 2",
            id="other heads",
        ),
    ],
)
def test_nothing_is_copied_to(glip: GlipModel, message: str) -> None:
    before = {name: tensor.clone() for name, tensor in glip.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        copy_towers(changed(tiny_clip("csp")), glip)
    assert all(torch.equal(tensor, before[name]) for name, tensor in glip.state_dict().items())


def test_a_tower_that_lacks_a_tensor_is_refused_and_nothing_is_copied() -> None:
    clip, glip = changed(tiny_clip("csp")), tiny_model("csp")
    del clip.text_encoder.bert.encoder.layer[1]
    before = {name: tensor.clone() for name, tensor in glip.state_dict().items()}
    with pytest.raises(CheckpointError, match="missing and 0 unexpected tensors"):
        copy_towers(clip, glip)
    assert all(torch.equal(tensor, before[name]) for name, tensor in glip.state_dict().items())


def test_dropout_may_differ_between_the_two() -> None:
    clip, glip = tiny_clip("csp"), tiny_model("csp", text={**TINY_TEXT, "hidden_dropout_prob": 0.0})
    copy_towers(clip, glip)
    given, own = (next(model.text_encoder.parameters()) for model in (clip, glip))
    assert torch.equal(given, own)
