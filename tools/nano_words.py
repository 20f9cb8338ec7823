"""How the text side of glip-nano's start learns what words mean: no picture is needed for that."""

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from glip.models.glip import GlipBlock, GlipModel
from glip.processing import GlipProcessor
from glip.text.tokens import tokenize_prompts
from tools.nano_phrases import Drawn, Phrases
from tools.nano_places import Places

RIDGE, WORDS_RIDGE = 1e-3, 1e-5
ABSENT_LOGIT = -6.0  # for tokens that name no class
LEAST_PROBABILITY = 1e-4
WORDS_RATE, LAST_RATE = 5e-4, 4e-3  # of text layers, and of the projection, whose weights are large
CUES = 0.1  # weight of the cues' loss
CAPTIONS, POOL, SOLVED, PLACES_A_STEP = 48, 12_000, 1200, 1024


class Fit:
    """Weighted ridge regression, gathered picture by picture."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.gram = torch.zeros(inputs + 1, inputs + 1, dtype=torch.float64)
        self.cross = torch.zeros(inputs + 1, outputs, dtype=torch.float64)

    def add(self, inputs: Tensor, outputs: Tensor, weights: Tensor | None = None) -> None:
        """Take in rows `(n, inputs)` and what they should give, `(n, outputs)`."""
        rows = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1).double()
        weighted = rows if weights is None else rows * weights.double()[:, None]
        self.gram += weighted.T @ rows
        self.cross += weighted.T @ outputs.double()

    def solve(self, *, ridge: float = RIDGE) -> tuple[Tensor, Tensor]:
        """Weight `(outputs, inputs)` and bias `(outputs,)`."""
        penalty = ridge * self.gram.diagonal().mean() * torch.eye(len(self.gram), dtype=torch.float64)
        solution = torch.linalg.solve(self.gram + penalty, self.cross).float()
        return solution[:-1].T, solution[-1]


class Goal:
    """What words should say of positions.

    Args:
        places: some positions.
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        features = places.features
        moments = (features.T @ features / len(features)).double()
        self.inverse = torch.linalg.inv(moments + RIDGE * moments.diagonal().mean() * torch.eye(len(moments))).float()
        self.known: dict[tuple[bytes, tuple[str, ...]], Tensor] = {}

    def row(self, phrase: Drawn) -> Tensor:
        """The best linear row and bias `(C + 1,)` of a phrase."""
        key = phrase.shares.numpy().tobytes(), (phrase.noun, *phrase.cues)
        if key not in self.known:
            truth = self.places.truth(slice(None), [phrase])[0]
            said = truth.clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY).logit()
            self.known[key] = self.inverse @ (self.places.features.T @ said) / len(said)
        return self.known[key]


@dataclass(frozen=True)
class Caption:
    """A caption as the text encoder gives it, and what its tokens mean.

    Attributes:
        words: `(L, D)`.
        phrases: P of them.
        owners: `(L,)` int64, the phrase of each token; P for tokens of none.
    """

    words: Tensor
    phrases: Sequence[Drawn]
    owners: Tensor


