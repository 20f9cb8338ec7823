"""`glip train` and `glip data check`: one's own photos, without a file of settings."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glip.cli.main import main
from glip.cli.train import settings_from_data
from glip.predictor import Predictor
from tests.engine.test_trainer import data, save_start, start

__all__ = ["data", "save_start", "start"]  # fixtures

Command = Callable[..., int]


@pytest.fixture
def glip_command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `glip ARGUMENTS`; the exit code."""

    def run(*arguments: object) -> int:
        monkeypatch.setattr("sys.argv", ["glip", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        assert isinstance(stop.value.code, int)
        return stop.value.code

    return run


SMALL = ("steps=2", "batch_size=2", "workers=0", "augmentation.short_sides=[64]", "augmentation.max_side=96")


def test_own_photos_train_without_a_file_of_settings(
    data: Path, start: Path, tmp_path: Path, glip_command: Command
) -> None:
    arguments = ("train", *SMALL, "--data", data / "train.json", "--dev", data / "train.json", "--model", start)
    assert glip_command(*arguments, "--output", tmp_path / "mine") == 0
    assert Predictor.from_pretrained(tmp_path / "mine" / "model")
    assert Predictor.from_pretrained(tmp_path / "mine" / "best")
    steps = [json.loads(line)["step"] for line in (tmp_path / "mine" / "log.jsonl").read_text().splitlines()]
    assert max(steps) == 2


@pytest.mark.parametrize(
    ("words", "rate", "steps", "warmup"),
    [
        pytest.param((), 2e-4, 100, 5, id="all of it, at least a hundred steps"),
        pytest.param(("tuning.mode=lora",), 1e-3, 100, 5, id="low-rank additions learn faster"),
        pytest.param(("tuning.mode=linear", "steps=40"), 2e-3, 40, 2, id="steps of your own, and their warm-up"),
        pytest.param(("optimizer.learning_rate=3.0e-5",), 3e-5, 100, 5, id="a rate of your own"),
    ],
)
def test_what_is_not_said_suits_what_is(
    data: Path, start: Path, tmp_path: Path, words: tuple[str, ...], rate: float, steps: int, warmup: int
) -> None:
    file = data / "train.json"
    config = settings_from_data(file, None, file, tmp_path / "run", str(start), ("validation.patience=2", *words))
    assert config.validation is not None
    assert (config.validation.every, config.validation.patience) == (steps // 10, 2)
    assert config.optimizer.learning_rate == rate
    assert config.steps == steps
    assert config.schedule.warmup_steps == warmup


def test_an_experiment_with_an_override(data: Path, start: Path, tmp_path: Path, glip_command: Command) -> None:
    experiment = tmp_path / "mine.yaml"
    experiment.write_text(
        f"start: {start}\noutput: {tmp_path / 'run'}\nsteps: 9\nsources:\n"
        f"  - {{kind: detection, annotations: {data / 'train.json'}}}\n"
    )
    assert glip_command("train", experiment, *SMALL) == 0
    assert [path.name for path in (tmp_path / "run").glob("checkpoint*")] == ["checkpoint-00000002.pt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["train"], "give an experiment", id="nothing"),
        pytest.param(["train", "steps=3"], "give an experiment", id="an override alone"),
        pytest.param(["train", "nowhere.yaml"], "no such config file", id="a missing file"),
        pytest.param(["train", "--data", "train.json"], "needs --output", id="no output"),
        pytest.param(["train", "--data", "nowhere.json", "--output", "run"], "no such annotation file", id="no data"),
        pytest.param(["train", "--data", "train.json", "--output", "run", "stepps=3"], "stepps: Extra", id="a typo"),
        pytest.param(
            ["data", "check", "train.json", "--sheet", "sheet.xyz"], "end the name in one of", id="no picture"
        ),
        pytest.param(["data", "check", "empty.json"], "empty.json: no pictures in it", id="nothing in it"),
        pytest.param(["data", "check", "nowhere.json"], "no such annotation file", id="nothing to check"),
        pytest.param(
            ["data", "check", "train.json", "--sheet", "sheet.png"], "exists already", id="a sheet that is there"
        ),
    ],
)
def test_one_sentence_for(
    arguments: list[str],
    message: str,
    data: Path,
    tmp_path: Path,
    glip_command: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "train.json").write_bytes((data / "train.json").read_bytes())
    (tmp_path / "sheet.png").write_bytes(b"mine")
    (tmp_path / "empty.json").write_text('{"images": [], "annotations": [], "categories": []}')
    monkeypatch.chdir(tmp_path)
    assert glip_command(*arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert (tmp_path / "sheet.png").read_bytes() == b"mine"


# --- looking at data ---------------------------------------------------------------------------------------------


def test_a_good_data_set_is_described_and_drawn(
    data: Path, tmp_path: Path, glip_command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert glip_command("data", "check", data / "train.json", "--sheet", tmp_path / "sheet.png") == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"pictures\t4", "boxes\t3", "pictures without a box\t1", "classes\t1", "no problem found"} <= {*lines}
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (1280, 320)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"file_name": "nowhere.png"}, "nowhere.png", id="a missing picture"),
        pytest.param({"width": 63}, "is 64 x 48, but the file says 63 x 48", id="another size"),
        pytest.param({"file_name": "train.json"}, "train.json", id="no picture at all"),
    ],
)
def test_a_problem_is_named_for(
    change: dict[str, Any], message: str, data: Path, glip_command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((data / "train.json").read_text())
    content["images"][0] |= change
    broken = data / "broken.json"
    broken.write_text(json.dumps(content))
    assert glip_command("data", "check", broken) == 1
    captured = capsys.readouterr()
    assert message in captured.out
    assert "1 of 4 pictures have a problem" in captured.err


def test_a_box_that_leaves_its_picture_is_named(
    data: Path, glip_command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((data / "train.json").read_text())
    content["annotations"][0]["bbox"] = [50, 10, 30, 30]
    broken = data / "outside.json"
    broken.write_text(json.dumps(content))
    assert glip_command("data", "check", broken) == 1
    assert "of 'square' leaves the picture 64 x 48" in capsys.readouterr().out


@pytest.fixture
def odinw_task(data: Path) -> Path:
    """A task file beside the data, which calls the class by a name of its own."""
    task = data / "task.yaml"
    split = f"{{img_dir: {data}, ann_file: {data / 'train.json'}}}"
    task.write_text(
        f'DATASETS:\n  OVERRIDE_CATEGORY: \'[{{"id": 1, "name": "tile"}}]\'\n  REGISTER:\n    train: {split}\n'
    )
    return task


def test_a_file_that_does_not_tell_its_kind_is_checked_by_the_kind_that_is_given(
    odinw_task: Path, glip_command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert glip_command("data", "check", odinw_task, "--kind", "odinw", "--split", "train") == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"pictures\t4", "boxes\t3", "classes\t1", "no problem found"} <= {*lines}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(("--kind", "odinv"), "--kind odinv", id="a kind that is none"),
        pytest.param(("--kind", "odinw", "--split", "evening"), "evening", id="a split that the file lacks"),
    ],
)
def test_one_sentence_for_the_kind(
    options: tuple[str, ...], message: str, odinw_task: Path, glip_command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert glip_command("data", "check", odinw_task, *options) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_what_the_smallest_install_lacks_is_one_sentence(
    data: Path, glip_command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "glip.engine.config", raising=False)
    monkeypatch.delitem(sys.modules, "glip.engine.trainer", raising=False)
    monkeypatch.delitem(sys.modules, "glip.engine.optimizer", raising=False)
    monkeypatch.setitem(sys.modules, "pydantic", None)
    assert glip_command("train", data / "nowhere.yaml") == 1
    expected = "error: this needs pydantic: pip install 'glip-for-everyone[train]'\n"
    assert capsys.readouterr().err == expected
