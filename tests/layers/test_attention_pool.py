"""Attention pooling makes one vector of a map, whatever its size and the order of its positions."""

import pytest
import torch

from glip.layers.pooling import AttentionPool


@pytest.fixture
def pool() -> AttentionPool:
    torch.manual_seed(0)
    return AttentionPool(8, num_heads=2).eval()


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 7)], ids=str)
def test_a_map_becomes_one_vector(pool: AttentionPool, size: tuple[int, int]) -> None:
    assert pool(torch.randn(2, 8, *size)).shape == (2, 8)


def test_no_map_becomes_no_vector(pool: AttentionPool) -> None:
    assert pool(torch.empty(0, 8, 2, 2)).shape == (0, 8)


def test_the_order_of_positions_does_not_matter(pool: AttentionPool) -> None:
    features = torch.randn(1, 8, 3, 3)
    torch.testing.assert_close(pool(features.flip(2, 3)), pool(features))


def test_positions_count_by_what_they_show(pool: AttentionPool) -> None:
    features = torch.randn(1, 8, 2, 2)
    normed = pool.norm(features.flatten(2).transpose(1, 2))
    assert not torch.allclose(pool(features), normed.mean(dim=1) + pool.attention.out_proj(normed.mean(dim=1)))
