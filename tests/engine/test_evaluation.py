"""A model's results on a benchmark: GLIP's semantics end to end, and files that say how they came about."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import PreTrainedTokenizerBase

from glip.engine.evaluation import RunOptions, evaluate, evaluate_all, score_file
from glip.engine.evaluation_config import build_benchmark, read_evaluation_config
from glip.errors import ConfigError, DataError, FileError
from glip.evaluation.coco import CocoBenchmark
from glip.evaluation.grounding import GroundingBenchmark
from glip.evaluation.lvis_benchmark import LvisBenchmark
from glip.predictor import Predictor
from glip.processing import GlipImageProcessor, GlipProcessor
from tests.cli.quick import quick_predictor
from tests.parity.official import DATA, Record, load_official, read_weights

OPTIONS = RunOptions(model="made up")


@pytest.fixture(scope="module")
def quick(predictor: Predictor) -> Predictor:
    return quick_predictor(predictor)


@pytest.fixture
def cats(tmp_path: Path, photos: Path) -> Path:
    """One photo of a cat, with its box."""
    with Image.open(photos / "chelsea.jpg") as photo:
        photo.resize((144, 96)).save(tmp_path / "cat.png")
    return write_json(
        tmp_path / "dev.json",
        images=[{"id": 1, "file_name": "cat.png", "width": 144, "height": 96}],
        annotations=[{"id": 1, "image_id": 1, "category_id": 5, "bbox": [40, 5, 100, 90]}],
        categories=[{"id": 5, "name": "cat"}],
    )


def write_json(path: Path, **content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


# --- the official semantics --------------------------------------------------------------------------------------


def test_from_class_names_to_coco_numbers_as_the_recorded_official_detections_give(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Caption, network, decoding, original pixels, widths of one pixel more, category ids, pycocotools."""
    record = Record(DATA, "public")
    sizes = record.meta["cfg_overrides"]
    processor = GlipProcessor(
        GlipImageProcessor(short_side=sizes["INPUT.MIN_SIZE_TEST"], max_side=sizes["INPUT.MAX_SIZE_TEST"]), tokenizer
    )
    model = load_official(read_weights(DATA / "public_weights_f16.npz"), record.meta, tmp_path)
    Image.fromarray(record.arrays["image.raw_rgb_uint8"]).save(tmp_path / "coffee.png")
    boxes, labels = (record[f"det.MEAN.{name}"] for name in ("boxes_original_image", "labels"))
    true = [
        {"category_id": 10 + int(labels[row]), "bbox": xywh(boxes[row].tolist(), shift)}
        for row, shift in zip((0, 3, 10, 25, 40, 60), (0.0, 4.0, -6.0, 9.0, 2.0, -3.0), strict=True)
    ]
    annotations = write_json(
        tmp_path / "dev.json",
        images=[{"id": 9, "file_name": "coffee.png", "width": 600, "height": 400}],
        annotations=[{"id": number, "image_id": 9, **thing} for number, thing in enumerate(true, start=1)],
        categories=[{"id": 11 + n, "name": name} for n, name in enumerate(record.meta["categories"])],
    )
    benchmark = CocoBenchmark(annotations=annotations, plus_one=True)
    result = evaluate(benchmark, Predictor(model, processor), tmp_path / "ours.json", OPTIONS)
    official = [
        {
            "image_id": 9,
            "boxes": boxes.tolist(),
            "scores": record["det.MEAN.scores"].tolist(),
            "labels": labels.tolist(),
        }
    ]
    (tmp_path / "official.json").write_text(json.dumps(official))
    expected = score_file(benchmark, tmp_path / "official.json", None)["metrics"]
    assert result is not None
    assert expected["AP"] > 0.1
    assert len(json.loads((tmp_path / "ours.results.json").read_text())) == len(boxes)
    assert result["metrics"] == expected
    (ours,) = (json.loads(line) for line in (tmp_path / "ours.predictions.jsonl").read_text().splitlines())
    assert len(ours["boxes"]) == len(boxes)
    recorded = np.sort(record.arrays["det.MEAN.scores"])[::-1]
    assert (np.abs(np.array(ours["scores"]) - recorded) > 1e-3).sum() <= 2


def xywh(box: list[float], shift: float) -> list[float]:
    return [box[0] + shift, box[1], box[2] - box[0], box[3] - box[1]]


# --- files -------------------------------------------------------------------------------------------------------


