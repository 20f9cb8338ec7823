"""DropBlock zeroes whole squares in training, keeps the map's sum in expectation, and does nothing in evaluation."""

import pytest
import torch

from glip.layers.drop_block import DropBlock


def test_evaluation_returns_the_very_same_map() -> None:
    features = torch.randn(2, 3, 8, 8)
    assert DropBlock(0.3).eval()(features) is features


def test_probability_zero_returns_the_very_same_map() -> None:
    features = torch.randn(2, 3, 8, 8)
    assert DropBlock(0.0).train()(features) is features


def test_what_is_kept_grows_by_the_share_that_was_dropped() -> None:
    torch.manual_seed(0)
    found = DropBlock(0.3).train()(torch.ones(2, 3, 16, 16))
    kept = found[:, 0] != 0
    assert 0 < int((~kept).sum()) < kept.numel()
    torch.testing.assert_close(found[:, 0][kept], torch.full((int(kept.sum()),), kept.numel() / int(kept.sum())))
    torch.testing.assert_close(found.mean(), torch.tensor(1.0))


def test_all_channels_of_an_image_lose_the_same_positions_and_images_do_not() -> None:
    torch.manual_seed(0)
    dropped = DropBlock(0.3).train()(torch.ones(2, 3, 16, 16)) == 0
    assert torch.equal(dropped[:, 0], dropped[:, 1])
    assert torch.equal(dropped[:, 0], dropped[:, 2])
    assert not torch.equal(dropped[0], dropped[1])


def test_one_seed_drops_the_square_round_it(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = torch.ones(1, 1, 5, 5)
    draws[0, 0, 2, 1] = 0.0
    monkeypatch.setattr(torch, "rand", lambda *_, **__: draws)
    found = DropBlock(0.3).train()(torch.ones(1, 2, 5, 5))
    expected = torch.full((5, 5), 25 / 16)
    expected[1:4, 0:3] = 0.0
    torch.testing.assert_close(found, expected.expand(1, 2, 5, 5))


def test_a_seed_is_drawn_with_a_ninth_of_the_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = torch.ones(1, 1, 9, 9)
    draws[0, 0, 1, 1], draws[0, 0, 7, 7] = 0.0333, 0.0334  # 0.3 / 9 lies between
    monkeypatch.setattr(torch, "rand", lambda *_, **__: draws)
    found = DropBlock(0.3).train()(torch.ones(1, 1, 9, 9))[0, 0]
    assert found[1, 1] == 0
    assert found[7, 7] != 0


def test_no_images_give_no_images() -> None:
    assert DropBlock(0.3).train()(torch.zeros(0, 3, 4, 4)).shape == (0, 3, 4, 4)
