"""`glip train` and `tools/train.py` know a contrastive experiment by its `task: clip`."""

import runpy
from pathlib import Path

import pytest
from PIL import Image

from glip.zero_shot import ZeroShotClassifier
from tests.cli.conftest import RunGlip
from tests.engine.test_clip_trainer import config_of

TOOL = Path(__file__).parents[2] / "tools" / "train.py"


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    for colour in ("red", "blue"):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{colour}.png")
    (tmp_path / "pairs.csv").write_text("image,caption\nred.png,red\nblue.png,blue\n")
    config = config_of(tmp_path, tmp_path / "run", steps=1, batch_size=2)
    (tmp_path / "clip.yaml").write_text(config.model_dump_json())  # JSON is YAML
    return tmp_path / "clip.yaml"


def test_the_command_trains_a_classifier(run_glip: RunGlip, experiment: Path) -> None:
    code, _, err = run_glip("train", experiment, "steps=2")
    assert (code, "error" in err) == (0, False)
    assert len((experiment.parent / "run" / "log.jsonl").read_text().splitlines()) == 2
    assert ZeroShotClassifier.from_pretrained(experiment.parent / "run" / "model").batch_size == 32


def test_the_tool_trains_a_classifier(monkeypatch: pytest.MonkeyPatch, experiment: Path) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", str(experiment)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(TOOL), run_name="__main__")
    assert stop.value.code == 0
    assert (experiment.parent / "run" / "model" / "model.safetensors").is_file()


def test_a_bad_setting_is_one_sentence(run_glip: RunGlip, experiment: Path) -> None:
    code, _, err = run_glip("train", experiment, "loss.kind=cosine")
    assert code == 1
    assert err.startswith("error: ")
    assert "loss.kind" in err
    assert len(err.splitlines()) == 1
