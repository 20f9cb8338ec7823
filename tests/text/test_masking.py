"""15 % of the words that may be hidden are; of those 80 % become [MASK], 10 % another word, 10 % stay."""

import pytest
import torch
from torch import Tensor

from glip.structures.tasks import IGNORED
from glip.text.masking import NEVER, SCORED, UNSCORED, hide_words

MASK = 103
MANY = torch.full((100, 1000), 5000)


def hidden(ids: Tensor, light: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return hide_words(ids, torch.full_like(ids, light), mask_id=MASK, vocabulary=30522, generator=generator)


def test_the_shares_are_berts() -> None:
    ids, labels = hidden(MANY, SCORED)
    chosen = labels != IGNORED
    assert chosen.float().mean().item() == pytest.approx(0.15, abs=0.005)
    assert (ids[chosen] == MASK).float().mean().item() == pytest.approx(0.8, abs=0.01)
    assert (ids[chosen] == 5000).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert (labels[chosen] == 5000).all()
    assert (ids[~chosen] == 5000).all()


def test_a_word_that_is_not_scored_may_be_hidden() -> None:
    ids, labels = hidden(MANY, UNSCORED)
    assert (labels == IGNORED).all()
    assert (ids == MASK).any()


def test_a_word_that_stays_stays() -> None:
    ids, labels = hidden(MANY, NEVER)
    assert torch.equal(ids, MANY)
    assert (labels == IGNORED).all()


def test_the_given_tokens_are_not_changed_and_the_same_seed_hides_the_same() -> None:
    given = MANY.clone()
    first, again, other = hidden(given, SCORED), hidden(given, SCORED), hidden(given, SCORED, seed=1)
    assert torch.equal(given, MANY)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])


def test_no_words_are_no_labels() -> None:
    ids, labels = hidden(torch.zeros(0, 5, dtype=torch.int64), SCORED)
    assert ids.shape == labels.shape == (0, 5)
