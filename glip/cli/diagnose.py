"""What is behind a run's numbers: what scores are worth, and which errors were made."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glip.cli.evaluate import show
from glip.cli.options import Annotations, DetectionPredictions, Images, Overwrite, ResultsFile
from glip.errors import ConfigError
from glip.files import check_target, write_json

if TYPE_CHECKING:
    from glip.evaluation.matching import Matching


class CalibratorKindName(StrEnum):
    """What is fitted."""

    isotonic = "isotonic"
    temperature = "temperature"


def calibration(
    annotations: Annotations,
    predictions: DetectionPredictions,
    fit: Annotated[
        CalibratorKindName | None, typer.Option(help="Also fit a calibrator: any rising curve, or one temperature.")
    ] = None,
    calibrator: Annotated[
        Path | None, typer.Option(help="Write the fitted calibrator here, for Predictor and 'glip detect'.")
    ] = None,
    output: ResultsFile = None,
    overwrite: Overwrite = False,
) -> None:
    """What scores are worth: precision and recall by threshold for each class, and the calibration error.

    Example: glip evaluate calibration --annotations dev.json --predictions r.predictions.jsonl --fit isotonic
    --calibrator scores.json
    """
    from glip.evaluation.calibration import calibration_report, fit_calibrator

    if (fit is None) != (calibrator is None):
        raise ConfigError("--fit KIND and --calibrator FILE go together: what to fit, and where to write it")
    for target in (output, calibrator):
        if target is not None:
            check_target(target, overwrite=overwrite)
    if output is not None and output == calibrator:
        raise ConfigError(f"--output and --calibrator are both {output}; give two names")
    matching = _matched(annotations, predictions)
    report = calibration_report(matching)
    overall = report.overall
    error, best = overall.calibration_error, overall.best
    show({"calibration error": -1.0 if error is None else error, "best F1": -1.0 if best is None else best.f1})
    if overall.best is not None:
        print(f"at the threshold\t{overall.best.threshold:.3f}")
    print("threshold\tprecision\trecall")
    for point in overall.points:
        print(f"{point.threshold:.2f}\t{_percent(point.precision)}\t{_percent(point.recall)}")
    if fit is not None and calibrator is not None:
        fitted = fit_calibrator(matching.scores, matching.is_right, kind=fit.value)
        fitted.save(calibrator, overwrite=overwrite)
    if output is not None:
        settings = {"benchmark": "calibration", "annotations": str(annotations), "predictions": str(predictions)}
        write_json(output, {"metrics": report.to_dict(), "settings": settings})


def report(
    annotations: Annotations,
    predictions: DetectionPredictions,
    output: Annotated[Path, typer.Option(help="An HTML file.")],
    images: Images = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Lowest score that counts as shown.")] = 0.5,
    title: Annotated[str, typer.Option(help="The page's heading.")] = "Errors",
    overwrite: Overwrite = False,
) -> None:
    """One HTML page about a run's errors: AP by class, curves, confusions, and the worst pictures drawn.

    Example: glip evaluate report --annotations dev.json --predictions r.predictions.jsonl --output errors.html
    """
    from glip.evaluation.error_report import write_error_report

    truth, results = _truth_and_results(annotations, predictions)
    write_error_report(
        output,
        annotations=truth,
        results=results,
        images=images or annotations.parent,
        threshold=threshold,
        overwrite=overwrite,
        title=title,
    )


def _matched(annotations: Path, predictions: Path) -> "Matching":
    from glip.evaluation.matching import match_detections

    return match_detections(*_truth_and_results(annotations, predictions))


def _truth_and_results(annotations: Path, predictions: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A detection file and results of it, both with plain numbers as ids."""
    from glip.evaluation.coco import CocoBenchmark, coco_results, read_coco_truth, with_plain_ids

    truth = read_coco_truth(annotations)
    return with_plain_ids(truth, coco_results(truth, CocoBenchmark(annotations=annotations).read(predictions)))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"