def test_results_say_how_they_came_about(cats: Path, quick: Predictor, tmp_path: Path) -> None:
    result = evaluate(CocoBenchmark(annotations=cats), quick, tmp_path / "r.json", OPTIONS)
    assert result is not None
    assert result == json.loads((tmp_path / "r.json").read_text())
    settings = result["settings"]
    assert settings["benchmark"] == "coco"
    assert settings["prompt order"] == ["cat"]
    assert settings["rules"]["nms_threshold"] == 0.6
    assert settings["short_side"] == 96
    assert settings["predictions"] == str(tmp_path / "r.predictions.jsonl")
    assert {"glip", "torch", "transformers", "weights", "plus_one", "chunk_size", "batch_size"} <= settings.keys()


def test_scoring_the_predictions_again_gives_the_same_numbers(cats: Path, quick: Predictor, tmp_path: Path) -> None:
    benchmark = CocoBenchmark(annotations=cats)
    result = evaluate(benchmark, quick, tmp_path / "r.json", OPTIONS)
    again = score_file(benchmark, tmp_path / "r.predictions.jsonl", tmp_path / "again.json")
    assert result is not None
    assert again["metrics"] == result["metrics"]
    assert json.loads((tmp_path / "again.json").read_text()) == again


@pytest.mark.parametrize("finished", ["r.json", "r.predictions.jsonl", "r.results.json"])
def test_a_finished_file_is_not_replaced_unless_asked_for(
    finished: str, cats: Path, quick: Predictor, tmp_path: Path
) -> None:
    (tmp_path / finished).write_text("mine")
    with pytest.raises(FileError, match=rf"{finished}: exists already"):
        evaluate(CocoBenchmark(annotations=cats), quick, tmp_path / "r.json", OPTIONS)
    assert (tmp_path / finished).read_text() == "mine"
    evaluate(CocoBenchmark(annotations=cats), quick, tmp_path / "r.json", RunOptions("made up", overwrite=True))
    assert (tmp_path / finished).read_text() != "mine"


def test_several_benchmarks_and_what_is_finished_is_kept(cats: Path, quick: Predictor, tmp_path: Path) -> None:
    benchmarks = {"plain": CocoBenchmark(annotations=cats), "official": CocoBenchmark(annotations=cats, plus_one=True)}
    folder = tmp_path / "results"
    results = evaluate_all(benchmarks, quick, folder, OPTIONS)
    assert results is not None
    assert list(results) == ["plain", "official"]
    before = (folder / "plain.json").stat().st_mtime_ns
    assert evaluate_all(benchmarks, quick, folder, OPTIONS) == results
    assert (folder / "plain.json").stat().st_mtime_ns == before
    with pytest.raises(FileError, match=r"plain\.json: exists already, with another model \('made up', now 'other'\)"):
        evaluate_all(benchmarks, quick, folder, RunOptions("other"))


