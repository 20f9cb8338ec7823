"""How glip-nano learns to look around: from the words' teacher on whole photos, and from scenes with true boxes."""

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glip.data.captions import CaptionRule, make_prompt
from glip.data.examples import Example
from glip.data.transforms import mirror
from glip.detection.anchors import make_anchors
from glip.detection.assigners import UNASSIGNED, AtssAssigner
from glip.detection.box_coder import decode_boxes
from glip.models.glip import GlipBlock, GlipModel
from glip.processing import GlipProcessor
from glip.structures.boxes import elementwise_giou, pairwise_iou
from glip.structures.output import GlipOutput
from glip.structures.prompt import Prompt
from glip.structures.targets import Targets
from glip.text.tokens import tokenize_prompts
from tools.nano_parts import BeyondCoco
from tools.nano_phrases import Phrases
from tools.nano_places import NECK, NUM_CLASSES, Places, View, cue_factors, view_photo
from tools.nano_words import LAST_RATE, WORDS_RATE

SCALES_RATE, BLOCKS_RATE, BOX_RATE, WARM_SHARE = 3e-3, 1e-3, 1e-4, 0.1
SEEN = 0.35  # probability of a class that is worth speaking of
NAMED = 0.35  # share of a photo's phrases that are about parts and likenesses, which words alone cannot learn
KEEP_BOXES, DRAW_BOXES = 1.0, 1.0  # weights of boxes that stay NanoDet-g's, and of those that are known better
RULE = CaptionRule(max_names=16, full_share=0.5, article_share=0.4)
MIRRORED = 0.5  # share of the pictures with true boxes
MOST_VIEWS = 3000  # that are kept, of 1.4 MB each
REPORT_EVERY, SMOOTH = 20, 0.95


@dataclass(frozen=True)
class Taught:
    """A photo and what its teachers say of every position.

    Attributes:
        view: of the network, in half precision; its boxes are NanoDet-g's.
        places: probabilities, cues and evidence; no features.
        seen: classes that are surely there.
        parts: names that there is evidence of.
    """

    view: View
    places: Places
    seen: Sequence[int]
    parts: Sequence[str]


