"""`glip classify`, `glip evaluate zeroshot` and `glip evaluate retrieval`: pictures and names or captions, no boxes."""

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glip.cli.evaluate import show
from glip.cli.options import Device, Overwrite, Pictures
from glip.cli.startup import collect_as_usual
from glip.errors import ConfigError
from glip.files import check_target, write_json

if TYPE_CHECKING:
    from glip.zero_shot import ZeroShotClassifier

ClipFolder = Annotated[
    str, typer.Option("--model", help="A folder of a trained ClipModel, such as runs/clip/model.", show_default=False)
]
TemplateText = Annotated[
    str,
    typer.Option(
        "--templates",
        help="Sentences that names stand in: a set by its size (0 for bare names, 1, 7, 80), or a text file with a "
        "sentence a line, each with one {}.",
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Pictures that go through the network together.")]
NumbersFile = Annotated[
    Path | None, typer.Option("--output", help='Write {"metrics": ..., "settings": ...} here as JSON.')
]


def classify(
    images: Pictures,
    classes: Annotated[
        str, typer.Option("--classes", "-c", help="Class names, separated by commas: 'cat, remote control'.")
    ],
    model: ClipFolder,
    templates: TemplateText = "7",
    top: Annotated[int, typer.Option(min=1, help="Classes that are shown of each picture.")] = 5,
    json: Annotated[Path | None, typer.Option("--json", help="Write all probabilities here as JSON.")] = None,
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Say which of your classes each picture shows, by their names alone.

    Example: glip classify photo.jpg --classes "cat, dog, bird" --model runs/clip/model
    """
    from glip.cli.grounding import parse_labels
    from glip.images import list_images

    names = parse_labels(classes)
    sentences = parse_templates(templates)
    if json is not None:
        check_target(json, overwrite=overwrite)
    paths = [path for given in images for path in list_images(given)]
    found = load_classifier(model, device, batch_size=1).classify(list(paths), names, sentences)
    for path, one in zip(paths, found, strict=True):
        prefix = f"{path}\t" if len(paths) > 1 else ""
        for name, score in one.top(top):
            print(f"{prefix}{name}\t{score:.2f}")
    if json is not None:
        records = {
            str(path): dict(zip(one.names, one.scores.tolist(), strict=True))
            for path, one in zip(paths, found, strict=True)
        }
        content: dict[str, Any] = records if len(paths) > 1 else next(iter(records.values()))
        json.write_text(json_format.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def zeroshot(
    classes: Annotated[Path, typer.Option("--data", help="A folder with a folder of pictures for each class.")],
    model: ClipFolder,
    templates: TemplateText = "7",
    device: Device = "cpu",
    batch_size: BatchSize = 32,
    output: NumbersFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Top-1 and top-5 accuracy of zero-shot classification; a class's name is its folder's.

    Example: glip evaluate zeroshot --data photos --model runs/clip/model --templates 7
    """
    from glip.data.class_folders import read_class_folders
    from glip.engine.clip_evaluation import zero_shot_accuracy

    if output is not None:
        check_target(output, overwrite=overwrite)
    sentences = parse_templates(templates)
    pictures = read_class_folders(classes)
    metrics = zero_shot_accuracy(load_classifier(model, device, batch_size=batch_size), pictures, sentences)
    settings = {"benchmark": "zeroshot", "data": str(classes), "model": model, "templates": templates}
    _report(metrics, settings, output)


def retrieval(
    pairs: Annotated[Path, typer.Option("--pairs", help="Captions and pictures: a folder, .csv, .tsv, .yaml, .json.")],
    model: ClipFolder,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the pictures; the captions file's own if left out.")
    ] = None,
    device: Device = "cpu",
    batch_size: BatchSize = 32,
    output: NumbersFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Recall@1, 5, 10 of pictures by captions and of captions by pictures. A picture may have several captions.

    Example: glip evaluate retrieval --pairs captions.csv --images photos --model runs/clip/model
    """
    from glip.data.pairs import read_pairs
    from glip.engine import clip_evaluation

    if output is not None:
        check_target(output, overwrite=overwrite)
    asked = read_pairs(pairs, images=images)
    metrics = clip_evaluation.retrieval(load_classifier(model, device, batch_size=batch_size), asked)
    settings = {"benchmark": "retrieval", "pairs": str(pairs), "images": images and str(images), "model": model}
    _report(metrics, settings, output)


def parse_templates(text: str) -> int | list[str]:
    """A set's size, or the sentences of a text file.

    Raises:
        ConfigError: it is neither.
    """
    if text.isdecimal():
        return int(text)
    path = Path(text)
    if not path.is_file():
        raise ConfigError(f"--templates must be 0, 1, 7, 80 or a text file with a sentence a line, got {text!r}")
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def load_classifier(model: str, device: str, *, batch_size: int) -> "ZeroShotClassifier":
    """A model, without transformers' own progress bars and warnings."""
    from transformers.utils import logging

    from glip.zero_shot import ZeroShotClassifier

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    classifier = ZeroShotClassifier.from_pretrained(model, device=device, batch_size=batch_size)
    collect_as_usual()
    return classifier


def _report(metrics: dict[str, float], settings: dict[str, Any], output: Path | None) -> None:
    show({name: value for name, value in metrics.items() if isinstance(value, float)})
    if output is not None:
        write_json(output, {"metrics": metrics, "settings": settings})
