"""`GlipModel` turns pixels and tokens into `GlipOutput`; padding, batches and caching change no number."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from glip.detection.losses import GlipCriterion, LossWeights
from glip.errors import PromptError, ShapeError
from glip.models.dyhead import DyConv
from glip.models.fusion import BidirectionalFusion
from glip.models.glip import GlipBlock, GlipModel, flatten_levels, split_levels
from glip.structures.output import GlipOutput
from glip.structures.targets import Targets
from tests.reference.tiny_models import TINY_BACKBONES, random_captions, random_images, tiny_model

PREDICTIONS = ("alignment_logits", "box_deltas", "centerness_logits")
VARIANTS = [
    *(pytest.param(kind, {}, id=f"{kind} backbone") for kind in TINY_BACKBONES),
    pytest.param("swin", {"fusion": False}, id="without fusion"),
    pytest.param("swin", {"mask_padding": True}, id="padding masked"),
    pytest.param("csp", {"top_down": False, "strides": [8, 16, 32, 64]}, id="four levels, no way down"),
    pytest.param(
        "csp", {"strides": [8, 16, 32], "residual": True, "box_bins": 11, "cues": True}, id="residual, bins and cues"
    ),
]
OWN_BACKBONES = [variant for variant in VARIANTS if variant.values[0] in ("swin", "csp")]
FUSED_OR_NOT = pytest.mark.parametrize(
    "fusion", [pytest.param(True, id="with fusion"), pytest.param(False, id="without fusion")]
)


def assert_same_predictions(found: GlipOutput, expected: GlipOutput, rtol: float = 1e-5, atol: float = 1e-5) -> None:
    for name in PREDICTIONS:
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=rtol, atol=atol)


def rows(output: GlipOutput, which: slice) -> GlipOutput:
    """Some images of a batch."""
    parts = {name: output[name][which] for name in (*PREDICTIONS, "image_sizes", "input_ids", "attention_mask")}
    return GlipOutput(**parts, level_shapes=output.level_shapes, strides=output.strides)


@pytest.mark.parametrize(("kind", "changes"), VARIANTS)
def test_the_output_of_two_images_of_64_by_96_pixels(kind: str, changes: dict[str, Any]) -> None:
    model = tiny_model(kind, **changes)
    ids = random_captions(2)
    output = model(random_images(2, 64, 96), ids)
    shapes = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)][: len(model.config.strides)]
    anchors = sum(height * width for height, width in shapes)
    assert output.alignment_logits.shape == (2, anchors, 7)
    assert output.box_deltas.shape == (2, anchors, 4)
    assert output.centerness_logits.shape == (2, anchors)
    assert output.level_shapes == tuple(shapes)
    assert output.strides == tuple(model.config.strides)
    assert output.image_sizes.tolist() == [[64, 96]] * 2
    assert torch.equal(output.input_ids, ids)
    assert output.attention_mask.dtype == torch.bool
    assert output.attention_mask.all()
    assert output.levels[0] == slice(0, 96)
    assert output.levels[-1].stop == anchors


@pytest.mark.parametrize("training", [pytest.param(True, id="training"), pytest.param(False, id="evaluation")])
def test_the_type_of_the_output_is_the_same_in(training: bool) -> None:
    output = tiny_model().train(training)(random_images(1), random_captions(1))
    assert isinstance(output, GlipOutput)
    assert all(value is not None for value in output.values())


@FUSED_OR_NOT
def test_a_caption_padded_to_256_gives_the_same_scores_at_real_tokens(fusion: bool) -> None:
    model = tiny_model(fusion=fusion)
    images, ids = random_images(1), random_captions(1)
    padded = torch.cat([ids, torch.zeros(1, 249, dtype=torch.int64)], dim=1)
    output = model(images, padded, (torch.arange(256) < 7).unsqueeze(0))
    expected = model(images, ids)
    torch.testing.assert_close(output.alignment_logits[..., :7], expected.alignment_logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.box_deltas, expected.box_deltas, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.centerness_logits, expected.centerness_logits, rtol=1e-5, atol=1e-5)


def test_without_fusion_pads_carry_zero_words_and_so_the_bias_alone() -> None:
    model = tiny_model(fusion=False)
    model.head.word_bias.data.normal_()
    nn.init.zeros_(model.head.word_projection.bias)
    output = model(random_images(1), random_captions(1), torch.tensor([[1, 1, 1, 1, 1, 0, 0]]))
    torch.testing.assert_close(
        output.alignment_logits[..., 5:], torch.full_like(output.alignment_logits[..., 5:], -4.59511985)
    )


@pytest.mark.parametrize("mask_padding", [pytest.param(True, id="masked"), pytest.param(False, id="taking part")])
@pytest.mark.parametrize("kind", [pytest.param("swin", id="swin"), pytest.param("csp", id="csp")])
def test_a_batch_equals_its_images_one_by_one_at_the_same_padded_size_with_padding(
    kind: str, mask_padding: bool
) -> None:
    model = tiny_model(kind, mask_padding=mask_padding)
    images, ids = random_images(2, 64, 64), random_captions(2)
    mask = torch.tensor([[1] * 7, [1, 1, 1, 1, 0, 0, 0]])
    sizes = torch.tensor([[64, 64], [40, 56]])
    together = model(images, ids, mask, sizes)
    for index in range(2):
        one = slice(index, index + 1)
        assert_same_predictions(rows(together, one), model(images[one], ids[one], mask[one], sizes[one]), 1e-4, 1e-4)


def blocks_of(model: GlipModel) -> list[GlipBlock]:
    return [block for block in model.blocks if isinstance(block, GlipBlock)]


def without_spatial_ways(model: GlipModel) -> GlipModel:
    """Leave fusion and pooling as the only ways from one position to another."""
    for block in blocks_of(model):
        for parameter in block.dyconv.offset.parameters():
            nn.init.zeros_(parameter)  # no tap moves
        for part in (block.dyconv.from_same, block.dyconv.from_finer, block.dyconv.from_coarser):
            middle = part.conv.weight.data[:, :, 1, 1].clone()
            nn.init.zeros_(part.conv.weight)
            part.conv.weight.data[:, :, 1, 1] = middle
            part.norm = nn.Identity()  # type: ignore[assignment]
        nn.init.zeros_(block.dyconv.from_coarser.conv.weight)  # its resize reads neighbours
        nn.init.normal_(block.dyconv.scale_attention.weight)  # from 0.01, too small to be seen
        nn.init.ones_(block.dyconv.activation.squeeze.bias)
    return model


@pytest.mark.parametrize(
    ("mask_padding", "stays"),
    [
        pytest.param(True, True, id="on, the image's predictions stay"),
        pytest.param(False, False, id="off, they change, as the published models' do"),
    ],
)
def test_when_the_padding_holds_other_numbers_and_mask_padding_is(mask_padding: bool, stays: bool) -> None:
    model = without_spatial_ways(tiny_model(mask_padding=mask_padding, strides=[8, 16, 32]))
    size = (24, 16)  # rows 0..2 and columns 0..1 of the finest level
    levels = [torch.randn(1, 32, 4, 4), torch.randn(1, 32, 2, 2), torch.randn(1, 32, 1, 1)]
    other = [level.clone() for level in levels]
    other[0][:, :, 3:] = torch.randn(32, 1, 4)
    other[0][:, :, :, 2:] = torch.randn(32, 4, 2)
    other[1][:, :, :, 1:] = torch.randn(32, 2, 1)
    sizes = torch.tensor([size])
    first, second = (model.align(pyramid, random_captions(1), image_sizes=sizes) for pyramid in (levels, other))
    difference = (first.alignment_logits - second.alignment_logits).detach()[:, [0, 1, 4, 5, 8, 9]].abs().max()
    assert bool(difference < 1e-5) is stays


def test_a_position_counts_if_it_starts_inside_the_image() -> None:
    model = tiny_model()
    levels = [torch.zeros(2, 1, 2, 3), torch.zeros(2, 1, 1, 2), *(torch.zeros(2, 1, 1, 1) for _ in range(3))]
    masks = model._level_masks(levels, torch.tensor([[16, 24], [8, 9]]))
    assert masks[0].tolist() == [[[True] * 3] * 2, [[True, True, False], [False] * 3]]
    assert masks[1].tolist() == [[[True, True]], [[True, False]]]
    assert all(mask.all() for mask in masks[2:])


@pytest.mark.parametrize("mask_padding", [pytest.param(True, id="masked"), pytest.param(False, id="taking part")])
def test_one_image_with_many_captions_equals_them_one_by_one_with_padding(mask_padding: bool) -> None:
    model = tiny_model(mask_padding=mask_padding)
    levels = model.encode_image(random_images(1))
    ids = random_captions(3)
    mask = torch.tensor([[1] * 7, [1] * 5 + [0] * 2, [1] * 2 + [0] * 5])
    sizes = torch.tensor([[50, 70]]).expand(3, 2)
    together = model.align(levels, ids, mask, image_sizes=sizes)
    assert len(together.alignment_logits) == 3
    for index in range(3):
        one = slice(index, index + 1)
        alone = model.align(levels, ids[one], mask[one], image_sizes=sizes[one])
        assert_same_predictions(rows(together, one), alone)


def test_align_of_an_encoded_image_is_the_whole_forward() -> None:
    model = tiny_model()
    images, ids = random_images(2), random_captions(2)
    assert_same_predictions(model.align(model.encode_image(images), ids), model(images, ids), 0, 0)


def test_residual_blocks_that_add_nothing_pass_the_pyramid_on() -> None:
    model = tiny_model("csp", residual=True)
    for block in model.blocks:
        assert isinstance(block, GlipBlock)
        assert block.mixed_scale is not None
        nn.init.zeros_(block.mixed_scale)
        nn.init.zeros_(block.fusion.image_scale)
    levels = model.encode_image(random_images(1))
    words = model.encode_words(random_captions(1), torch.ones(1, random_captions(1).shape[1]))
    passed = levels
    for block in model.blocks:
        passed, words = block(passed, words, torch.ones(words.shape[:2]).bool(), None)
    for before, after in zip(levels, passed, strict=True):
        torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_inputs_are_unchanged() -> None:
    model = tiny_model(mask_padding=True)
    inputs = [random_images(1), random_captions(1), torch.tensor([[1, 1, 1, 1, 1, 0, 0]]), torch.tensor([[50, 70]])]
    before = [tensor.clone() for tensor in inputs]
    levels = model.encode_image(inputs[0])
    levels_before = [level.clone() for level in levels]
    model(*inputs)
    model.align(levels, *inputs[1:3], image_sizes=inputs[3])
    for tensor, copy in zip([*inputs, *levels], [*before, *levels_before], strict=True):
        assert torch.equal(tensor, copy)


def test_a_caption_over_the_limit_is_refused_with_both_lengths() -> None:
    model = tiny_model(max_tokens=6)
    with pytest.raises(PromptError, match=r"may have 6 tokens, got 7: shorten it, or split the class list"):
        model(random_images(1), random_captions(1))


@pytest.mark.parametrize(
    ("images", "captions"), [pytest.param(2, 3, id="fewer images"), pytest.param(3, 2, id="fewer captions")]
)
def test_images_and_captions_that_do_not_pair_are_refused(images: int, captions: int) -> None:
    with pytest.raises(ShapeError, match=rf"got {images} images and {captions} captions"):
        tiny_model()(random_images(images), random_captions(captions))


def test_a_caption_without_words_is_scored_at_its_two_marks() -> None:
    assert tiny_model()(random_images(1), torch.tensor([[2, 3]])).alignment_logits.shape == (1, 129, 2)


def test_flattened_levels_can_be_split_again() -> None:
    levels = [torch.arange(12.0).view(1, 2, 2, 3), torch.arange(12.0, 16.0).view(1, 2, 1, 2)]
    flat = flatten_levels(levels)
    expected = torch.tensor([[0.0, 6], [1, 7], [2, 8], [3, 9], [4, 10], [5, 11], [12, 14], [13, 15]])
    torch.testing.assert_close(flat, expected.unsqueeze(0))
    for part, level in zip(split_levels(flat, levels), levels, strict=True):
        torch.testing.assert_close(part, level)


# Training


def training_loss(model: GlipModel) -> Tensor:
    """All losses of two images, one of them without boxes."""
    output = model(random_images(2), random_captions(2), torch.tensor([[1] * 7, [1] * 5 + [0] * 2]))
    tokens = torch.tensor([[False, True] + [False] * 5, [False, False, True, True] + [False] * 3])
    targets = [
        Targets(torch.tensor([[5.0, 6.0, 60.0, 50.0], [20.0, 2.0, 90.0, 60.0]]), tokens, torch.tensor([0, 1])),
        Targets(torch.zeros(0, 4), torch.zeros(0, 7, dtype=torch.bool), torch.zeros(0, dtype=torch.int64)),
    ]
    losses = GlipCriterion(weights=LossWeights(l1=1.0))(output, targets)
    return torch.stack(list(losses.values())).sum()


def wake(model: GlipModel) -> None:
    """Lift what a tiny width or a cautious start leaves dead: narrow units behind a ReLU, norms that begin at zero."""
    for block in blocks_of(model):
        nn.init.ones_(block.dyconv.activation.squeeze.bias)
        nn.init.ones_(block.dyconv.scale_attention.bias)
    for name, parameter in model.named_parameters():
        if name.startswith("backbone.body.") and name.endswith(".weight") and not parameter.any():
            nn.init.ones_(parameter)


@pytest.mark.parametrize(("kind", "changes"), VARIANTS)
def test_gradient_reaches_every_parameter(kind: str, changes: dict[str, Any]) -> None:
    model = tiny_model(kind, **changes)
    wake(model)
    output = model(random_images(2), random_captions(2))
    total = torch.zeros(())
    for name in PREDICTIONS:
        prediction = getattr(output, name)
        total = total + (prediction * torch.randn(prediction.shape)).sum()
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if not name.endswith("key.bias"):  # moves all scores of a word alike, which the softmax undoes
            assert parameter.grad.abs().max() > 0, name


def test_gradient_checkpointing_changes_neither_loss_nor_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    real_forward = DyConv.forward

    def counted_forward(self: DyConv, *inputs: Any) -> list[Tensor]:
        runs.append(self)
        return real_forward(self, *inputs)

    monkeypatch.setattr(DyConv, "forward", counted_forward)
    results = []
    for checkpointing, expected_runs in ((False, 2), (True, 4)):  # two blocks, recomputed in the backward pass
        model = tiny_model(fusion_dropout=0.1, drop_block=0.3).train()
        if checkpointing:
            model.recompute_activations()
        runs.clear()
        torch.manual_seed(3)
        loss = training_loss(model)
        loss.backward()
        assert len(runs) == expected_runs
        results.append((loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}))
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-7)


def test_recomputing_reaches_the_backbone_the_blocks_and_the_words() -> None:
    model = tiny_model()
    model.recompute_activations()
    reached = {type(module).__name__ for module in model.modules() if getattr(module, "gradient_checkpointing", False)}
    assert reached >= {"GlipBlock", "SwinStage", "BertLayer"}


def test_fusion_is_recomputed_where_it_would_keep_every_score(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    real_forward = BidirectionalFusion.forward

    def counted_forward(self: BidirectionalFusion, *inputs: Any) -> tuple[Tensor, Tensor]:
        runs.append(self)
        return real_forward(self, *inputs)

    monkeypatch.setattr(BidirectionalFusion, "forward", counted_forward)
    for in_slices, expected_runs in ((True, 2), (False, 4)):
        monkeypatch.setattr("glip.models.glip.works_in_slices", lambda _, answer=in_slices: answer)
        model = tiny_model().train()
        model.recompute_activations()
        runs.clear()
        training_loss(model).backward()
        assert len(runs) == expected_runs


def test_the_same_seed_trains_the_same() -> None:
    gradients = []
    for _ in range(2):
        model = tiny_model().train()
        torch.manual_seed(5)
        training_loss(model).backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


# Devices and precisions


class MetaWords(nn.Module):
    """In place of transformers' BERT, which reads the values of its mask, and so cannot run without any."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """`(B, L)` to `(B, L, 24)`, where the tokens live."""
        assert attention_mask.device == input_ids.device
        return torch.zeros(*input_ids.shape, 24, device=input_ids.device)


