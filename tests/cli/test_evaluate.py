"""`glip evaluate` with a model: results and predictions as files, each mistake one sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import glip.cli.grounding
from glip.cli.main import main
from glip.predictor import Predictor
from tests.cli.quick import quick_predictor

Command = Callable[..., int]


@pytest.fixture
def glip_command(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `glip evaluate ARGUMENTS` with a quick model; the exit code."""

    def load(_model: str, _device: str, *, batch_size: int = 1) -> Predictor:
        return quick_predictor(predictor, batch_size=batch_size)

    monkeypatch.setattr(glip.cli.grounding, "load_predictor", load)

    def run(*arguments: object) -> int:
        monkeypatch.setattr("sys.argv", ["glip", "evaluate", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        assert isinstance(stop.value.code, int)
        return stop.value.code

    return run


@pytest.fixture
def data(tmp_path: Path, photos: Path) -> Path:
    """A photo with a detection file, a grounding file and a file of expressions."""
    with Image.open(photos / "chelsea.jpg") as photo:
        photo.resize((144, 96)).save(tmp_path / "cat.png")
    image = {"id": 1, "file_name": "cat.png", "width": 144, "height": 96}
    box = {"id": 1, "image_id": 1, "category_id": 5, "bbox": [40, 5, 100, 90], "area": 9000, "iscrowd": 0}
    lvis: dict[str, list[int]] = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    detection = {
        "images": [{**image, **lvis}],
        "annotations": [box],
        "categories": [{"id": 5, "name": "cat", "frequency": "f"}],
    }
    sentence = {**image, "caption": "a cat looks up", "sentence_id": 0, "original_img_id": 1}
    grounding = {"images": [sentence], "annotations": [{**box, "tokens_positive": [[0, 5]]}]}
    (tmp_path / "dev.json").write_text(json.dumps(detection))
    (tmp_path / "words.json").write_text(json.dumps(grounding))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "file", "number"),
    [
        pytest.param(["coco"], "dev.json", "AP50", id="coco"),
        pytest.param(["coco-json", "--batch-size", "2"], "dev.json", "AP50", id="an own detection file"),
        pytest.param(["lvis", "--protocol", "fixed", "--chunk-size", "40"], "dev.json", "APf", id="lvis"),
        pytest.param(["flickr30k", "--protocol", "any-box"], "words.json", "recall@1", id="flickr30k"),
        pytest.param(["grounding-json"], "words.json", "recall@1", id="an own grounding file"),
        pytest.param(["refcoco", "--workers", "1"], "words.json", "precision@1", id="refcoco"),
    ],
)
def test_a_model_is_run_on(
    arguments: list[str],
    file: str,
    number: str,
    data: Path,
    glip_command: Command,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = glip_command(*arguments, "--annotations", data / file, "--output", data / "r.json")
    assert code == 0
    result = json.loads((data / "r.json").read_text())
    value = result["metrics"][number]
    share = value["all"] if isinstance(value, dict) else value
    assert f"{number}\t{100 * share:.2f}" in capsys.readouterr().out.splitlines()
    assert result["settings"]["benchmark"] == arguments[0]
    assert len((data / "r.predictions.jsonl").read_text().splitlines()) == 1


def test_the_model_finds_the_cat(data: Path, glip_command: Command) -> None:
    """The whole way is right side up: boxes in the photo's own pixels."""
    assert glip_command("coco-json", "--annotations", data / "dev.json", "--output", data / "r.json") == 0
    assert json.loads((data / "r.json").read_text())["metrics"]["AP50"] > 0.9


def test_odinw_writes_a_file_for_each_task_and_a_summary(data: Path, glip_command: Command) -> None:
    for name in ("a", "b"):
        task = "DATASETS: {TEST: [val], REGISTER: {val: {ann_file: dev.json, img_dir: .}}}"
        (data / f"{name}.yaml").write_text(task)
    arguments = ("odinw", "--task", data / "a.yaml", "--task", data / "b.yaml", "--root", data)
    assert glip_command(*arguments, "--output", data / "out") == 0
    summary = json.loads((data / "out" / "summary.json").read_text())["metrics"]
    aps = [json.loads((data / "out" / f"{name}.json").read_text())["metrics"]["AP"] for name in ("a", "b")]
    assert summary["average AP"] == pytest.approx(sum(aps) / 2)
    assert summary["number of tasks"] == "2"
    again = (*arguments, "--predictions", data / "out", "--output", data / "again")
    assert glip_command(*again) == 0
    assert json.loads((data / "again" / "summary.json").read_text())["metrics"] == summary


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["coco", "--annotations", "dev.json"], "give --output FILE.json", id="no output"),
        pytest.param(
            ["coco", "--annotations", "dev.json", "--output", "nowhere/r.json"], "make it first", id="no folder"
        ),
        pytest.param(
            ["coco", "--annotations", "nowhere.json", "--output", "r.json"], "no such annotation file", id="no file"
        ),
        pytest.param(
            ["coco", "--annotations", "dev.json", "--images", "elsewhere", "--output", "r.json"],
            "elsewhere/cat.png",
            id="no pictures",
        ),
        pytest.param(
            ["flickr30k", "--protocol", "any-box", "--output", "r.json"], "give the truth once", id="no truth"
        ),
        pytest.param(
            ["coco", "--annotations", "dev.json", "--predictions", "cat.png"], "no UTF-8 text", id="no predictions"
        ),
        pytest.param(
            ["odinw", "--task", "nowhere", "--root", ".", "--output", "out"], "no such task file", id="no task"
        ),
    ],
)
def test_one_sentence_for(
    arguments: list[str],
    message: str,
    data: Path,
    glip_command: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(data)
    before: dict[str, Any] = {path.name: path.read_bytes() for path in data.iterdir()}
    assert glip_command(*arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert {name: (data / name).read_bytes() for name in before} == before


# --- what is behind the numbers ----------------------------------------------------------------------------------


@pytest.fixture
def scored(data: Path) -> Path:
    """Predictions for the photo of the cat: one right box of 0.9, two wrong ones of 0.8 and 0.1."""
    boxes = [[40, 5, 140, 95], [0, 0, 20, 20], [120, 80, 140, 90]]
    record = {"image_id": 1, "boxes": boxes, "scores": [0.9, 0.8, 0.1], "labels": [1, 1, 1]}
    (data / "p.jsonl").write_text(json.dumps(record) + "\n")
    return data / "p.jsonl"


def test_calibration_says_what_a_threshold_is_worth(
    data: Path, scored: Path, glip_command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("calibration", "--annotations", data / "dev.json", "--predictions", scored)
    assert glip_command(*arguments, "--output", data / "c.json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "0.85\t100.00\t100.00" in lines
    assert "0.75\t50.00\t100.00" in lines
    assert "0.05\t33.33\t100.00" in lines
    assert json.loads((data / "c.json").read_text())["metrics"]["classes"]["cat"]["detections"] == 3


@pytest.mark.parametrize("kind", ["isotonic", "temperature"])
def test_a_fitted_calibrator_is_written_for_the_predictor(
    kind: str, data: Path, scored: Path, glip_command: Command
) -> None:
    arguments = ("calibration", "--annotations", data / "dev.json", "--predictions", scored)
    assert glip_command(*arguments, "--fit", kind, "--calibrator", data / "fit.json") == 0
    assert json.loads((data / "fit.json").read_text())["kind"] == kind
    assert Predictor.from_pretrained(calibrator=data / "fit.json").calibrator is not None


def test_the_error_report_is_one_page_with_the_picture(data: Path, scored: Path, glip_command: Command) -> None:
    arguments = ("report", "--annotations", data / "dev.json", "--predictions", scored, "--output", data / "e.html")
    assert glip_command(*arguments, "--title", "Cats & dogs") == 0
    page = (data / "e.html").read_text()
    assert "Cats &amp; dogs" in page
    assert page.count("data:image/jpeg;base64,") == 1
    assert glip_command(*arguments) == 1  # it exists


def test_what_to_fit_and_where_to_write_it_go_together(
    data: Path, scored: Path, glip_command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("calibration", "--annotations", data / "dev.json", "--predictions", scored)
    assert glip_command(*arguments, "--fit", "isotonic") == 1
    assert "go together" in capsys.readouterr().err


def test_what_is_undefined_is_a_dash(
    data: Path, scored: Path, glip_command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert glip_command("coco-json", "--annotations", data / "dev.json", "--predictions", scored) == 0
    assert "APl\t-" in capsys.readouterr().out.splitlines()  # there is no large box


def test_two_results_need_two_files(
    data: Path, scored: Path, glip_command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("calibration", "--annotations", data / "dev.json", "--predictions", scored, "--fit", "isotonic")
    assert glip_command(*arguments, "--calibrator", data / "x.json", "--output", data / "x.json") == 1
    assert "give two names" in capsys.readouterr().err


def test_images_may_have_words_as_ids(data: Path, scored: Path, glip_command: Command) -> None:
    for name in ("dev.json", "p.jsonl"):
        text = (data / name).read_text().replace('"image_id": 1', '"image_id": "one"')
        (data / name).write_text(text.replace('{"id": 1, "file', '{"id": "one", "file'))
    arguments = ("--annotations", data / "dev.json", "--predictions", scored)
    assert glip_command("coco-json", *arguments) == 0
    assert glip_command("calibration", *arguments) == 0
    assert glip_command("report", *arguments, "--output", data / "e.html") == 0
