"""`glip pseudo-label`: pictures with captions become training data, by a teacher's boxes."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glip.cli.options import BatchSize, Device, Images, Overwrite

if TYPE_CHECKING:
    from glip.annotations import Record

Pairs = Annotated[
    Path,
    typer.Argument(
        help="Pictures and captions: a folder (a.jpg beside a.txt), a table (.csv, .tsv) of paths and captions, a TSV "
        "data set (.yaml), or a grounding file (.json, .jsonl).",
        show_default=False,
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        help="What is written: NAME.jsonl (ODVG), NAME.json (MDETR), or NAME.yaml (TSV).",
        show_default=False,
    ),
]


class ParserName(StrEnum):
    """Who finds noun phrases."""

    rules = "rules"
    spacy = "spacy"


class TsvForm(StrEnum):
    """Form of a TSV data set's labels."""

    v1 = "v1"
    v2 = "v2"


def pseudo_label(
    pairs: Pairs,
    output: Output,
    images: Images = None,
    teacher: Annotated[
        str, typer.Option(help="glip-nano, a save_pretrained folder, or an official .pth file.")
    ] = "glip-nano",
    confidence: Annotated[float, typer.Option(help="Lowest score of a box that is kept, 0 to 1.")] = 0.5,
    nms: Annotated[
        float, typer.Option(help="A box goes if its IoU with a better one of its phrase is above this.")
    ] = 0.5,
    rivals: Annotated[
        float,
        typer.Option(help="A box goes if its IoU with a better one of another phrase is above this; 1 for never."),
    ] = 1.0,
    max_boxes: Annotated[int, typer.Option(help="Most boxes of a phrase.")] = 20,
    parser: Annotated[ParserName, typer.Option(help="Who finds noun phrases.")] = ParserName.rules,
    shard: Annotated[str, typer.Option(help="Which share of the pairs, as in 2/4; its files are named so.")] = "1/1",
    batch_size: BatchSize = 1,
    tsv_version: Annotated[TsvForm, typer.Option(help="Form of a TSV data set's labels.")] = TsvForm.v2,
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Let a model find the noun phrases of captions, and keep what it is sure of as training data.

    An interrupted run goes on when the same command is given again.

    Example: glip pseudo-label photos -o pseudo.jsonl --teacher runs/mine/model --confidence 0.4
    """
    from glip.cli.grounding import load_predictor
    from glip.data.pairs import read_pairs
    from glip.engine.pseudo_label_run import PseudoLabelOptions, Shard, check_output
    from glip.engine.pseudo_label_run import pseudo_label as run
    from glip.engine.pseudo_labels import PseudoLabelRule
    from glip.engine.teachers import PredictorTeacher

    share = Shard.parse(shard)
    options = PseudoLabelOptions(
        rule=PseudoLabelRule(
            confidence=confidence, nms_threshold=nms, rival_threshold=rivals, max_boxes=max_boxes, parser=parser.value
        ),
        shard=share,
        batch_size=batch_size,
        tsv_version=tsv_version.value,
        overwrite=overwrite,
    )
    found = read_pairs(pairs, images=images)
    target = share.name(output)
    check_output(target, found, overwrite=overwrite)
    predictor = load_predictor(teacher, device, batch_size=batch_size)
    say(target, run(found, PredictorTeacher(predictor, teacher), target, options))


def say(output: Path, report: "Record") -> None:
    """What was kept, a line each."""
    for name in ("pairs", "phrases", "boxes"):
        print(f"{name}\t{report[name]['kept']} of {report[name]['all']} kept")
        for reason, count in report[name]["dropped"].items():
            print(f"  {reason}\t{count}")
    if not report["pairs"]["kept"]:
        print("nothing was kept; a lower --confidence keeps less certain boxes")
    print(f"written\t{output}, with {output.stem}.report.json, .kept.jpg and .dropped.jpg beside it")
