"""`glip caption` and `glip answer`: what heads of GLIPv2 have to say of pictures."""

from typing import TYPE_CHECKING, Annotated

import typer

from glip.cli.options import Device, DrawnPicture, JsonFile, Overwrite, Pictures

if TYPE_CHECKING:
    from PIL import Image

    from glip.answering import Answer

HeadedModel = Annotated[
    str,
    typer.Option(
        "--model", help="A folder of a model with the head, such as runs/heads/model.", show_default="glip-nano"
    ),
]


def caption(
    images: Pictures,
    beams: Annotated[int, typer.Option(min=1, help="Sentences kept in mind at a time; more is slower.")] = 4,
    json: JsonFile = None,
    model: HeadedModel = "glip-nano",
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Say in a sentence what each picture shows.

    Example: glip caption photo.jpg --model runs/heads/model
    """
    from glip.cli.grounding import Job, Report, Sinks

    sentences: Report[str] = Report(lines=lambda text: [text], record=lambda text: {"caption": text})
    Job(images, Sinks(None, json, overwrite=overwrite), model=model, device=device).run(
        lambda predictor, image: predictor.caption(image, beams=beams), sentences
    )


def answer(
    images: Pictures,
    question: Annotated[str, typer.Argument(help="What you want to know of the pictures.", show_default=False)],
    top: Annotated[int, typer.Option(min=1, help="Answers that are shown.")] = 1,
    output: DrawnPicture = None,
    json: JsonFile = None,
    model: HeadedModel = "glip-nano",
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Answer a question about each picture, and show what the answer speaks of.

    Example: glip answer photo.jpg "what colour is the cup?" --model runs/heads/model
    """
    from glip.cli.grounding import Job, Report, Sinks

    answers: Report[list[Answer]] = Report(
        lines=_lines, record=lambda found: [one.to_dict() for one in found], draw=_draw
    )
    Job(images, Sinks(output, json, overwrite=overwrite), model=model, device=device).run(
        lambda predictor, image: predictor.answer(image, question, top_k=top), answers
    )


def _lines(found: "list[Answer]") -> list[str]:
    """One for each answer: the answer, its score, and the corners of its box where it has one."""
    from glip.cli.grounding import corners_of

    return [f"{one.text}\t{one.score:.2f}" + ("" if one.box is None else f"\t{corners_of(one.box)}") for one in found]


def _draw(found: "list[Answer]", picture: "Image.Image") -> "Image.Image":
    from glip.structures.drawing import draw_boxes

    placed = [(one.box, f"{one.text} {one.score:.2f}") for one in found if one.box is not None]
    boxes, captions = [box for box, _ in placed], [text for _, text in placed]
    return draw_boxes(picture, boxes, captions, range(len(placed)))
