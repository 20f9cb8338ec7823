"""Pseudo-label pictures with captions by a plain detector, NanoDet-g; `glip pseudo-label` does it by a grounding model.

    python tools/pseudo_label.py PAIRS --nanodet NANODET.json --names COCO.json --output runs/pseudo.jsonl

A phrase means the classes whose name, or other word (--words), it ends in. An interrupted run goes on when the same
command is given again. Another detector needs other lines in `make_teacher`: a callable of a picture that returns boxes
and scores.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glip.annotations import category_names, read_object
from glip.cli.pseudo_label import say
from glip.data.pairs import read_pairs
from glip.engine.pseudo_label_run import PseudoLabelOptions, Shard, check_output, pseudo_label
from glip.engine.pseudo_labels import PseudoLabelRule
from glip.engine.teachers import DetectorTeacher
from glip.errors import GlipError
from tools.make_nano_data import Teacher as NanoDet


def make_teacher(weights: Path, names: Path, words: Path) -> DetectorTeacher:
    """NanoDet-g with the class names of a COCO file and other words for them."""
    content = yaml.safe_load(words.read_text(encoding="utf-8"))
    others: dict[str, list[str]] = defaultdict(list)
    for name, same in content["same"].items():
        others[name] += same
    for wide, classes in content["wider"].items():
        for name in classes:
            others[name].append(wide)
    named = category_names(names, read_object(names))
    classes = [named[key] for key in sorted(named)]
    known = {name: others[name] for name in classes}  # the table has words for other data sets' classes, too
    return DetectorTeacher(NanoDet(weights), classes, words=known, name=weights.name)


def main() -> None:
    """Read the pairs, run, say what was kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, help="as 'glip pseudo-label' takes them")
    parser.add_argument("--images", type=Path, help="folder of the pictures; the pairs' own if left out")
    parser.add_argument("--nanodet", type=Path, required=True, help="nanodet.json, with nanodet.bin beside it")
    parser.add_argument("--names", type=Path, required=True, help="a COCO file with all 80 categories")
    parser.add_argument("--words", type=Path, default=Path("configs/words/coco.yaml"), help="other names of classes")
    parser.add_argument("--output", type=Path, required=True, help="NAME.jsonl, NAME.json or NAME.yaml")
    parser.add_argument("--confidence", type=float, default=0.4, help="lowest score of a box that is kept")
    parser.add_argument("--shard", default="1/1", help="which share of the pairs, as in 2/4")
    parser.add_argument("--overwrite", action="store_true", help="replace finished files")
    arguments = parser.parse_args()
    shard = Shard.parse(arguments.shard)
    options = PseudoLabelOptions(
        rule=PseudoLabelRule(confidence=arguments.confidence), shard=shard, overwrite=arguments.overwrite
    )
    pairs = read_pairs(arguments.pairs, images=arguments.images)
    output = shard.name(arguments.output)
    check_output(output, pairs, overwrite=arguments.overwrite)
    teacher = make_teacher(arguments.nanodet, arguments.names, arguments.words)
    say(output, pseudo_label(pairs, teacher, output, options))


if __name__ == "__main__":
    try:
        main()
    except GlipError as error:
        sys.exit(f"error: {error}")
