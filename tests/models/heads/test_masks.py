"""The mask head draws each box of each image by itself, and asks its words about every place."""

import pytest
import torch
from torch import Tensor

from glip.models.heads.masks import Hourglass, MaskHead

BOXES = (torch.tensor([[0.0, 0.0, 32.0, 32.0], [8.0, 16.0, 60.0, 60.0]]), torch.tensor([[16.0, 0.0, 40.0, 64.0]]))
MAPS = (torch.tensor([[0, 1, 1], [1, 0, 0]]).bool(), torch.tensor([[0, 0, 1]]).bool())


def head_of(extractor: str = "conv") -> MaskHead:
    torch.manual_seed(0)
    return MaskHead(6, 10, extractor=extractor, layers=2, width=8, resolution=14)


def inputs() -> tuple[list[Tensor], Tensor]:
    draw = torch.Generator().manual_seed(1)
    levels = [torch.randn(2, 6, side, side, generator=draw) for side in (8, 4, 2, 1)]
    return levels, torch.randn(2, 3, 10, generator=draw)


def draw(head: MaskHead, boxes: tuple[Tensor, ...], maps: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    levels, words = inputs()
    found: tuple[Tensor, Tensor] = head(levels, boxes, words, maps, stride=8)
    return found


@pytest.mark.parametrize("extractor", ["conv", "hourglass"])
def test_a_batch_gives_what_its_images_give_one_by_one(extractor: str) -> None:
    head = head_of(extractor)
    levels, words = inputs()
    plain, named = draw(head, BOXES, MAPS)
    assert plain.shape == named.shape == (3, 28, 28)
    for image, rows in enumerate((slice(0, 2), slice(2, 3))):
        one = [level[image : image + 1] for level in levels]
        alone = head(one, BOXES[image : image + 1], words[image : image + 1], MAPS[image : image + 1], stride=8)
        torch.testing.assert_close((plain[rows], named[rows]), alone)


@pytest.mark.parametrize("extractor", ["conv", "hourglass"])
def test_no_box_gives_no_mask(extractor: str) -> None:
    none = (torch.zeros(0, 4),) * 2
    plain, named = draw(head_of(extractor), none, (torch.zeros(0, 3).bool(),) * 2)
    assert plain.shape == named.shape == (0, 28, 28)


def test_other_words_change_the_one_mask_and_not_the_other() -> None:
    head = head_of()
    plain, named = draw(head, BOXES, MAPS)
    same, other = draw(head, BOXES, (MAPS[0].flip(1), MAPS[1]))
    assert torch.equal(same, plain)
    assert not torch.allclose(other[0], named[0])
    torch.testing.assert_close(other[2], named[2])


def test_a_phrase_says_what_its_words_say_on_average() -> None:
    head = head_of()
    box = (BOXES[0][:1], BOXES[1][:0])
    masks = [
        draw(head, box, (torch.tensor([tokens]).bool(), torch.zeros(0, 3).bool()))[1]
        for tokens in ([1, 0, 1], [1, 0, 0], [0, 0, 1])
    ]
    torch.testing.assert_close(masks[0], (masks[1] + masks[2]) / 2)


def test_a_box_whose_words_were_cut_off_is_undecided() -> None:
    _, named = draw(head_of(), BOXES, (torch.zeros(2, 3).bool(), MAPS[1]))
    assert (named[:2] == 0).all()


def test_an_hourglass_keeps_odd_sizes() -> None:
    assert Hourglass(4, 2)(torch.randn(1, 4, 7, 5)).shape == (1, 4, 7, 5)
