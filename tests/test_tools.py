"""The programs in tools/ run on small things, and refuse to write over anything."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from glip.errors import FileError

TOOLS = Path(__file__).parents[1] / "tools"


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: object) -> None:
    """Run a tool as `python tools/NAME ARGUMENTS...` would."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(TOOLS / name), run_name="__main__")


def test_the_benchmark_times_every_part_of_both_forms(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "times.json"
    run(
        monkeypatch,
        "benchmark.py",
        *("--variant", "nano", "--size", 64, 96, "--tokens", 8, "--runs", 1, "--threads", 1, "--output", report),
    )
    content = json.loads(report.read_text())
    (result,) = content["results"]
    assert result["tokens"] == 8
    parts = {part: seconds for part, seconds in result["ours"].items() if part != "total"}
    assert all(seconds > 0 for seconds in parts.values())
    assert sum(parts.values()) <= result["ours"]["total"]
    assert "plain / ours" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["start_nano.py", "make_nano_data.py"])
def test_an_existing_folder_is_not_written_into(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    arguments = {
        "start_nano.py": ("--nanodet", "n.json", "--minilm", "m", "--data", "d", "--output", tmp_path),
        "make_nano_data.py": ("--photos", "p", "--nanodet", "n.json", "--cutouts", "c", "--output", tmp_path),
    }[name]
    with pytest.raises(FileError, match="exists already"):
        run(monkeypatch, name, *arguments)
    assert list(tmp_path.iterdir()) == []
