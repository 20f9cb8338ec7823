"""No word of a description depends on a later one; decoding with a memory is decoding without."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from glip.errors import ConfigError, PromptError
from glip.models.heads.captioning import CaptionHead
from glip.models.heads.decoding import DecodingRule, describe

VOCABULARY, DIM = 12, 8
RULE = DecodingRule(start=1, end=2, banned=(0, 1, 3), beams=1)


@pytest.fixture
def head() -> CaptionHead:
    torch.manual_seed(0)
    made = CaptionHead(6, DIM, num_heads=2, vocabulary=VOCABULARY, layers=2, max_tokens=7, grid=4)
    with torch.no_grad():
        made.word.bias.normal_()
    return made.eval()


EMBEDDING = torch.randn(VOCABULARY, DIM, generator=torch.Generator().manual_seed(1))
LEVEL = torch.randn(2, 6, 5, 4, generator=torch.Generator().manual_seed(2))
MASK = torch.ones(2, 5, 4, dtype=torch.bool)
IDS = torch.tensor([[1, 4, 5, 6, 7], [1, 8, 4, 9, 5]])


@torch.no_grad()
def logits_of(head: CaptionHead, ids: Tensor) -> Tensor:
    found: Tensor = head(ids, LEVEL, MASK, EMBEDDING)
    return found


@pytest.mark.parametrize("place", [1, 2, 3, 4])
def test_a_changed_word_moves_no_logit_before_it_by_a_bit(head: CaptionHead, place: int) -> None:
    changed = IDS.clone()
    changed[:, place] = 11
    before, after = logits_of(head, IDS), logits_of(head, changed)
    assert torch.equal(before[:, :place], after[:, :place])
    assert not torch.allclose(before[:, place:], after[:, place:])


def test_word_by_word_is_all_at_once(head: CaptionHead) -> None:
    memory = head.look_at(LEVEL, MASK)
    steps = []
    for place in range(IDS.shape[1]):
        logits, memory = head.step(IDS[:, place : place + 1], memory, EMBEDDING)
        steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), logits_of(head, IDS))


def test_the_image_matters_and_its_padding_does_not(head: CaptionHead) -> None:
    mask = MASK.clone()
    mask[:, 3:] = False
    padded, other = LEVEL.clone(), LEVEL.clone()
    padded[:, :, 3:] = 9
    other[:, :, 0] = 9
    plain = head(IDS, LEVEL, mask, EMBEDDING)
    torch.testing.assert_close(head(IDS, padded, mask, EMBEDDING), plain)
    assert not torch.allclose(head(IDS, other, mask, EMBEDDING), plain)


def test_one_beam_takes_the_likeliest_word_each_time(head: CaptionHead) -> None:
    for image, found in enumerate(describe(head, LEVEL, MASK, EMBEDDING, RULE)):
        ids = [1]
        while len(ids) < 7 and ids[-1] != 2:
            level, mask = LEVEL[image : image + 1], MASK[image : image + 1]
            last = head(torch.tensor([ids]), level, mask, EMBEDDING)[0, -1]
            last[list(RULE.banned)] = -torch.inf
            ids.append(int(last.argmax()))
        assert found.tolist() == [token for token in ids[1:] if token != 2]


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_beams_that_hold_everything_find_the_best_of_all_sentences(head: CaptionHead, power: float) -> None:
    """Two words at most, the end included: 9 allowed tokens, so 90 beams hold every sentence."""
    rule = replace(RULE, beams=90, length_power=power, max_tokens=2)
    found = describe(head, LEVEL[:1], MASK[:1], EMBEDDING, rule)[0].tolist()
    allowed = [token for token in range(VOCABULARY) if token not in RULE.banned]
    sentences = [[2]] + [[one, two] for one in allowed if one != 2 for two in allowed]
    best = max(sentences, key=lambda words: _likelihood(head, words) / len(words) ** power)
    assert found == [token for token in best if token != 2]


def _likelihood(head: CaptionHead, words: list[int]) -> float:
    logits = head(torch.tensor([[1, *words[:-1]]]), LEVEL[:1], MASK[:1], EMBEDDING)[0].detach()
    logits[:, list(RULE.banned)] = -torch.inf
    return float(logits.log_softmax(dim=1)[range(len(words)), words].sum())


def test_a_batch_is_described_as_its_images_one_by_one(head: CaptionHead) -> None:
    rule = replace(RULE, beams=3)
    together = describe(head, LEVEL, MASK, EMBEDDING, rule)
    alone = [describe(head, LEVEL[i : i + 1], MASK[i : i + 1], EMBEDDING, rule)[0] for i in range(2)]
    assert [one.tolist() for one in together] == [one.tolist() for one in alone]
    assert any(len(one) for one in together)


def test_no_image_has_no_description(head: CaptionHead) -> None:
    assert describe(head, LEVEL[:0], MASK[:0], EMBEDDING, RULE) == []


def test_a_description_that_is_too_long_is_refused(head: CaptionHead) -> None:
    with pytest.raises(PromptError, match="a description may have 7 tokens, got 8: shorten it"):
        logits_of(head, torch.ones(2, 8, dtype=torch.int64))


def test_a_search_without_a_beam_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"beams must be at least 1 \(greedy\), got 0"):
        DecodingRule(beams=0)
