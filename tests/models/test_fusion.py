"""Folded fusion is plain cross-attention in another order: the same numbers, forward and in every gradient."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glip.models.fusion import BidirectionalFusion
from tests.reference.plain_fusion import plain_fusion

BATCH, POSITIONS, WORDS, CHANNELS, TEXT_DIM = 2, 11, 5, 8, 12
SHORT_CAPTION = torch.tensor([[True] * 5, [True, True, True, False, False]])
PADDED_IMAGE = torch.arange(POSITIONS).expand(BATCH, -1) < torch.tensor([[POSITIONS], [7]])


def make_fusion(dropout: float = 0.0) -> BidirectionalFusion:
    """Every parameter random, so that none is hidden behind a zero or a one."""
    torch.manual_seed(0)
    fusion = BidirectionalFusion(
        CHANNELS, TEXT_DIM, fusion_dim=24, num_heads=3, dropout=dropout, initial_scale=0.5
    ).double()
    for parameter in fusion.parameters():
        nn.init.normal_(parameter, std=0.5)
    return fusion


def make_features() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(BATCH, POSITIONS, CHANNELS, generator=generator, dtype=torch.float64)
    words = torch.randn(BATCH, WORDS, TEXT_DIM, generator=generator, dtype=torch.float64)
    return image.requires_grad_(), words.requires_grad_()


def assert_same_outputs_and_gradients(
    fusion: BidirectionalFusion, word_mask: Tensor, image_mask: Tensor | None
) -> None:
    image, words = make_features()
    leaves = {"image": image, "words": words, **dict(fusion.named_parameters())}
    found = fusion(image, words, word_mask, image_mask)
    expected = plain_fusion(fusion, image, words, word_mask, image_mask)
    generator = torch.Generator().manual_seed(2)
    directions = [torch.randn(part.shape, generator=generator, dtype=torch.float64) for part in expected]
    gradients = []
    for outputs in (found, expected):
        total = sum((output * direction).sum() for output, direction in zip(outputs, directions, strict=True))
        gradients.append(torch.autograd.grad(torch.as_tensor(total), list(leaves.values())))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-9)
    for name, ours, theirs in zip(leaves, *gradients, strict=True):
        assert theirs.abs().max() > 1e-3, f"{name} has no gradient to compare"
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-9, msg=partial("{}: {}".format, name))


@pytest.mark.parametrize(
    "word_mask",
    [pytest.param(torch.ones_like(SHORT_CAPTION), id="full captions"), pytest.param(SHORT_CAPTION, id="a padded one")],
)
@pytest.mark.parametrize(
    "image_mask", [pytest.param(None, id="padding takes part"), pytest.param(PADDED_IMAGE, id="padding is masked")]
)
def test_folded_equals_plain_with(word_mask: Tensor, image_mask: Tensor | None) -> None:
    assert_same_outputs_and_gradients(make_fusion(), word_mask, image_mask)


def drop_by_place(attention: Tensor, probability: float, training: bool) -> Tensor:
    """Dropout whose mask depends on (image, head, word, position) only, whichever way round the two last ones lie."""
    assert training
    generator = torch.Generator().manual_seed(3)
    of_word_and_position = torch.rand(*attention.shape[:2], WORDS, POSITIONS, generator=generator) > probability
    same_way_round = attention.shape[2:] == (WORDS, POSITIONS)
    kept = of_word_and_position if same_way_round else of_word_and_position.transpose(2, 3)
    return attention * kept / (1 - probability)


def test_folded_equals_plain_under_the_same_attention_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    fusion = make_fusion(dropout=0.4).train()
    calm = plain_fusion(fusion.eval(), *make_features(), SHORT_CAPTION)
    monkeypatch.setattr(F, "dropout", drop_by_place)
    dropped = plain_fusion(fusion.train(), *make_features(), SHORT_CAPTION)
    assert not torch.allclose(dropped[1], calm[1])  # rows of attention do not sum to 1 any more
    assert_same_outputs_and_gradients(fusion, SHORT_CAPTION, PADDED_IMAGE)


def test_dropout_is_off_in_evaluation() -> None:
    calm = make_fusion()(*make_features(), SHORT_CAPTION)
    found = make_fusion(dropout=0.4).eval()(*make_features(), SHORT_CAPTION)
    torch.testing.assert_close(found, calm, rtol=0, atol=0)
    assert not torch.equal(make_fusion(dropout=0.4).train()(*make_features(), SHORT_CAPTION)[0], calm[0])


def test_masked_words_do_not_reach_the_image_nor_each_other() -> None:
    fusion = make_fusion()
    image, words = make_features()
    other = words.detach().clone()
    other[1, 3:] = 7.0 * torch.randn(2, TEXT_DIM, dtype=torch.float64)
    found, expected = fusion(image, other, SHORT_CAPTION), fusion(image, words, SHORT_CAPTION)
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=0)
    torch.testing.assert_close(found[1][SHORT_CAPTION], expected[1][SHORT_CAPTION], rtol=0, atol=0)


def test_masked_positions_do_not_reach_the_words() -> None:
    fusion = make_fusion()
    image, words = make_features()
    other = image.detach().clone()
    other[1, 7:] = 7.0 * torch.randn(POSITIONS - 7, CHANNELS, dtype=torch.float64)
    found = fusion(other, words, SHORT_CAPTION, PADDED_IMAGE)[1]
    expected = fusion(image, words, SHORT_CAPTION, PADDED_IMAGE)[1]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_with_scales_of_zero_only_the_norms_are_left() -> None:
    fusion = make_fusion()
    nn.init.zeros_(fusion.image_scale)
    nn.init.zeros_(fusion.word_scale)
    image, words = make_features()
    found = fusion(image, words, SHORT_CAPTION)
    torch.testing.assert_close(found, (fusion.image_norm(image), fusion.word_norm(words)))


def test_no_images_give_no_images() -> None:
    image, words = (features[:0] for features in make_features())
    seen_image, seen_words = make_fusion()(image, words, SHORT_CAPTION[:0])
    assert seen_image.shape == (0, POSITIONS, CHANNELS)
    assert seen_words.shape == (0, WORDS, TEXT_DIM)


def test_a_residual_fusion_keeps_the_images_own_features() -> None:
    fusion = BidirectionalFusion(
        CHANNELS, TEXT_DIM, fusion_dim=24, num_heads=3, dropout=0.0, initial_scale=0.0, residual=True
    ).double()
    image, words = make_features()
    fused, _ = fusion(image, words, SHORT_CAPTION)
    torch.testing.assert_close(fused, image, rtol=0, atol=0)
