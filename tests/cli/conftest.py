"""What the tests of the doors share."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from glip.cli.main import main
from glip.predictor import Predictor
from tests.cli.quick import quick_predictor

RunGlip = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def quick(predictor: Predictor) -> Predictor:
    """The shipped model on small pictures."""
    return quick_predictor(predictor)


@pytest.fixture
def run_glip(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunGlip:
    """The `glip` command: arguments to (exit code, standard output, standard error)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["glip", *map(str, arguments)])
        monkeypatch.setattr("glip.cli.main.collect_seldom", lambda: None)  # it is for a process of its own
        capsys.readouterr()
        code: int | str | None = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr()
        return int(code or 0), said.out, said.err

    return run


@pytest.fixture
def photo(tmp_path: Path, photos: Path) -> Path:
    return Path(shutil.copy(photos / "chelsea.jpg", tmp_path / "cat.jpg"))


@pytest.fixture
def album(tmp_path: Path, photos: Path) -> Path:
    """A folder with two pictures and a note."""
    folder = tmp_path / "album"
    folder.mkdir()
    shutil.copy(photos / "coffee.jpg", folder / "b.jpg")
    shutil.copy(photos / "chelsea.jpg", folder / "a.JPG")
    (folder / "note.txt").write_text("not a picture")
    return folder
