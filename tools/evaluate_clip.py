"""How often a `ClipModel` names dev photos of caltech101 rightly, among all 100 names of the set.

    python tools/evaluate_clip.py --photos ../shared/data --model runs/clip_caltech/model
    python tools/evaluate_clip.py --photos ../shared/data --model runs/clip_caltech_held_out/model \
        --held-out configs/words/held_out_caltech.yaml

Prints top-1 and top-5 for the bare names, one template and seven; with --held-out, those of the held-out names' photos
alone, among these names and among all.
"""

import argparse
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glip.data.class_folders import LabelledPictures
from glip.engine.clip_evaluation import zero_shot_accuracy
from glip.zero_shot import ZeroShotClassifier
from tools.make_clip_data import SETS, read_held_out, read_labelled

TEMPLATES = (0, 1, 7)


def among(pictures: LabelledPictures, names: Sequence[str], only: Collection[str] | None = None) -> LabelledPictures:
    """The same photos with other names to choose from.

    Args:
        pictures: photos and their names.
        names: what a photo can be called; must hold the names of all photos that are kept.
        only: names whose photos are kept; None for all.
    """
    places = {name: place for place, name in enumerate(names)}
    kept = [
        (image, places[pictures.names[label]])
        for image, label in zip(pictures.images, pictures.labels, strict=True)
        if only is None or pictures.names[label] in only
    ]
    return LabelledPictures(tuple(image for image, _ in kept), tuple(label for _, label in kept), tuple(names))


def questions(dev: LabelledPictures, names: Sequence[str], held_out: Sequence[str]) -> Iterator[LabelledPictures]:
    """What is asked: all photos, or those of the held-out names, among these names and among all."""
    if held_out:
        yield among(dev, held_out, held_out)
    yield among(dev, names, held_out or None)


def main() -> None:
    """Ask, and print a line for each question and set of templates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder that has caltech101_nobox")
    parser.add_argument("--model", required=True, help="folder of a trained ClipModel")
    parser.add_argument("--held-out", type=Path, help="YAML whose `names` were not trained on")
    arguments = parser.parse_args()
    folder = arguments.photos / SETS[0]
    names = read_labelled(folder / "train.json").names
    held_out = read_held_out(arguments.held_out, "names") if arguments.held_out is not None else ()
    classifier = ZeroShotClassifier.from_pretrained(arguments.model)
    for pictures in questions(read_labelled(folder / "dev.json"), names, held_out):
        for templates in TEMPLATES:
            found = zero_shot_accuracy(classifier, pictures, templates)
            sys.stdout.write(
                f"{found['pictures']} photos among {found['classes']} names, {templates} templates: "
                f"top-1 {100 * found['top1']:.1f} %, top-5 {100 * found['top5']:.1f} % "
                f"(chance {100 / found['classes']:.1f} %)\n"
            )


if __name__ == "__main__":
    main()
