"""`glip evaluate`: run a model over a benchmark, or score a predictions file, by a protocol that the output names."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glip.cli.options import (
    Annotations,
    BatchSize,
    ChunkSize,
    Device,
    Images,
    ModelName,
    Overwrite,
    PlusOne,
    Predictions,
    ResultsFile,
    Workers,
)
from glip.errors import ConfigError
from glip.files import check_target, write_json

if TYPE_CHECKING:
    from glip.engine.evaluation import RunOptions
    from glip.evaluation.benchmark import Benchmark

app = typer.Typer(
    help="Run a model over a benchmark, or score a predictions file.", no_args_is_help=True, rich_markup_mode=None
)


class LvisProtocol(StrEnum):
    """Which detections LVIS counts."""

    fixed = "fixed"
    standard = "standard"


class PhraseProtocol(StrEnum):
    """Which boxes of a phrase must be met."""

    any_box = "any-box"
    merged_box = "merged-box"


@dataclass(frozen=True)
class Source:
    """Where predictions come from, and where results go.

    Attributes:
        predictions: a file, or None to run the model.
        model: what `Predictor.from_pretrained` takes.
        device: where the network runs.
        batch_size: pictures that go through it together.
        workers: processes that read pictures.
        output: results file; None for the terminal alone.
        overwrite: whether finished files are replaced.
    """

    predictions: Path | None
    model: str
    device: str
    batch_size: int
    workers: int
    output: Path | None
    overwrite: bool

    def report(self, benchmark: "Benchmark") -> None:
        """Score one benchmark, and print the numbers.

        Raises:
            ConfigError: a model is to be run without an output file.
        """
        from glip.engine.evaluation import evaluate, score_file

        if self.predictions is not None:
            show(score_file(benchmark, self.predictions, self.output, overwrite=self.overwrite)["metrics"])
            return
        if self.output is None:
            raise ConfigError("to run a model give --output FILE.json; or score a file with --predictions FILE")
        check_target(self.output, overwrite=self.overwrite)
        result = evaluate(benchmark, self._predictor(), self.output, self._options())
        if result is not None:
            show(result["metrics"])

    def results(self, benchmarks: "Mapping[str, Benchmark]", folder: Path | None) -> dict[str, dict[str, Any]] | None:
        """Score several benchmarks into one folder; None in all processes but the first of a shared run.

        Args:
            benchmarks: by the name of their results.
            folder: of `NAME.predictions.jsonl` files; None to run the model.
        """
        from glip.engine.evaluation import evaluate_all, score_file

        assert self.output is not None
        if folder is None:
            return evaluate_all(benchmarks, self._predictor(), self.output, self._options())
        self.output.mkdir(exist_ok=True)
        return {
            name: score_file(
                benchmark, folder / f"{name}.predictions.jsonl", self.output / f"{name}.json", overwrite=self.overwrite
            )
            for name, benchmark in benchmarks.items()
        }

    def _options(self) -> "RunOptions":
        from glip.engine.evaluation import RunOptions

        return RunOptions(model=self.model, workers=self.workers, overwrite=self.overwrite)

    def _predictor(self) -> Any:
        from glip.cli.grounding import load_predictor
        from glip.engine.answers import local_device

        return load_predictor(self.model, local_device(self.device), batch_size=self.batch_size)


@app.command()
def coco(
    annotations: Annotations,
    images: Images = None,
    predictions: Predictions = None,
    plus_one: PlusOne = False,
    chunk_size: ChunkSize = None,
    model: ModelName = "glip-nano",
    device: Device = "cpu",
    batch_size: BatchSize = 1,
    workers: Workers = 0,
    output: ResultsFile = None,
    overwrite: Overwrite = False,
) -> None:
    """COCO's average precision; labels count from 1 in the order of the file's categories.

    Example: glip evaluate coco --annotations instances_val2017.json --images val2017 --plus-one --output coco.json
    """
    from glip.evaluation.coco import CocoBenchmark

    Source(predictions, model, device, batch_size, workers, output, overwrite).report(
        CocoBenchmark(annotations=annotations, images=images, plus_one=plus_one, chunk_size=chunk_size)
    )


@app.command()
def coco_json(
    annotations: Annotations,
    images: Images = None,
    predictions: Predictions = None,
    plus_one: PlusOne = False,
    chunk_size: ChunkSize = None,
    model: ModelName = "glip-nano",
    device: Device = "cpu",
    batch_size: BatchSize = 1,
    workers: Workers = 0,
    output: ResultsFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Your own photos with boxes, in COCO's format: COCO's numbers, and AP of each class.

    Example: glip evaluate coco-json --annotations dev.json --images photos --output dev-results.json
    """
    from glip.evaluation.coco import CocoJsonBenchmark

    Source(predictions, model, device, batch_size, workers, output, overwrite).report(
        CocoJsonBenchmark(annotations=annotations, images=images, plus_one=plus_one, chunk_size=chunk_size)
    )


@app.command()
def lvis(
    annotations: Annotations,
    protocol: Annotated[LvisProtocol, typer.Option(help="fixed: 10,000 a category; standard: 300 an image.")],
    images: Images = None,
    predictions: Predictions = None,
    chunk_size: ChunkSize = None,
    model: ModelName = "glip-nano",
    device: Device = "cpu",
    batch_size: BatchSize = 1,
    workers: Workers = 0,
    output: ResultsFile = None,
    overwrite: Overwrite = False,
) -> None:
    """LVIS average precision; labels are category ids.

    Example: glip evaluate lvis --annotations lvis_v1_minival.json --images coco --protocol fixed --output lvis.json
    """
    from glip.evaluation.lvis_benchmark import LvisBenchmark

    Source(predictions, model, device, batch_size, workers, output, overwrite).report(
        LvisBenchmark(annotations=annotations, images=images, protocol=protocol.value, chunk_size=chunk_size)
    )