def test_a_run_that_was_stopped_before_its_results_goes_on(
    cats: Path, quick: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = CocoBenchmark(annotations=cats)
    with monkeypatch.context() as patch:
        patch.setattr(CocoBenchmark, "score", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate(benchmark, quick, tmp_path / "r.json", OPTIONS)
    assert (tmp_path / "r.predictions.jsonl").exists()
    (tmp_path / "r.results.json").unlink()
    assert evaluate(benchmark, quick, tmp_path / "r.json", OPTIONS)
    assert not (tmp_path / "r.predictions.partial").exists()


def test_results_of_another_annotation_file_are_not_kept(cats: Path, quick: Predictor, tmp_path: Path) -> None:
    evaluate_all({"cats": CocoBenchmark(annotations=cats)}, quick, tmp_path / "results", OPTIONS)
    cats.write_text(cats.read_text().replace("[40, 5,", "[10, 5,"))
    with pytest.raises(FileError, match="with another annotations_hash"):
        evaluate_all({"cats": CocoBenchmark(annotations=cats)}, quick, tmp_path / "results", OPTIONS)


def test_lvis_keeps_three_hundred_boxes_of_a_caption_and_says_so(cats: Path, quick: Predictor, tmp_path: Path) -> None:
    content = json.loads(cats.read_text())
    content["images"][0] |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    content["annotations"][0]["area"] = 9000
    content["categories"][0]["frequency"] = "f"
    result = evaluate(LvisBenchmark(annotations=write_json(cats, **content)), quick, tmp_path / "r.json", OPTIONS)
    assert result is not None
    assert result["settings"]["rules"]["max_detections"] == 300
    assert quick.rules.max_detections == 100


def test_a_caption_over_the_limit_is_cut_and_what_lies_beyond_is_missed(
    cats: Path, quick: Predictor, tmp_path: Path
) -> None:
    caption = "a cat " + "and then " * 200 + "a dog"
    image = {"id": 1, "file_name": "cat.png", "width": 144, "height": 96, "caption": caption}
    spans = [[0, 5], [len(caption) - 5, len(caption)]]
    boxes = [{"id": n, "image_id": 1, "bbox": [40, 5, 100, 90], "tokens_positive": [s]} for n, s in enumerate(spans)]
    path = write_json(tmp_path / "words.json", images=[image], annotations=boxes)
    evaluate(GroundingBenchmark(annotations=path), quick, tmp_path / "r.json", OPTIONS)
    (answer,) = (json.loads(line) for line in (tmp_path / "r.predictions.jsonl").read_text().splitlines())
    assert [bool(phrase["boxes"]) for phrase in answer["phrases"]] == [True, False]


def test_a_missing_annotation_file_stops_all_before_the_first_picture(
    cats: Path, quick: Predictor, tmp_path: Path
) -> None:
    benchmarks = {"good": CocoBenchmark(annotations=cats), "bad": CocoBenchmark(annotations=tmp_path / "nowhere.json")}
    with pytest.raises(FileError, match=r"nowhere\.json: no such annotation file"):
        evaluate_all(benchmarks, quick, tmp_path / "results", OPTIONS)
    assert list((tmp_path / "results").iterdir()) == []


@pytest.mark.slow
def test_two_processes_of_torchrun_give_the_numbers_of_one(cats: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = ["glip.cli.main", "evaluate", "coco-json", "--annotations", str(cats), "--output"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29871", "-m"]
    subprocess.run([*launcher, *command, str(tmp_path / "two.json")], check=True, env=environment, capture_output=True)
    subprocess.run([sys.executable, "-m", *command, str(tmp_path / "one.json")], check=True, env=environment)
    assert (tmp_path / "two.predictions.jsonl").read_bytes() == (tmp_path / "one.predictions.jsonl").read_bytes()


# --- lists of benchmarks -----------------------------------------------------------------------------------------


def test_a_list_of_benchmarks_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "dev.yaml"
    path.write_text(
        "output: out\nbatch_size: 2\nbenchmarks:\n  pets: {kind: coco, annotations: a.json, plus_one: true}\n"
    )
    config = read_evaluation_config(path, ("model=mine",))
    assert (config.model, config.batch_size, config.output) == ("mine", 2, Path("out"))
    assert config.build() == {"pets": CocoBenchmark(annotations=Path("a.json"), plus_one=True)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("output: out", "benchmarks: Field required", id="no benchmarks"),
        pytest.param("output: out\nbenchmarks: {}", "at least 1", id="an empty list"),
        pytest.param("output: out\nspeed: 3\nbenchmarks: {a: {}}", "speed: Extra inputs", id="an unknown name"),
    ],
)
def test_a_list_is_refused_for(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "dev.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_evaluation_config(tmp_path / "dev.yaml")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({}, r"pets\.kind must be one of \['coco', .*\], got None", id="no kind"),
        pytest.param({"kind": "voc"}, "got 'voc'", id="an unknown kind"),
        pytest.param({"kind": "coco", "file": "a"}, "no field 'file'; known are", id="an unknown field"),
        pytest.param({"kind": "coco"}, "annotations: Field required", id="a missing field"),
        pytest.param({"kind": "coco", "annotations": "a", "chunk_size": "x"}, "chunk_size: .*got 'x'", id="no number"),
        pytest.param({"kind": "lvis", "annotations": "a", "protocol": "new"}, "protocol: .*'new'", id="no protocol"),
    ],
)
def test_a_benchmark_is_refused_for(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_benchmark("pets", options)


def test_predictions_of_another_image_are_refused(cats: Path, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('[{"image_id": 2, "boxes": [[0, 0, 1, 1]], "scores": [0.5], "labels": [1]}]')
    with pytest.raises(DataError, match="image 2 is not in the annotation file"):
        score_file(CocoBenchmark(annotations=cats), tmp_path / "p.json", None)