class PictureTeacher:
    """Trains fusion, DyConv and the box head, and the words where asked to, while NanoDet-g stays as it is.

    Args:
        model: what tools/start_nano.py made.
        processor: its processor.
        classifier: weight `(124, 128)` and bias `(124,)` of NanoDet-g's outputs.
        phrases: what captions of photos are drawn from.
        beyond: which parts things have.
        photos: files.
        boxed: sets of pictures with true boxes, which are drawn from evenly.
        seed: of what is drawn.
    """

    def __init__(
        self,
        model: GlipModel,
        processor: GlipProcessor,
        classifier: tuple[Tensor, Tensor],
        phrases: Phrases,
        beyond: BeyondCoco,
        photos: Sequence[str],
        boxed: Sequence[Sequence[Example]],
        *,
        seed: int = 0,
    ) -> None:
        self.model, self.processor, self.phrases = model, processor, phrases
        self.classifier, self.beyond = classifier, beyond
        self.draw = random.Random(seed)
        self.photos = [self._teach(photo) for photo in photos]
        self.boxed = boxed
        self.views: dict[tuple[str, bool], View] = {}
        self.assign = AtssAssigner()

    @torch.no_grad()
    def _teach(self, photo: str) -> Taught:
        view = view_photo(self.model, self.processor, photo)
        weight, bias = (part[:NUM_CLASSES] for part in self.classifier)
        probabilities = (view.features[:, :NECK] @ weight.T + bias).sigmoid()
        evidence = self.beyond.evidence(view.boxes, probabilities, min(view.size))
        places = Places(torch.empty(0), probabilities, cue_factors(view.shares, view.colours), evidence)
        seen = (probabilities.amax(dim=0) > SEEN).nonzero()[:, 0].tolist()
        return Taught(view.half(), places, seen, sorted(evidence))

    def photo_loss(self, taught: Taught) -> Tensor:
        """What one caption drawn for a photo teaches: words say what their teacher says, boxes stay."""
        prompt, drawn = self.phrases.caption(taught.seen, self.draw, taught.parts, named=NAMED)
        output, owners = self._ask(taught.view, prompt)
        truth = torch.cat([taught.places.truth(slice(None), drawn), torch.zeros(1, len(taught.view.deltas))])[owners]
        weights = taught.places.probabilities.amax(dim=1)
        moved = F.smooth_l1_loss(output.box_deltas[0], taught.view.deltas, reduction="none").sum(dim=1)
        return alignment_loss(output, truth) + KEEP_BOXES * (weights * moved).sum() / weights.sum()

    def boxes_loss(self, example: Example) -> Tensor:
        """What a picture with true boxes teaches: words are as sure of a position as its box is right."""
        is_mirrored = self.draw.random() < MIRRORED
        example = mirror(example, example.size[1]) if is_mirrored else example
        prompt, named = make_prompt(example, RULE, self.draw)
        view = self._view(str(example.image), is_mirrored)
        output, owners = self._ask(view, prompt)
        scale = view.size[0] / example.size[0]
        boxes, token_map = merge_boxes(example, torch.tensor(named), owners)
        boxes = boxes * scale
        anchors = make_anchors(output.level_shapes, output.strides)
        targets = Targets(boxes, token_map, torch.arange(len(boxes)))
        assigned = self.assign(
            anchors,
            output.levels,
            targets,
            alignment_logits=output.alignment_logits[0].detach(),
            box_deltas=output.box_deltas[0].detach(),
        )
        positions = (assigned != UNASSIGNED).nonzero()[:, 0]
        truth = torch.zeros(len(owners), len(anchors))
        if not len(positions):
            return alignment_loss(output, truth)
        true = boxes[assigned[positions]]
        found = decode_boxes(output.box_deltas[0, positions], anchors[positions])
        right = pairwise_iou(found.detach(), true).diagonal()
        truth[:, positions] = token_map[assigned[positions]].T * right
        return alignment_loss(output, truth) + DRAW_BOXES * (1 - elementwise_giou(found, true)).mean()

    def _view(self, picture: str, is_mirrored: bool) -> View:
        key = picture, is_mirrored
        if key not in self.views:
            if len(self.views) == MOST_VIEWS:
                self.views.pop(next(iter(self.views)))  # the oldest
            self.views[key] = view_photo(self.model, self.processor, picture, mirrored=is_mirrored).half()
        return self.views[key]

    def _ask(self, view: View, prompt: Prompt) -> tuple[GlipOutput, Tensor]:
        """The network's answer, and of each token its phrase `(L,)`; the number of phrases for tokens of none."""
        tokens = tokenize_prompts([prompt], self.processor.tokenizer, truncate=True)
        with torch.no_grad():
            words = self.model.encode_words(tokens.input_ids, tokens.attention_mask)
        output = self.model.align(
            [level.float() for level in view.levels],
            tokens.input_ids,
            tokens.attention_mask,
            image_sizes=torch.tensor([view.size]),
            words=words,
        )
        (token_map,) = tokens.token_maps
        owned, owner = token_map.max(dim=0)
        return output, torch.where(owned, owner, len(prompt.phrases))

    def learning(self, words: float = 0.0) -> dict[float, list[nn.Parameter]]:
        """What learns, by its learning rate; everything else is frozen.

        Args:
            words: multiplies the rates of everything that only words go through: text layers, norms, projection and
                biases; 0 leaves it as it is.
        """
        for weight in self.model.parameters():
            weight.requires_grad_(False)
        head = self.model.head
        learning: dict[float, list[nn.Parameter]] = {BOX_RATE: [*head.box.parameters()]}
        for block in (block for block in self.model.blocks if isinstance(block, GlipBlock)):
            for name, weight in block.named_parameters():
                if name.startswith(("text_layer", "fusion.word_norm")):
                    rate = words * WORDS_RATE
                else:
                    rate = SCALES_RATE if name.endswith("_scale") else BLOCKS_RATE
                learning.setdefault(rate, []).append(weight)
        learning.setdefault(words * LAST_RATE, []).extend(
            [*head.word_projection.parameters(), head.word_bias, head.bias]
        )
        learning.pop(0.0, None)
        for weight in (weight for weights in learning.values() for weight in weights):
            weight.requires_grad_(True)
        return learning

    def train(self, steps: int, *, photos: int, boxed: int, words: float = 0.0) -> None:
        """Gradient steps on so many photos and pictures with true boxes each; `words` as `learning` takes it."""
        learning = self.learning(words)
        optimizer = torch.optim.AdamW([{"params": weights} for weights in learning.values()], weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, list(learning), total_steps=steps, pct_start=WARM_SHARE
        )
        means: dict[str, float] = {}
        for step in range(steps):
            optimizer.zero_grad()
            for kind, count in (("photos", photos), ("boxed", boxed)):
                if not count:
                    continue
                loss = torch.stack([self._some(kind) for _ in range(count)]).mean()
                loss.backward()
                means[kind] = SMOOTH * means.get(kind, loss.item()) + (1 - SMOOTH) * loss.item()
            torch.nn.utils.clip_grad_norm_([weight for weights in learning.values() for weight in weights], 5.0)
            optimizer.step()
            schedule.step()
            if step % REPORT_EVERY == 0 or step == steps - 1:
                said = ", ".join(f"{kind} {mean:.3f}" for kind, mean in means.items())
                sys.stdout.write(f"pictures: step {step}, {said}\n")
                sys.stdout.flush()

    def _some(self, kind: str) -> Tensor:
        if kind == "photos":
            return self.photo_loss(self.draw.choice(self.photos))
        return self.boxes_loss(self.draw.choice(self.draw.choice(self.boxed)))


def merge_boxes(example: Example, named: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
    """The named things of a picture: one that has several names counts once.

    Args:
        example: the picture.
        named: of each of its objects the phrase, -1 for none.
        owners: `(L,)` of each token the phrase; the number of phrases for tokens of none.

    Returns:
        boxes `(N, 4)` xyxy pixels of the picture, and which tokens name each, `(N, L)` bool.
    """
    boxes = torch.tensor([thing.box for thing in example.objects]).reshape(-1, 4)[named >= 0]
    tokens_of_each = named[named >= 0, None] == owners
    distinct, rows = torch.unique(boxes, dim=0, return_inverse=True)
    token_map = torch.zeros(len(distinct), len(owners), dtype=torch.bool)
    for row, tokens in zip(rows.tolist(), tokens_of_each, strict=True):
        token_map[row] |= tokens
    return distinct, token_map


def alignment_loss(output: GlipOutput, truth: Tensor) -> Tensor:
    """Quality focal loss (Generalized Focal Loss, equation 4), a small thing's words counting as much as a large one's.

    Args:
        output: of one picture.
        truth: what its tokens should say, `(L, N)` in `[0, 1]`.

    Returns:
        The mean over tokens of each one's sum over positions, divided by its truth's sum, or 1 if that is less.
    """
    logits = output.alignment_logits[0].T  # (L, N)
    error = (logits.sigmoid() - truth).abs()
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return ((error * entropy).sum(dim=1) / truth.sum(dim=1).clamp(min=1)).mean()
