"""Evaluation of a model, or of a predictions file, by a benchmark's protocol."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers

from glip.annotations import read_object
from glip.engine.answers import AnswerRun, Processes, difference, with_rules_of
from glip.errors import FileError
from glip.evaluation.benchmark import Benchmark, Record
from glip.files import check_target, write_json
from glip.predictor import Predictor

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """How a run is made; the numbers do not depend on it.

    Attributes:
        model: the model's name, for the settings.
        workers: processes that read pictures.
        processes: those that share the run; None for how this program was launched.
        overwrite: whether finished files are replaced; an unfinished run always goes on.
    """

    model: str
    workers: int = 0
    processes: Processes | None = None
    overwrite: bool = False


def evaluate(benchmark: Benchmark, predictor: Predictor, output: Path, options: RunOptions) -> Record | None:
    """Answer a benchmark's questions and score the answers.

    Args:
        benchmark: data set and protocol.
        predictor: the model.
        output: results file `NAME.json`; predictions go to `NAME.predictions.jsonl` beside it, and of COCO's benchmarks
            also to `NAME.results.json` in COCO's format.
        options: how the run is made.

    Returns:
        `{"metrics": ..., "settings": ...}`, as written; None in all processes but the first.

    Raises:
        FileError: a finished file exists, or an unfinished run has other settings.
        ImageError: a picture cannot be read; answers so far are kept.
    """
    settings = run_settings(benchmark, predictor, options.model)
    return _evaluate(benchmark, predictor, output, options, settings)


def evaluate_all(
    benchmarks: Mapping[str, Benchmark], predictor: Predictor, folder: Path, options: RunOptions
) -> dict[str, Record] | None:
    """Evaluate several benchmarks into one folder; those that are finished with the same settings are kept.

    Args:
        benchmarks: by the name of their results file.
        predictor: the model.
        folder: where `NAME.json` and `NAME.predictions.jsonl` go; it is made if its parent exists.
        options: how the runs are made.

    Returns:
        The results by name; None in all processes but the first.

    Raises:
        FileError: a finished file has other settings.
    """
    if not folder.parent.is_dir() or (folder.exists() and not folder.is_dir()):
        raise FileError(f"{folder}: must be a folder, in one that exists; make {folder.parent} first")
    folder.mkdir(exist_ok=True)
    for benchmark in benchmarks.values():
        benchmark.questions()  # a broken file stops all of them before the first picture
    of_model = model_settings(predictor, options.model)
    settings = {
        name: {**benchmark_settings(one), **of_model, "rules": asdict(with_rules_of(predictor, one).rules)}
        for name, one in benchmarks.items()
    }
    results: dict[str, Record] = {}
    for name, benchmark in benchmarks.items():
        output = folder / f"{name}.json"
        kept = None if options.overwrite else _finished(output, settings[name])
        result = kept or _evaluate(benchmark, predictor, output, options, settings[name])
        if result is not None:
            results[name] = result
            logger.info("%s: done", name)
    return results if (options.processes or Processes.launched(predictor.model.device)).is_first else None


def score_file(benchmark: Benchmark, predictions: Path, output: Path | None, *, overwrite: bool = False) -> Record:
    """Score a predictions file; no model is run.

    Args:
        benchmark: data set and protocol.
        predictions: a JSON list of records, or one record a line.
        output: results file; None for none.
        overwrite: whether it is replaced.

    Returns:
        `{"metrics": ..., "settings": ...}`.

    Raises:
        FileError: a file is missing, or the output exists.
        DataError: a record is not of the benchmark's form.
    """
    from glip import __version__

    if output is not None:
        check_target(output, overwrite=overwrite)
    metrics = benchmark.score(benchmark.read(predictions))
    settings = benchmark_settings(benchmark)
    result = {"metrics": metrics, "settings": {**settings, "predictions": str(predictions), "glip": __version__}}
    if output is not None:
        write_json(output, result)
    return result


def run_settings(benchmark: Benchmark, predictor: Predictor, model: str) -> Record:
    """Everything that a run's numbers depend on."""
    return {**benchmark_settings(benchmark), **model_settings(with_rules_of(predictor, benchmark), model)}


def benchmark_settings(benchmark: Benchmark) -> Record:
    """The benchmark's part of the settings."""
    return {"benchmark": benchmark.name, **benchmark.settings()}


def _evaluate(
    benchmark: Benchmark, predictor: Predictor, output: Path, options: RunOptions, settings: Record
) -> Record | None:
    predictions = predictions_path(output)
    results_file = output.with_suffix(".results.json")
    for target in (output, results_file):
        check_target(target, overwrite=options.overwrite)
    processes = options.processes or Processes.launched(predictor.model.device)
    ruled = with_rules_of(predictor, benchmark)
    run = AnswerRun(benchmark, ruled, predictions, settings, options.workers, processes)
    if predictions.exists() and not options.overwrite and not run.folder.exists():
        raise FileError(f"{predictions}: exists already; score it with --predictions, or add --overwrite to run again")
    records = run.answer_all()
    if records is None:
        return None
    results = benchmark.coco_results(records)
    if results is not None:
        write_json(results_file, results)
    result = {"metrics": benchmark.score(records), "settings": {**settings, "predictions": str(predictions)}}
    write_json(output, result)
    run.forget_parts()
    return result


def predictions_path(output: Path) -> Path:
    """Where the predictions of a results file go."""
    return output.with_suffix(".predictions.jsonl")


def _finished(output: Path, settings: Record) -> Record | None:
    """Results that are there already, if they were made in the same way."""
    if not output.exists():
        return None
    result = read_object(output)
    changed = difference(result.get("settings", {}), {**settings, "predictions": str(predictions_path(output))})
    if changed:
        raise FileError(f"{output}: exists already, with {changed}; choose another folder, or add --overwrite")
    return result


def model_settings(predictor: Predictor, model: str) -> Record:
    """What a model's numbers depend on: weights, sizes, rules, versions."""
    from glip import __version__

    weights = hashlib.sha256()
    for name, tensor in sorted(predictor.model.state_dict().items()):
        weights.update(name.encode())
        weights.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    image_processor = predictor.processor.image_processor
    return {
        "model": model,
        "weights": weights.hexdigest()[:16],
        "dtype": str(predictor.model.dtype),
        "batch_size": predictor.batch_size,
        "short_side": image_processor.short_side,
        "max_side": image_processor.max_side,
        "max_tokens": predictor.processor.max_tokens,
        "rules": asdict(predictor.rules),
        "calibrator": None if predictor.calibrator is None else predictor.calibrator.to_dict(),
        "glip": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
