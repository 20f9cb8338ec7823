"""A pre-norm layer adds to its input; in a causal one nothing that comes later is seen."""

import pytest
import torch
from torch import nn

from glip.layers.pre_norm import PreNormLayer


def layer_of(*, quick_gelu: bool = True, is_causal: bool = False) -> PreNormLayer:
    torch.manual_seed(0)
    return PreNormLayer(8, num_heads=2, feedforward_dim=16, quick_gelu=quick_gelu, is_causal=is_causal).eval()


def test_no_sequence_gives_none() -> None:
    assert layer_of()(torch.empty(0, 3, 8)).shape == (0, 3, 8)


def test_a_layer_of_zeros_changes_nothing() -> None:
    layer = layer_of()
    for module in (layer.attention_out, layer.contract):
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)
    sequence = torch.randn(2, 3, 8)
    assert torch.equal(layer(sequence), sequence)


@pytest.mark.parametrize("is_causal", [True, False])
def test_a_later_position_changes_earlier_ones_only_where_it_may(is_causal: bool) -> None:
    layer = layer_of(is_causal=is_causal)
    sequence = torch.randn(1, 4, 8)
    changed = sequence.clone()
    changed[:, 2] += 1
    before, after = layer(sequence)[:, :2], layer(changed)[:, :2]
    assert torch.equal(before, after) == is_causal


def test_quick_gelu_is_x_times_the_sigmoid_of_1_702_x() -> None:
    layer = layer_of()
    nn.init.zeros_(layer.attention_out.weight)
    nn.init.zeros_(layer.attention_out.bias)
    sequence = torch.randn(1, 2, 8)
    wide = layer.expand(layer.feedforward_norm(sequence))
    torch.testing.assert_close(layer(sequence), sequence + layer.contract(wide / (1 + torch.exp(-1.702 * wide))))


def test_gradients_reach_every_parameter() -> None:
    layer = layer_of(is_causal=True)
    layer(torch.randn(1, 4, 8)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())