@pytest.mark.parametrize(("kind", "changes"), OWN_BACKBONES)
def test_it_runs_on_meta_so_no_tensor_is_made_on_the_cpu_by_accident(kind: str, changes: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = GlipModel(tiny_model(kind, **changes).config).eval()
    model.text_encoder = MetaWords()
    images = torch.empty(2, 3, 64, 96, device="meta")
    ids = torch.zeros(2, 7, dtype=torch.int64, device="meta")
    output = model(images, ids)
    assert {value.device.type for value in output.values() if isinstance(value, Tensor)} == {"meta"}


@pytest.mark.parametrize(("kind", "changes"), OWN_BACKBONES)
@pytest.mark.parametrize("way", [pytest.param("autocast", id="autocast"), pytest.param("cast", id="cast weights")])
def test_it_runs_in_bfloat16_by(way: str, kind: str, changes: dict[str, Any]) -> None:
    model = tiny_model(kind, **changes)
    images, ids = random_images(2), random_captions(2)
    mask = torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
    sizes = torch.tensor([[64, 96], [50, 70]])
    expected = model(images, ids, mask, sizes)
    with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
        if way == "cast":
            model, images = model.bfloat16(), images.bfloat16()
        output = model(images, ids, mask, sizes)
    for name in PREDICTIONS:
        assert getattr(output, name).isfinite().all()
    torch.testing.assert_close(output.alignment_logits.float(), expected.alignment_logits, rtol=0.2, atol=0.3)


def test_it_trains_under_bfloat16_autocast() -> None:
    model = tiny_model().train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = training_loss(model)
    loss.backward()
    assert loss.dtype == torch.float32
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
