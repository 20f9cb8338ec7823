"""The best sentence, one token at a time: beam search (Wu et al. 2016, section 7); one beam is greedy."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glip.errors import ConfigError
from glip.layers.decoder import Memory
from glip.models.heads.captioning import CaptionHead

PAD = 0  # BERT's


@dataclass(frozen=True)
class DecodingRule:
    """How sentences are searched.

    Attributes:
        start: the token that a sentence starts with.
        end: the token that it ends with.
        banned: tokens that it never has.
        beams: sentences that are kept in mind at a time; 1 takes the likeliest token each time.
        length_power: a sentence's log likelihood is divided by its length to this power; 0 prefers short ones.
        max_tokens: most tokens, start and end left out; None for as many as the head can.

    Raises:
        ConfigError: there is no beam.
    """

    start: int = 101  # BERT's CLS
    end: int = 102  # BERT's SEP
    banned: tuple[int, ...] = (PAD, 100, 101, 103)  # UNK, CLS, MASK
    beams: int = 4
    length_power: float = 1.0
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        """Refuse impossible rules."""
        if self.beams < 1:
            raise ConfigError(f"beams must be at least 1 (greedy), got {self.beams}")


@dataclass(frozen=True, eq=False)
class _Beams:
    """`(B, K)` sentences: their tokens `(B, K, T)`, log likelihoods, lengths, and whether they have ended."""

    tokens: Tensor
    scores: Tensor
    lengths: Tensor
    ended: Tensor


@torch.no_grad()
def describe(
    head: CaptionHead, level: Tensor, level_mask: Tensor, embedding: Tensor, rule: DecodingRule
) -> list[Tensor]:
    """The best description of each image.

    Args:
        head: in evaluation mode.
        level: plain map, `(B, C, H, W)`.
        level_mask: `(B, H, W)` bool, True on the image.
        embedding: `(V, D)`, the text encoder's word embeddings.
        rule: how it is searched.

    Returns:
        For each image int64 tokens, start and end left out.
    """
    batch, beams = len(level), rule.beams
    room = len(head.positions) - 1
    device = level.device
    tokens = torch.full((batch, beams, 1), rule.start, device=device)
    scores = torch.full((batch, beams), -torch.inf, device=device)
    scores[:, 0] = 0  # all beams start alike: one of them counts
    state = _Beams(tokens, scores, torch.zeros_like(scores), torch.zeros_like(scores, dtype=torch.bool))
    first = torch.arange(batch, device=device).repeat_interleave(beams)
    memory = [past.rows(first) for past in head.look_at(level, level_mask)]
    for _ in range(min(room, rule.max_tokens or room)):
        if batch == 0 or bool(state.ended.all()):
            break
        logits, memory = head.step(state.tokens[:, :, -1:].flatten(0, 1), memory, embedding)
        state, chosen = _extend(state, logits[:, -1].float().unflatten(0, (batch, beams)), rule)
        memory = _follow(memory, chosen)
    best = _ranks(state.scores, state.lengths, rule).argmax(dim=1)
    return [_trimmed(row[index, 1:], rule) for row, index in zip(state.tokens, best, strict=True)]


def _extend(state: _Beams, logits: Tensor, rule: DecodingRule) -> tuple[_Beams, Tensor]:
    """The best continuations, and from which beam `(B, K)` each comes; ended sentences go on with padding for free."""
    vocabulary = logits.shape[-1]
    logits[..., [token for token in rule.banned if token < vocabulary]] = -torch.inf
    steps = logits.log_softmax(dim=-1)
    free = torch.full_like(steps, -torch.inf)
    free[..., PAD] = 0
    total = state.scores.unsqueeze(-1) + torch.where(state.ended.unsqueeze(-1), free, steps)  # (B, K, V)
    lengths = state.lengths + ~state.ended
    ranks = _ranks(total, lengths.unsqueeze(-1), rule)
    place = ranks.flatten(1).topk(rule.beams, dim=1).indices
    beam, token = place // vocabulary, place % vocabulary
    kept = state.tokens.gather(1, beam.unsqueeze(-1).expand(-1, -1, state.tokens.shape[2]))
    return _Beams(
        torch.cat([kept, token.unsqueeze(-1)], dim=2),
        total.flatten(1).gather(1, place),
        lengths.gather(1, beam),
        state.ended.gather(1, beam) | (token == rule.end),
    ), beam


def _ranks(scores: Tensor, lengths: Tensor, rule: DecodingRule) -> Tensor:
    """What sentences are compared by."""
    return scores / lengths.clamp(min=1) ** rule.length_power


def _follow(memory: Sequence[Memory], beam: Tensor) -> list[Memory]:
    """The memories of the beams `(B, K)` that were gone on with."""
    first = torch.arange(len(beam), device=beam.device).unsqueeze(1) * beam.shape[1]
    rows = (first + beam).flatten()
    return [past.rows(rows) for past in memory]


def _trimmed(tokens: Tensor, rule: DecodingRule) -> Tensor:
    """The tokens before the end."""
    return tokens[(tokens != rule.end) & (tokens != PAD)]
