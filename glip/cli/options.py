"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Pictures = Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures.", show_default=False)]
DrawnPicture = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Write the drawn picture here; for several pictures, a folder."),
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write labels, scores and boxes here as JSON.")]
ThresholdText = Annotated[
    str | None,
    typer.Option(
        "--threshold",
        help="Lowest score shown, 0 to 1, or one for each label: 'cat=0.4, dog=0.6'. The model's own if left out.",
        show_default=False,
    ),
]
CalibratorFile = Annotated[
    Path | None,
    typer.Option("--calibrator", help="A file of 'glip evaluate calibration --fit': scores become probabilities."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist; else nothing is written over.")]

ModelName = Annotated[
    str, typer.Option("--model", help="glip-nano, a save_pretrained folder, or an official .pth file.")
]
Device = Annotated[str, typer.Option(help="Where the network runs: cpu, cuda, cuda:1, mps.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Pictures that go through the network together.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that read pictures; 0 for none besides this one.")]

Annotations = Annotated[Path, typer.Option(help="The benchmark's annotation file.")]
Images = Annotated[Path | None, typer.Option(help="Folder of the pictures; the annotation file's own if left out.")]
Predictions = Annotated[
    Path | None,
    typer.Option(
        help="Score this file instead of running a model: a JSON list, or one record a line, with image_id, boxes "
        "(xyxy pixels), scores, ..."
    ),
]
DetectionPredictions = Annotated[
    Path, typer.Option("--predictions", help="Predictions of 'glip evaluate coco' or 'coco-json'.")
]
ResultsFile = Annotated[
    Path | None,
    typer.Option(
        "--output",
        help='Write {"metrics": ..., "settings": ...} here as JSON. Needed to run a model: predictions are kept beside '
        "it, and an interrupted run goes on from there.",
    ),
]
ChunkSize = Annotated[
    int | None,
    typer.Option(min=1, help="Most names in a caption; as many as fit if left out. Published LVIS numbers: 40."),
]
PlusOne = Annotated[bool, typer.Option("--plus-one", help="Sides count a pixel more, as in GLIP's numbers.")]