class WordTeacher:
    """Trains text layers and word projection until every phrase says of positions what it means.

    Fusion adds nothing yet, so that no picture is needed: positions and captions are drawn once.
    """

    def __init__(self, model: GlipModel, processor: GlipProcessor, goal: Goal, phrases: Phrases) -> None:
        self.model, self.goal = model, goal
        self.blocks = [block for block in model.blocks if isinstance(block, GlipBlock)]
        self.draw = random.Random(0)
        self.captions = [caption for _ in range(POOL // CAPTIONS) for caption in self._encode(processor, phrases)]

    @torch.no_grad()
    def _encode(self, processor: GlipProcessor, phrases: Phrases) -> list[Caption]:
        drawn = [phrases.caption([], self.draw) for _ in range(CAPTIONS)]
        tokens = tokenize_prompts([prompt for prompt, _ in drawn], processor.tokenizer)
        hidden = self.model.encode_words(tokens.input_ids, tokens.attention_mask)
        captions = []
        for words, real, (_, meant), token_map in zip(
            hidden, tokens.attention_mask.bool(), drawn, tokens.token_maps, strict=True
        ):
            owned, owner = token_map.max(dim=0)
            captions.append(Caption(words[real], meant, torch.where(owned, owner, len(meant))[real]))
        return captions

    def _directions(self, captions: list[Caption]) -> Tensor:
        """Of all tokens behind each other: `(T, D)`."""
        lengths = torch.tensor([len(caption.words) for caption in captions])
        hidden = pad_sequence([caption.words for caption in captions], batch_first=True)
        mask = torch.arange(hidden.shape[1]) < lengths[:, None]
        for block in self.blocks:
            hidden = block.text_layer(block.fusion.word_norm(hidden), mask)
        return F.normalize(hidden, dim=-1)[mask]

    @torch.no_grad()
    def solve(self) -> None:
        """The best projection of the words as they are: the weights are large, and gradient steps would take long."""
        head, goal = self.model.head, self.goal
        fit = Fit(self.model.text_encoder.dim, len(goal.inverse))
        nothing = torch.zeros(len(goal.inverse))
        nothing[-1] = ABSENT_LOGIT
        for start in range(0, min(SOLVED, len(self.captions)), CAPTIONS):
            part = self.captions[start : start + CAPTIONS]
            rows = [
                torch.stack([*(goal.row(phrase) for phrase in caption.phrases), nothing])[caption.owners]
                for caption in part
            ]
            fit.add(self._directions(part), torch.cat(rows))
        weight, bias = fit.solve(ridge=WORDS_RIDGE)
        head.word_projection.weight[:] = 2 * weight[:-1]  # the head halves its words
        head.word_projection.bias[:] = bias[:-1]
        head.word_bias[:] = weight[-1]
        head.bias[:] = bias[-1]

    def loss(self, captions: list[Caption]) -> Tensor:
        """Quality focal loss (Generalized Focal Loss, equation 4) of tokens at drawn positions, and of their cues."""
        head, goal = self.model.head, self.goal
        directions = self._directions(captions)
        drawn = torch.randint(len(goal.places.features), (PLACES_A_STEP,))
        rows = torch.cat(
            [head.word_projection(directions / 2), (directions @ head.word_bias + head.bias)[:, None]], dim=1
        )
        logits = rows @ goal.places.features[drawn].T
        nothing = torch.zeros(1, PLACES_A_STEP)
        nouns = [torch.cat([goal.places.nouns(drawn, c.phrases), nothing])[c.owners] for c in captions]
        fits = [torch.cat([goal.places.fits(drawn, c.phrases), nothing + 1]) for c in captions]
        truth = torch.cat([noun * fit[c.owners] for noun, fit, c in zip(nouns, fits, captions, strict=True)])
        error = (logits.sigmoid() - truth).abs()
        entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        said = logits.split([len(caption.owners) for caption in captions])
        cues = [
            cue_loss(own, noun, fit, caption.owners)
            for caption, own, noun, fit in zip(captions, said, nouns, fits, strict=True)
        ]
        return (error * entropy).sum() / truth.sum() + CUES * torch.stack(cues).mean()

    def train(self, steps: int, *, rates: float = 1.0) -> None:
        """Gradient steps from there; `rates` multiplies the learning rates."""
        head = self.model.head
        parts = [module for block in self.blocks for module in (block.fusion.word_norm, block.text_layer)]
        layers = [weight for module in parts for weight in module.parameters()]
        last = [*head.word_projection.parameters(), head.word_bias, head.bias]
        optimizer = torch.optim.Adam([{"params": layers}, {"params": last}])
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, [rates * WORDS_RATE, rates * LAST_RATE], total_steps=steps, pct_start=0.1
        )
        mean = 0.0
        for step in range(steps):
            loss = self.loss(self.draw.sample(self.captions, CAPTIONS))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(layers, 5.0)
            optimizer.step()
            schedule.step()
            mean = loss.item() if step == 0 else 0.95 * mean + 0.05 * loss.item()
            if step % 50 == 0 or step == steps - 1:
                sys.stdout.write(f"words: step {step}, loss {mean:.3f}\n")
                sys.stdout.flush()


def cue_loss(logits: Tensor, nouns: Tensor, fits: Tensor, owners: Tensor) -> Tensor:
    """How far a caption's tokens are from saying of a position what their own phrase's cues do, and no other's.

    The logit of a phrase with cues should be its noun's and the logarithm of how well the cues fit. So the difference
    is regressed on that logarithm, for the cues of every phrase that has some: the slope should be 1 for its own tokens
    and, for others, what the phrases have in common: mostly 0. The focal loss hears of cues only where things are.

    Args:
        logits: of L tokens at n positions, `(L, n)`.
        nouns: probabilities without cues, `(L, n)`.
        fits: of the cues of P phrases, and of the tokens of none, `(P + 1, n)` in `(0, 1]`; 1 without cues.
        owners: `(L,)` int64, the phrase of each token.

    Returns:
        The mean square of what is missing to the slope, over a phrase's own tokens, and over all others'; their sum. 0
        without cues.
    """
    said = fits.log()
    spread = said - said.mean(dim=1, keepdim=True)
    total = spread.square().sum(dim=1)
    cued = (total > 0).nonzero()[:, 0]
    if not len(cued):
        return logits.sum() * 0
    axes = spread[cued] / total[cued, None]  # (Q, n)
    noun_logits = nouns.clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY).logit()
    missing = ((logits - noun_logits - said[owners]) @ axes.T).square()  # (L, Q)
    own = owners[:, None] == cued
    shares = [missing[chosen].mean() for chosen in (own, ~own) if chosen.any()]
    return torch.stack(shares).sum()
