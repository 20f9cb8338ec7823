"""Pooling with positions: the mean, at a place of its own, asks itself and every position."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glip.layers.pooling import PositionedAttentionPool


def plain_pool() -> PositionedAttentionPool:
    """Two channels, two positions, one head; nothing is known of places, and values stay as they are."""
    pool = PositionedAttentionPool(2, num_heads=1, num_positions=2, out_dim=2)
    for layer in (pool.query, pool.key, pool.value, pool.out):
        nn.init.zeros_(layer.bias)
    for layer in (pool.query, pool.key):
        nn.init.zeros_(layer.weight)
    for layer in (pool.value, pool.out):
        nn.init.eye_(layer.weight)
    nn.init.zeros_(pool.positions)
    return pool


def map_of(*columns: list[float]) -> Tensor:
    """`(1, C, 1, W)` of one vector for each position."""
    return torch.tensor(columns).T[None, :, None]


def test_without_a_question_all_positions_and_their_mean_count_alike() -> None:
    pool = plain_pool()
    with torch.no_grad():
        pool.positions.copy_(torch.tensor([[3.0, 0.0], [0.0, 6.0], [0.0, 0.0]]))
    found = pool(map_of([1.0, 2.0], [3.0, 4.0]))
    torch.testing.assert_close(found, torch.tensor([[2.0 + 1.0, 3.0 + 2.0]]))  # the mean's mean; the places' mean


def test_the_mean_asks_and_the_position_that_fits_answers() -> None:
    pool = plain_pool()
    nn.init.eye_(pool.query.weight)
    nn.init.eye_(pool.key.weight)
    first, second = [100.0, 0.0], [0.0, 20.0]  # their mean is (50, 10)
    torch.testing.assert_close(pool(map_of(first, second)), torch.tensor([first]))


def test_the_first_embedding_is_the_means() -> None:
    pool = plain_pool()
    nn.init.eye_(pool.query.weight)
    nn.init.eye_(pool.key.weight)
    with torch.no_grad():
        pool.positions[0] = torch.tensor([0.0, 1000.0])  # what asks fits itself best
    torch.testing.assert_close(pool(map_of([2.0, 0.0], [4.0, 0.0])), torch.tensor([[3.0, 1000.0]]))


def test_no_map_becomes_no_vector() -> None:
    assert plain_pool()(torch.empty(0, 2, 1, 2)).shape == (0, 2)


@pytest.fixture
def pool() -> PositionedAttentionPool:
    torch.manual_seed(0)
    return PositionedAttentionPool(8, num_heads=2, num_positions=6, out_dim=5)


def test_several_heads_are_those_of_torch(pool: PositionedAttentionPool) -> None:
    features = torch.randn(3, 8, 2, 3)
    places = features.flatten(2).permute(2, 0, 1)
    sequence = torch.cat([places.mean(dim=0, keepdim=True), places]) + pool.positions.unsqueeze(1)
    layers = (pool.query, pool.key, pool.value)
    torchs = nn.MultiheadAttention(8, 2)
    with torch.no_grad():
        torchs.in_proj_weight.copy_(torch.cat([layer.weight for layer in layers]))
        torchs.in_proj_bias.copy_(torch.cat([layer.bias for layer in layers]))
        torchs.out_proj.weight.copy_(torch.eye(8))
        torchs.out_proj.bias.zero_()
    seen = torchs(sequence[:1], sequence, sequence, need_weights=False)[0]
    torch.testing.assert_close(pool(features), F.linear(seen[0], pool.out.weight, pool.out.bias))


def test_places_matter(pool: PositionedAttentionPool) -> None:
    features = torch.randn(1, 8, 2, 3)
    assert (pool(features) - pool(features.flip(3))).abs().max() > 1e-3


def test_gradients_reach_every_parameter(pool: PositionedAttentionPool) -> None:
    pool(torch.randn(2, 8, 2, 3)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in pool.parameters())
