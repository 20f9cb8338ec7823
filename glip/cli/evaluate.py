"""`glip evaluate`: score a predictions file by a benchmark's protocol, named in the output."""

import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from glip.errors import ConfigError, DataError, FileError

Result = TypeVar("Result")

app = typer.Typer(help="Score predictions by a benchmark's protocol.", no_args_is_help=True, rich_markup_mode=None)

Annotations = Annotated[Path, typer.Option(help="The benchmark's annotation file.")]
Predictions = Annotated[Path, typer.Option(help="JSON list of records with image_id, boxes (xyxy pixels), scores, ...")]
Output = Annotated[Path | None, typer.Option(help='Write {"metrics": ..., "settings": ...} here as JSON.')]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]


class LvisProtocol(StrEnum):
    """Which detections LVIS counts."""

    fixed = "fixed"
    standard = "standard"


class FlickrProtocol(StrEnum):
    """Which boxes of an entity must be met."""

    any_box = "any-box"
    merged_box = "merged-box"


@app.command()
def coco(
    annotations: Annotations,
    predictions: Predictions,
    plus_one: Annotated[
        bool, typer.Option("--plus-one", help="Sides count a pixel more, as in GLIP's numbers.")
    ] = False,
    output: Output = None,
    overwrite: Overwrite = False,
) -> None:
    """COCO's average precision; labels count from 1 in the order of the file's categories."""
    from glip.evaluation.coco import coco_metrics, coco_results

    truth = read_json(annotations, dict)
    found = read_json(predictions, list)
    settings = {"benchmark": "coco", "plus_one": plus_one, **named(annotations, predictions)}
    report(
        scored(lambda: coco_metrics(truth, coco_results(truth, found, plus_one=plus_one))), settings, output, overwrite
    )


@app.command()
def lvis(
    annotations: Annotations,
    predictions: Predictions,
    protocol: Annotated[LvisProtocol, typer.Option(help="fixed: 10,000 a category; standard: 300 an image.")],
    output: Output = None,
    overwrite: Overwrite = False,
) -> None:
    """LVIS average precision; labels are category ids."""
    from glip.evaluation.lvis import score_lvis

    truth = read_json(annotations, dict)
    found = read_json(predictions, list)
    settings = {"benchmark": "lvis", "protocol": protocol.value, **named(annotations, predictions)}
    report(scored(lambda: score_lvis(truth, found, protocol=protocol.value).metrics), settings, output, overwrite)


@app.command()
def flickr30k(
    root: Annotated[Path, typer.Option(help="Folder of Flickr30k Entities: SPLIT.txt, Annotations, Sentences.")],
    split: Annotated[str, typer.Option(help="val or test.")],
    predictions: Predictions,
    protocol: Annotated[FlickrProtocol, typer.Option(help="any-box (GLIP's numbers) or merged-box.")],
    output: Output = None,
    overwrite: Overwrite = False,
) -> None:
    """Recall@1, 5, 10 of phrases, and the upper bound, in all and by phrase type."""
    from glip.evaluation.flickr30k import read_entities, score_flickr30k

    truth = read_entities(root, split)
    found = read_json(predictions, list)
    settings = {"benchmark": "flickr30k", "split": split, "protocol": protocol.value, **named(root, predictions)}
    result = scored(lambda: score_flickr30k(truth, found, protocol=protocol.value))
    report({**result.recall, "hits": result.hits, "totals": result.totals}, settings, output, overwrite)


@app.command()
def refcoco(
    annotations: Annotations,
    predictions: Predictions,
    giou: Annotated[bool, typer.Option("--giou", help="Threshold the generalised IoU, as MDETR's code does.")] = False,
    output: Output = None,
    overwrite: Overwrite = False,
) -> None:
    """Precision@1, 5, 10 of referring expressions."""
    from glip.evaluation.refcoco import score_refcoco

    truth = read_json(annotations, dict)
    found = read_json(predictions, list)
    overlap: Any = "giou" if giou else "iou"
    settings = {"benchmark": "refcoco", "overlap": overlap, **named(annotations, predictions)}
    result = scored(lambda: score_refcoco(truth, found, overlap=overlap))
    shares = {rank.replace("recall", "precision"): by_kind["all"] for rank, by_kind in result.recall.items()}
    report({**shares, "hits": result.hits, "totals": result.totals}, settings, output, overwrite)


def scored(score: Callable[[], Result]) -> Result:
    """The result of a score; a record without a field becomes a sentence."""
    try:
        return score()
    except KeyError as error:
        raise DataError(f"a record lacks the field {error.args[0]!r}; see glip evaluate COMMAND --help") from error
    except (TypeError, ValueError, IndexError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"a record is not of the expected form ({error})") from error


def read_json(path: Path, kind: type) -> Any:
    """Content of a JSON file that must be a list or an object."""
    if not path.is_file():
        raise FileError(f"{path}: no such file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON; is the file cut short?") from error
    if not isinstance(content, kind):
        raise DataError(f"{path}: expected a JSON {kind.__name__}, got a {type(content).__name__}")
    return content


def named(truth: Path, predictions: Path) -> dict[str, str]:
    """Where the numbers come from, and by which version."""
    from glip import __version__

    return {"annotations": str(truth), "predictions": str(predictions), "glip": __version__}


def report(metrics: Mapping[str, Any], settings: Mapping[str, Any], output: Path | None, overwrite: bool) -> None:
    """Print the numbers; write them with their settings if asked for."""
    if output is not None and output.exists() and not overwrite:
        raise FileError(f"{output}: exists already; choose another name or add --overwrite")
    for name, value in metrics.items():
        if isinstance(value, float):
            print(f"{name}\t{100 * value:.2f}")
        elif "all" in value and name not in ("hits", "totals"):
            print(f"{name}\t{100 * value['all']:.2f}")
    if output is not None:
        if not output.parent.is_dir():
            raise ConfigError(f"--output {output}: there is no folder {output.parent}; make it first")
        output.write_text(json.dumps({"metrics": metrics, "settings": settings}, indent=1) + "\n", encoding="utf-8")
