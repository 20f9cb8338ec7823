"""A map becomes at most side x side places; padding takes no part, and places are told by where they are."""

import torch

from glip.layers.grid import GridEncoder, centres, pool_grid


def test_cells_are_means_over_the_images_part() -> None:
    """The right half of a 2 x 4 map is padding of value 100; its left cell is the mean of 1 to 4."""
    level = torch.tensor([[[[1.0, 2.0, 100.0, 100.0], [3.0, 4.0, 100.0, 100.0]]]])
    mask = torch.tensor([[[True, True, False, False]] * 2])
    pooled, share = pool_grid(level, mask, 2)
    assert pooled.shape == (1, 1, 2, 2)
    assert pooled[0, 0].tolist() == [[1.5, 0.0], [3.5, 0.0]]
    assert share[0].tolist() == [[1.0, 0.0], [1.0, 0.0]]


def test_a_map_smaller_than_the_grid_stays_as_it_is() -> None:
    level = torch.randn(2, 3, 4, 5)
    pooled, share = pool_grid(level, torch.ones(2, 4, 5).bool(), 14)
    assert torch.equal(pooled, level)
    assert (share == 1).all()


def test_centres_run_over_the_image_not_over_its_padding() -> None:
    """The image fills the left half: its two cells are at 1/4 and 3/4 of it, those of padding beyond 1."""
    mask = torch.tensor([[[True, True, False, False]]])
    assert centres(mask, (1, 4))[0].tolist() == [[0.25, 0.5], [0.75, 0.5], [1.25, 0.5], [1.75, 0.5]]


def test_padding_changes_nothing_but_the_mask() -> None:
    torch.manual_seed(0)
    encoder = GridEncoder(3, 8, side=14)
    level = torch.randn(1, 3, 4, 4)
    alone, mask = encoder(level, torch.ones(1, 4, 4).bool())
    padded = torch.cat([level, torch.full((1, 3, 4, 2), 9.0)], dim=3)
    wide = torch.ones(1, 4, 6).bool()
    wide[..., 4:] = False
    found, found_mask = encoder(padded, wide)
    assert mask.all()
    assert found_mask.view(4, 6).tolist() == [[True] * 4 + [False] * 2] * 4
    torch.testing.assert_close(found.view(1, 4, 6, 8)[:, :, :4], alone.view(1, 4, 4, 8))


def test_equal_places_differ_by_where_they_are() -> None:
    places, _ = GridEncoder(3, 8, side=14)(torch.ones(1, 3, 2, 2), torch.ones(1, 2, 2).bool())
    assert len({tuple(place.tolist()) for place in places[0]}) == 4


def test_no_image_is_no_place() -> None:
    places, mask = GridEncoder(3, 8, side=14)(torch.ones(0, 3, 2, 2), torch.ones(0, 2, 2).bool())
    assert places.shape == (0, 4, 8)
    assert mask.shape == (0, 4)
