"""Heads are added to a network and taken off again; detection never notices. Gradient reaches all of each head."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glip.configuration import GlipConfig
from glip.errors import CheckpointError, ConfigError
from glip.models.glip import GlipModel
from glip.models.heads.decoding import DecodingRule
from glip.structures.output import GlipOutput
from glip.structures.tasks import TaskInputs
from tests.reference.tiny_models import random_captions, random_images, tiny_config, tiny_model

HEADS: dict[str, dict[str, Any]] = {
    "masks": {"channels": 16, "layers": 2},
    "mlm": {},
    "captioning": {"layers": 2, "max_tokens": 8},
    "vqa": {"answers": ["yes", "no", "red"], "layers": 1, "width": 16},
    "contrast": {"width": 8},
}
DETECTION = ("alignment_logits", "box_deltas", "centerness_logits")
SAYS = {
    "masks": ("mask_logits", "word_mask_logits"),
    "mlm": ("word_logits",),
    "captioning": ("description_logits",),
    "vqa": ("answer_logits",),
    "contrast": ("region_embeddings", "word_embeddings", "contrast_scale"),
}


def questions() -> TaskInputs:
    """Of two images with seven tokens each; the second has no box."""
    return TaskInputs(
        boxes=(torch.tensor([[4.0, 4.0, 60.0, 50.0]]), torch.zeros(0, 4)),
        token_maps=(torch.arange(7)[None] == 2, torch.zeros(0, 7).bool()),
        hidden_words=torch.arange(7).expand(2, 7) == 3,
        described=torch.tensor([1]),
        description_ids=torch.tensor([[1, 5, 6]]),
    )


def run(model: GlipModel, **asked: Any) -> GlipOutput:
    output: GlipOutput = model(random_images(2), random_captions(2), **asked)
    return output


def detection(output: GlipOutput) -> dict[str, Tensor]:
    return {name: output[name] for name in DETECTION}


def test_detection_is_the_same_to_the_bit_with_and_without_heads() -> None:
    plain = tiny_model()
    headed = plain.with_heads(HEADS)
    expected = detection(run(plain))
    for found in (run(headed), run(headed, tasks=questions()), run(headed.without_heads())):
        assert all(torch.equal(found[name], expected[name]) for name in DETECTION)


def test_heads_taken_off_leave_exactly_the_weights_from_before() -> None:
    plain = tiny_model()
    back = plain.with_heads(HEADS).without_heads()
    state = plain.state_dict()
    assert list(back.state_dict()) == list(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in back.state_dict().items())
    assert back.config.heads == plain.config.heads == {}
    assert not plain.heads


def test_every_head_answers_what_it_is_asked() -> None:
    said = run(tiny_model().with_heads(HEADS), tasks=questions()).tasks
    assert said is not None
    shapes = {name: tuple(said[name].shape) for name in said}
    anchors = 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2 + 1
    assert shapes == {
        "mask_logits": (1, 28, 28),
        "word_mask_logits": (1, 28, 28),
        "word_logits": (2, 50),
        "description_logits": (1, 3, 50),
        "answer_logits": (2, 3),
        "region_embeddings": (2, anchors, 8),
        "word_embeddings": (2, 7, 8),
        "contrast_scale": (),
    }


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("extractor", ["conv", "hourglass"])
def test_gradient_reaches_every_parameter_of(name: str, extractor: str) -> None:
    numbers = {**HEADS[name], "extractor": extractor} if name == "masks" else HEADS[name]
    model = tiny_model().with_heads({name: numbers}).train()
    said = run(model, tasks=questions()).tasks
    assert said is not None
    weighted = [(said[one] * torch.randn_like(said[one])).sum() for one in SAYS[name]]
    torch.stack(weighted).sum().backward()
    silent = [n for n, p in model.heads.named_parameters() if p.grad is None or not p.grad.any()]
    # the softmax takes no notice of what is added to all keys, so a key's bias learns nothing but rounding
    assert [n for n in silent if "key.bias" not in n] == []


def test_what_was_not_asked_stays_silent() -> None:
    said = run(tiny_model().with_heads(HEADS), tasks=TaskInputs()).tasks
    assert said is not None
    assert set(said) == {*SAYS["vqa"], *SAYS["contrast"]}
    assert run(tiny_model(), tasks=questions()).tasks == {}


def test_features_come_only_when_asked_for() -> None:
    model = tiny_model()
    assert run(model).features is None
    features = run(model, output_features=True).features
    assert features is not None
    assert [tuple(level.shape) for level in features.levels][:2] == [(2, 32, 8, 12), (2, 32, 4, 6)]
    assert features.words.shape == features.plain_words.shape == (2, 7, 24)
    plain = model.encode_image(random_images(2))
    assert all(torch.equal(a, b) for a, b in zip(features.plain_levels, plain, strict=True))
    assert not torch.equal(features.levels[0], plain[0])


def test_the_contrast_sees_no_image_in_its_words() -> None:
    """Other pictures change the regions and leave the words as they are."""
    model = tiny_model().with_heads({"contrast": {"width": 8}})
    ids = random_captions(2)
    one = model(random_images(2), ids, tasks=TaskInputs()).tasks
    other = model(random_images(2).flip(0), ids, tasks=TaskInputs()).tasks
    assert torch.equal(one.word_embeddings, other.word_embeddings)
    assert not torch.allclose(one.region_embeddings, other.region_embeddings)


def test_a_description_sees_no_caption() -> None:
    model = tiny_model().with_heads({"captioning": {"layers": 1, "max_tokens": 8}})
    ids = random_captions(2)
    one = model(random_images(2), ids, tasks=questions()).tasks
    other = model(random_images(2), ids.flip(1), tasks=questions()).tasks
    assert torch.equal(one.description_logits, other.description_logits)


def test_a_saved_network_keeps_its_heads(tmp_path: Path) -> None:
    model = tiny_model().with_heads(HEADS)
    model.save_pretrained(tmp_path)
    loaded = GlipModel.from_pretrained(tmp_path).eval()
    assert loaded.config.heads == model.config.heads
    weights = loaded.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    first, second = run(model, tasks=questions()).tasks, run(loaded, tasks=questions()).tasks
    assert first is not None
    assert second is not None
    torch.testing.assert_close(dict(first), dict(second))  # where a file's weights lie in memory may round otherwise


def test_a_plain_checkpoint_does_not_pass_for_one_with_heads(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"missing keys, first heads\."):
        GlipModel.from_pretrained(tmp_path, config=tiny_config(heads={"mlm": {}}))


def test_images_are_described_in_tokens() -> None:
    model = tiny_model().with_heads(HEADS)
    rule = DecodingRule(start=1, end=2, banned=(0, 1, 3), beams=2)
    found = model.describe(random_images(2), rule=rule)
    assert len(found) == 2
    assert all(len(one) <= 7 and not {0, 1, 2, 3} & set(one.tolist()) for one in found)
    with pytest.raises(ConfigError, match="cannot write captions: add the head with with_heads"):
        tiny_model().describe(random_images(1))


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        pytest.param({"mask": {}}, "unknown field 'mask'; did you mean 'masks'", id="an unknown head"),
        pytest.param({"masks": {"layer": 2}}, "unknown field 'layer'; did you mean 'layers'", id="an unknown number"),
        pytest.param({"masks": {"layers": 0}}, "masks.layers must be a whole number, at least 1, got 0", id="no layer"),
        pytest.param({"masks": {"resolution": 3}}, "at least 4, got 3", id="too coarse an hourglass"),
        pytest.param({"masks": {"extractor": "vit"}}, r"one of \['conv', 'hourglass'\], got 'vit'", id="an extractor"),
        pytest.param({"vqa": {}}, "vqa.answers must be a list of one or more words, got nothing", id="no answers"),
        pytest.param({"vqa": {"answers": ["a", "a"]}}, "vqa.answers must name each answer once", id="one twice"),
        pytest.param({"captioning": {"stride": 12}}, r"the pyramid's \[8, 16, .*\], got 12", id="no such level"),
        pytest.param({"mlm": 1}, "heads must be a dict of dicts", id="a number for a head"),
        pytest.param(["mlm"], "heads must be a dict of dicts", id="a list"),
    ],
)
def test_a_config_is_refused_for(heads: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GlipConfig(heads=heads)
