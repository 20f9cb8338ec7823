"""Teach the blocks of glip-nano's start to look around: dense teachers on photos, true boxes in composed scenes.

    python tools/teach_nano.py START --nanodet NANODET.json --minilm MINILM --data PHOTOS --boxed FILE ... \
        --labels configs/labels/photos.jsonl --output NEW

START is what tools/start_nano.py made; files of boxes are what tools/make_nano_data.py wrote. They are drawn from
evenly; the captions of photos that were labelled by eye (tools/nano_labels.py) count as two files, the lists of what is
in them as one. The backbone stays as it is, and the words do where --word-rates is 0 (tools/nano_pictures.py).
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from glip.data.readers import read_any
from glip.data.usual_places import UsualPlaces
from glip.errors import FileError, GlipError
from glip.models.glip import GlipModel
from glip.processing import GlipProcessor
from glip.weights.nanodet import read_nanodet
from tools.nano_labels import read_labels
from tools.nano_parts import BeyondCoco
from tools.nano_phrases import coco_classes, read_phrases
from tools.nano_pictures import PictureTeacher
from tools.start_nano import add_materials, training_photos


def main() -> None:
    """Read, teach, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", type=Path, help="folder of a model that tools/start_nano.py made")
    add_materials(parser)
    parser.add_argument("--boxed", type=Path, nargs="+", default=[], help="files with true boxes, of any format")
    parser.add_argument(
        "--labels", type=Path, help="photos labelled by eye: their captions count as two files, as lists one"
    )
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--photos-a-step", type=int, default=3)
    parser.add_argument("--boxed-a-step", type=int, default=1, help="pictures with true boxes")
    parser.add_argument(
        "--word-rates", type=float, default=0.0, help="multiplies the words' learning rates; 0 keeps them"
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    arguments = parser.parse_args()
    if arguments.output.exists():
        raise FileError(f"{arguments.output}: exists already; give a new folder")
    labelled = read_labels(arguments.labels, arguments.data) if arguments.labels else []
    torch.manual_seed(arguments.seed)
    model, processor = GlipModel.from_pretrained(arguments.start), GlipProcessor.from_pretrained(arguments.start)
    _, outputs = read_nanodet(arguments.nanodet)
    beyond = BeyondCoco(coco_classes(arguments.data), arguments.beyond, UsualPlaces.load(arguments.places))
    phrases = read_phrases(arguments.data, arguments.words, arguments.minilm, beyond=beyond.shares())
    boxed = [read_any(file) for file in arguments.boxed]
    if labelled:
        captions = [example for photo in labelled for example in photo.captioned()]
        boxed += [captions, captions, [photo.listed() for photo in labelled]]
    teacher = PictureTeacher(
        model, processor, outputs[0], phrases, beyond, training_photos(arguments.data), boxed, seed=arguments.seed
    )
    boxed_a_step = arguments.boxed_a_step if boxed else 0
    teacher.train(arguments.steps, photos=arguments.photos_a_step, boxed=boxed_a_step, words=arguments.word_rates)
    model.save_pretrained(arguments.output)
    processor.save_pretrained(arguments.output)


if __name__ == "__main__":
    try:
        main()
    except GlipError as error:
        sys.exit(f"error: {error}")
