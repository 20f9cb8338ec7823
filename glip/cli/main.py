"""The `glip` command: what it takes and what it says. The work is in `glip.cli.grounding`."""

import sys
from typing import Annotated, Any

import typer

from glip.cli import classify, data, diagnose, evaluate, heads, pseudo_label, train
from glip.cli.options import (
    CalibratorFile,
    Device,
    DrawnPicture,
    JsonFile,
    ModelName,
    Overwrite,
    Pictures,
    ThresholdText,
)
from glip.cli.startup import collect_seldom
from glip.errors import GlipError

UsageError: Any = typer.BadParameter.__base__  # of the click that typer brings along
TRAIN_MODULES = ("accelerate", "albumentations", "peft", "pycocotools", "pydantic", "scipy", "yaml")  # of extra train
EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="glip",
    help="Find what words name in pictures. Start with: glip detect photo.jpg --labels 'cat, remote control'",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

evaluate.app.command()(diagnose.calibration)
evaluate.app.command()(diagnose.report)
evaluate.app.command()(classify.zeroshot)
evaluate.app.command()(classify.retrieval)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(data.app, name="data")
app.command()(classify.classify)
app.command()(heads.caption)
app.command()(heads.answer)
app.command()(train.train)
app.command()(pseudo_label.pseudo_label)


@app.command()
def detect(
    images: Pictures,
    labels: Annotated[
        str, typer.Option("--labels", "-l", help="Class names, separated by commas: 'cat, remote control'.")
    ],
    threshold: ThresholdText = None,
    masks: Annotated[
        bool, typer.Option("--masks", help="Say which pixels are each thing's; needs a model with a mask head.")
    ] = False,
    output: DrawnPicture = None,
    json: JsonFile = None,
    model: ModelName = "glip-nano",
    device: Device = "cpu",
    calibrator: CalibratorFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Find every instance of the classes you name.

    Example: glip detect street.jpg --labels "car, traffic light, person" --output found.png
    """
    from glip.cli.grounding import BOXES, Job, Sinks, parse_labels, parse_threshold

    names = parse_labels(labels)
    limit = parse_threshold(threshold)
    Job(images, Sinks(output, json, overwrite=overwrite), model=model, device=device, calibrator=calibrator).run(
        lambda predictor, image: (predictor.segment if masks else predictor.detect)(image, names, threshold=limit),
        BOXES,
    )


@app.command()
def ground(
    images: Pictures,
    caption: Annotated[str, typer.Argument(help="A sentence about the pictures.", show_default=False)],
    phrases: Annotated[
        str | None,
        typer.Option(
            "--phrases", help="Parts of the sentence to find, separated by commas; its noun phrases if left out."
        ),
    ] = None,
    threshold: ThresholdText = None,
    output: DrawnPicture = None,
    json: JsonFile = None,
    model: ModelName = "glip-nano",
    device: Device = "cpu",
    calibrator: CalibratorFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Find what the phrases of a sentence name.

    Example: glip ground sofa.jpg "a cat next to two remotes" --output found.png
    """
    from glip.cli.grounding import BOXES, Job, Sinks, parse_labels, parse_threshold

    wanted = None if phrases is None else parse_labels(phrases)
    limit = parse_threshold(threshold)
    Job(images, Sinks(output, json, overwrite=overwrite), model=model, device=device, calibrator=calibrator).run(
        lambda predictor, image: predictor.ground(image, caption, wanted, threshold=limit), BOXES
    )


@app.command()
def refer(
    images: Pictures,
    expression: Annotated[str, typer.Argument(help="Words that describe one thing.", show_default=False)],
    output: DrawnPicture = None,
    json: JsonFile = None,
    model: ModelName = "glip-nano",
    device: Device = "cpu",
    calibrator: CalibratorFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Find the one thing that an expression describes.

    Example: glip refer sofa.jpg "the cat on the left" --output found.png
    """
    from glip.cli.grounding import BOXES, Job, Sinks

    Job(images, Sinks(output, json, overwrite=overwrite), model=model, device=device, calibrator=calibrator).run(
        lambda predictor, image: predictor.refer(image, expression), BOXES
    )


def main() -> None:
    """Run the command; every expected error is one sentence on stderr and exit code 1."""
    collect_seldom()
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        if code == EXIT_INTERRUPTED:  # typer's own answer to Ctrl-C
            raise KeyboardInterrupt
        sys.exit(code or 0 if sys.argv[1:] else EXIT_USAGE)
    except UsageError as error:
        where = error.ctx.command_path if error.ctx is not None else "glip"
        sys.stderr.write(f"error: {error.format_message()} See '{where} --help'.\n")
        sys.exit(EXIT_USAGE)
    except GlipError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(EXIT_ERROR)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in TRAIN_MODULES:
            raise
        sys.stderr.write(f"error: this needs {error.name}: pip install 'glip-for-everyone[train]'\n")
        sys.exit(EXIT_ERROR)
    except OSError as error:
        sys.stderr.write(f"error: {error.filename or 'a file'}: {error.strerror or error}; nothing else was changed\n")
        sys.exit(EXIT_ERROR)
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("interrupted; what was written so far is whole\n")
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
