"""The programs in tools/ run on small things, and refuse to write over anything."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from glip.images import read_image

TOOLS = Path(__file__).parents[1] / "tools"


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: object) -> None:
    """Run a tool as `python tools/NAME ARGUMENTS...` would."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(TOOLS / name), run_name="__main__")


def test_the_benchmark_times_every_part_of_both_forms(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, plot = tmp_path / "times.json", tmp_path / "times.png"
    small = ("--variant", "nano", "--size", 64, 96, "--tokens", 8, "--runs", 1, "--threads", 1, "--batch", 2)
    run(monkeypatch, "benchmark.py", *small, "--output", report, "--plot", plot)
    content = json.loads(report.read_text())
    (result,) = content["results"]
    assert result["tokens"] == 8
    parts = {part: seconds for part, seconds in result["ours"].items() if part != "total"}
    assert all(seconds > 0 for seconds in parts.values())
    assert sum(parts.values()) <= result["ours"]["total"]
    assert "plain / ours" in capsys.readouterr().out
    assert read_image(plot).size == (800, 400)


@pytest.mark.parametrize("name", ["start_nano.py", "teach_nano.py", "make_nano_data.py", "make_labelled_dev.py"])
def test_an_existing_folder_is_not_written_into(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    arguments = {
        "start_nano.py": ("--nanodet", "n.json", "--minilm", "m", "--data", "d", "--output", tmp_path),
        "teach_nano.py": ("s", "--nanodet", "n.json", "--minilm", "m", "--data", "d", "--output", tmp_path),
        "make_labelled_dev.py": ("l.jsonl", "--photos", "p", "--output", tmp_path),
        "make_nano_data.py": ("--photos", "p", "--nanodet", "n.json", "--cutouts", "c", "--output", tmp_path),
    }[name]
    with pytest.raises(SystemExit, match=r"error: .*exists already; give a new folder"):
        run(monkeypatch, name, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_the_training_benchmark_compares_time_and_memory_of_both_forms(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "steps.json"
    small = ("--variant", "nano", "--size", 64, 96, "--tokens", 8, "--runs", 1, "--threads", 1)
    run(monkeypatch, "benchmark_training.py", *small, "--forms", "here, checkpointed", "plain", "--output", report)
    here, plain = json.loads(report.read_text())["results"]
    assert [here["form"], plain["form"]] == ["here, checkpointed", "plain"]
    for row in (here, plain):
        assert row["forward"] > 0
        assert row["backward"] > 0
        assert 0.1 < row["peak_memory_gb"] < 8
    assert "of plain" in capsys.readouterr().out


def test_the_vocabulary_benchmark_asks_for_every_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"categories": [{"id": n, "name": f"thing {n}"} for n in range(90)]}))
    report = tmp_path / "vocabulary.json"
    small = ("--variant", "nano", "--size", 64, 96, "--passes", 2, "--threads", 1, "--names", names)
    run(monkeypatch, "benchmark_vocabulary.py", *small, "--output", report)
    content = json.loads(report.read_text())
    assert content["names"] == 90
    assert content["captions"] == {"same chunks": 3, "packed chunks": 2}
    assert set(content["ratio"]) == {"same chunks", "packed chunks"}
    assert "90 names; padded, 3 passes" in capsys.readouterr().out


def test_the_peer_benchmark_prints_a_ratio(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "peer.json"
    run(
        monkeypatch,
        "benchmark_peer.py",
        *("--size", 256, 256, "--runs", 1, "--threads", 1, "--output", report),  # it wants 900 positions
    )
    content = json.loads(report.read_text())
    assert content["tokens"] == 7
    assert content["ratio"] > 0
    assert "grounding dino / glip" in capsys.readouterr().out


@pytest.mark.slow
def test_the_fine_tuning_table_has_a_row_for_each_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {"id": 1, "file_name": str(photos / "chelsea.jpg"), "width": 451, "height": 300}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 10, 440, 285]}
    content = {"images": [record], "annotations": [box], "categories": [{"id": 1, "name": "cat"}]}
    for part in ("train", "dev"):
        (tmp_path / f"{part}.json").write_text(json.dumps(content))
    small = ("--output", tmp_path / "runs", "--seeds", 0, "--ways", "linear", "1-shot", "--set", "steps=1")
    run(monkeypatch, "finetune_table.py", tmp_path, *small, "batch_size=1", "augmentation.short_sides=[96]")
    rows = json.loads((tmp_path / "runs" / "table.json").read_text())["runs"]
    assert [row["way"] for row in rows] == ["linear", "1-shot"]
    assert all(row["steps"] == 1 and row["peak_memory_mb"] > 100 for row in rows)
    printed = capsys.readouterr().out
    assert "| as shipped |" in printed
    run(monkeypatch, "finetune_table.py", tmp_path, *small)
    assert capsys.readouterr().out == printed  # what is there is not run again


def test_a_plain_detector_labels_what_its_names_and_other_words_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(_weights: Path) -> Callable[[Image.Image], tuple[torch.Tensor, torch.Tensor]]:
        return lambda _picture: (torch.tensor([[10.0, 20.0, 200.0, 250.0]]), torch.tensor([[0.1, 0.9]]))

    monkeypatch.setattr("tools.make_nano_data.Teacher", load)
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"categories": [{"id": 17, "name": "cat"}, {"id": 1, "name": "person"}]}))
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(f"{photos / 'chelsea.jpg'},a kitten and a man near the sky\n")
    small = ("--nanodet", "n.json", "--names", names, "--output", tmp_path / "p.json")
    run(monkeypatch, "pseudo_label.py", pairs, *small)
    assert "phrases\t1 of 3 kept" in capsys.readouterr().out
    (annotation,) = json.loads((tmp_path / "p.json").read_text())["annotations"]
    assert (annotation["bbox"], annotation["tokens_positive"]) == ([10.0, 20.0, 190.0, 230.0], [[0, 8]])