@app.command()
def flickr30k(
    protocol: Annotated[PhraseProtocol, typer.Option(help="any-box (GLIP's numbers) or merged-box.")],
    root: Annotated[
        Path | None, typer.Option(help="Folder of Flickr30k Entities: SPLIT.txt, Annotations, Sentences.")
    ] = None,
    annotations: Annotated[Path | None, typer.Option(help="MDETR's JSON file of the split, instead of --root.")] = None,
    split: Annotated[str, typer.Option(help="val or test, of --root.")] = "test",
    images: Images = None,
    predictions: Predictions = None,
    model: ModelName = "glip-nano",
    device: Device = "cpu",
    batch_size: BatchSize = 1,
    workers: Workers = 0,
    output: ResultsFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Recall@1, 5, 10 of phrases, and the upper bound, in all and by phrase type.

    Example: glip evaluate flickr30k --root entities --images flickr30k_images --protocol any-box --output flickr.json
    """
    from glip.evaluation.flickr30k import Flickr30kBenchmark

    truth = root or annotations
    if truth is None or (root is not None and annotations is not None):
        raise ConfigError("give the truth once: --root FOLDER of Flickr30k Entities, or --annotations MDETR_FILE.json")
    Source(predictions, model, device, batch_size, workers, output, overwrite).report(
        Flickr30kBenchmark(annotations=truth, images=images, split=split, protocol=protocol.value)
    )


@app.command()
def grounding_json(
    annotations: Annotations,
    images: Images = None,
    protocol: Annotated[PhraseProtocol, typer.Option(help="any-box or merged-box.")] = PhraseProtocol.any_box,
    group_by: Annotated[str | None, typer.Option(help="An annotation field to report by, besides all.")] = None,
    predictions: Predictions = None,
    model: ModelName = "glip-nano",
    device: Device = "cpu",
    batch_size: BatchSize = 1,
    workers: Workers = 0,
    output: ResultsFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Recall@1, 5, 10 of phrases of your own captions, in MDETR's grounding format.

    Example: glip evaluate grounding-json --annotations dev.json --images photos --output dev-results.json
    """
    from glip.evaluation.grounding import GroundingBenchmark

    Source(predictions, model, device, batch_size, workers, output, overwrite).report(
        GroundingBenchmark(annotations=annotations, images=images, protocol=protocol.value, group_by=group_by)
    )


@app.command()
def refcoco(
    annotations: Annotations,
    images: Images = None,
    predictions: Predictions = None,
    giou: Annotated[bool, typer.Option("--giou", help="Threshold the generalised IoU, as MDETR's code does.")] = False,
    model: ModelName = "glip-nano",
    device: Device = "cpu",
    batch_size: BatchSize = 1,
    workers: Workers = 0,
    output: ResultsFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Precision@1, 5, 10 of referring expressions.

    Example: glip evaluate refcoco --annotations finetune_refcoco_val.json --images train2014 --output refcoco.json
    """
    from glip.evaluation.refcoco import RefCocoBenchmark

    overlap: Any = "giou" if giou else "iou"
    Source(predictions, model, device, batch_size, workers, output, overwrite).report(
        RefCocoBenchmark(annotations=annotations, images=images, overlap=overlap)
    )


@app.command()
def odinw(
    tasks: Annotated[list[Path], typer.Option("--task", help="A task file (YAML), or a folder of them; repeatable.")],
    root: Annotated[Path, typer.Option(help="Folder that the paths in the task files start from.")],
    output: Annotated[Path, typer.Option(help="A folder: one results file a task, and summary.json.")],
    split: Annotated[
        str | None, typer.Option(help="Which split; what the task's DATASETS.TEST says if left out.")
    ] = None,
    no_prompts: Annotated[
        bool, typer.Option("--no-prompts", help="Leave out the tasks' CAPTION_PROMPT and OVERRIDE_CATEGORY.")
    ] = False,
    plus_one: PlusOne = False,
    predictions: Annotated[Path | None, typer.Option(help="A folder with TASK.predictions.jsonl of each task.")] = None,
    model: ModelName = "glip-nano",
    device: Device = "cpu",
    batch_size: BatchSize = 1,
    workers: Workers = 0,
    overwrite: Overwrite = False,
) -> None:
    """Object detection in the wild: COCO's AP of each task, average and median.

    Example: glip evaluate odinw --task configs/odinw_13 --root datasets --output odinw13
    """
    from glip.evaluation.odinw import SUMMARY, read_odinw_tasks, summarize

    found = read_odinw_tasks(tasks, root=root, split=split, use_prompts=not no_prompts, plus_one=plus_one)
    output.mkdir(exist_ok=True)
    summary = check_target(output / f"{SUMMARY}.json", overwrite=overwrite)
    source = Source(None, model, device, batch_size, workers, output, overwrite)
    results = source.results({task.task: task for task in found}, predictions)
    if results is not None:
        for name, result in results.items():
            print(f"AP of {name}\t{100 * result['metrics']['AP']:.2f}")
        metrics = summarize({name: result["metrics"] for name, result in results.items()})
        settings = {name: result["settings"] for name, result in results.items()}
        write_json(summary, {"metrics": metrics, "settings": {"benchmark": "odinw", "tasks": settings}})
        show(metrics)


def show(metrics: dict[str, Any]) -> None:
    """A line for each number; groups and classes stay in the file. What is undefined is a dash."""
    for name, value in metrics.items():
        number = value.get("all") if isinstance(value, dict) else value
        if isinstance(number, float):
            print(f"{name}\t{100 * number:.2f}" if number >= 0 else f"{name}\t-")
        elif isinstance(number, str):
            print(f"{name}\t{number}")
