"""`glip data`: look at a data set before a long run."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glip.cli.options import Images, Overwrite
from glip.errors import ConfigError, DataError, GlipError
from glip.files import check_picture, check_target

if TYPE_CHECKING:
    from glip.data.examples import Example

MAX_NAMED = 10  # problems that are printed in full
app = typer.Typer(help="Look at a data set before a long run.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def commands() -> None:
    """Keep `check` a command of its own while it is the only one."""


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="COCO detection JSON, MDETR grounding JSON, or ODVG (.jsonl).")],
    images: Images = None,
    kind: Annotated[
        str | None, typer.Option(help="The source's kind, where the file does not tell: flickr30k or odinw.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Which part, of flickr30k and odinw; train if left out.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Draw some pictures with their boxes here.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Read every record and picture, say what is there, and what is wrong.

    Example: glip data check train.json --images photos --sheet sheet.jpg
    """
    from glip.data.contact_sheet import draw_contact_sheet
    from glip.data.readers import read_any

    if sheet is not None:
        check_picture(sheet, option="--sheet")
        check_target(sheet, overwrite=overwrite)
    examples = read_any(file, images=images) if kind is None else _of_kind(file, images, kind, split)
    if not examples:
        raise DataError(f"{file}: no pictures in it")
    _describe(examples)
    problems = [problem for example in examples if (problem := _problem(example)) is not None]
    if sheet is not None:
        draw_contact_sheet(examples).save(sheet)
    for problem in problems[:MAX_NAMED]:
        print(f"problem: {problem}")
    if problems:
        raise DataError(f"{file}: {len(problems)} of {len(examples)} pictures have a problem; see above")
    print("no problem found")


def _of_kind(file: Path, images: Path | None, kind: str, split: str | None) -> "list[Example]":
    from pydantic import ValidationError

    from glip.engine.config import SourceConfig
    from glip.engine.sources import READERS

    try:
        source = SourceConfig.model_validate({"annotations": file, "images": images, "kind": kind, "split": split})
    except ValidationError as error:
        raise ConfigError(f"--kind {kind}: {error.errors()[0]['msg']}") from error
    return READERS[source.kind](source)


def _describe(examples: "list[Example]") -> None:
    names = Counter(thing.name for example in examples for thing in example.objects)
    empty = sum(not example.objects for example in examples)
    print(f"pictures\t{len(examples)}")
    print(f"boxes\t{sum(names.values())}")
    print(f"pictures without a box\t{empty}")
    kind = "captions" if any(example.caption for example in examples) else "classes"
    print(f"{kind}\t{len({e.caption for e in examples}) if kind == 'captions' else len(names)}")
    for name, count in names.most_common(MAX_NAMED):
        print(f"  {name}\t{count}")


def _problem(example: "Example") -> Any:
    """What is wrong with a picture, in a sentence; None if nothing is."""
    try:
        picture = example.read()
    except GlipError as error:
        return error
    height, width = example.size
    if (picture.height, picture.width) != (height, width):
        return f"{example.image}: is {picture.width} x {picture.height}, but the file says {width} x {height}"
    for thing in example.objects:
        x1, y1, x2, y2 = thing.box
        if min(x1, y1) < -1 or x2 > width + 1 or y2 > height + 1:
            return (
                f"{example.image}: the box {[x1, y1, x2, y2]} of {thing.name!r} leaves the picture {width} x {height}"
            )
    return None
