"""Write photos that have a label each as a folder for each name, which sources of `kind: classes` read.

    python tools/make_clip_data.py --photos ../shared/data --output runs/clip_data
    python tools/make_clip_data.py --photos ../shared/data --held-out configs/words/held_out_caltech.yaml \
        --output runs/clip_data_held_out

OUTPUT/SET/NAME/*.jpg are links to the train photos of each set, and OUTPUT/pairs.csv says "a photo of a NAME" of each,
which `glip pseudo-label` reads. Dev photos are for tools/evaluate_clip.py alone.
"""

import argparse
import csv
import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glip.data.captions import with_article
from glip.data.class_folders import LabelledPictures
from glip.errors import DataError, FileError

SETS = ("caltech101_nobox", "imagenet_samples_nobox")


def read_labelled(path: Path) -> LabelledPictures:
    """The photos of a COCO-like file whose images have an `image_label`; names are sorted.

    Raises:
        FileError: there is no such file.
        DataError: a photo has no label.
    """
    if not path.is_file():
        raise FileError(f"{path}: no such file")
    records = json.loads(path.read_text(encoding="utf-8"))["images"]
    for record in records:
        if not record.get("image_label"):
            raise DataError(f"{path}: {record['file_name']} has no image_label")
    names = tuple(sorted({record["image_label"] for record in records}))
    return LabelledPictures(
        images=tuple(path.parent / record["file_name"] for record in records),
        labels=tuple(names.index(record["image_label"]) for record in records),
        names=names,
    )


def read_held_out(path: Path, key: str) -> tuple[str, ...]:
    """One of the lists of a file of held-out words (configs/words/held_out_caltech.yaml)."""
    return tuple(yaml.safe_load(path.read_text(encoding="utf-8"))[key])


def link_photos(pictures: LabelledPictures, folder: Path, *, without: Collection[str] = ()) -> list[tuple[Path, str]]:
    """Make a folder for each name, with links to its photos; each link and its name.

    Args:
        pictures: photos and names.
        folder: a new folder.
        without: names that get no folder.
    """
    folder.mkdir(parents=True)
    links = []
    for image, label in zip(pictures.images, pictures.labels, strict=True):
        name = pictures.names[label]
        if name not in without:
            own = folder / name.replace("/", " ")
            own.mkdir(exist_ok=True)
            (own / image.name).symlink_to(image.resolve())
            links.append((own / image.name, name))
    return links


def write_pairs(links: Sequence[tuple[Path, str]], table: Path) -> None:
    """Write a table of paths, relative to its own folder, and captions."""
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "caption"))
        rows.writerows((link.relative_to(table.parent), f"a photo of {with_article(name)}") for link, name in links)


def main() -> None:
    """Link the train photos of both sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder that has the two sets")
    parser.add_argument("--held-out", type=Path, help="YAML whose `names` and `same` are left out")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    arguments = parser.parse_args()
    if arguments.output.exists():
        raise FileError(f"{arguments.output}: exists already; give a new folder")
    without: set[str] = set()
    if arguments.held_out is not None:
        without = {*read_held_out(arguments.held_out, "names"), *read_held_out(arguments.held_out, "same")}
    links: list[tuple[Path, str]] = []
    for name in SETS:
        pictures = read_labelled(arguments.photos / name / "train.json")
        found = link_photos(pictures, arguments.output / name, without=without)
        links += found
        sys.stdout.write(f"{name}: {len(found)} photos\n")
    write_pairs(links, arguments.output / "pairs.csv")


if __name__ == "__main__":
    main()
