"""What the tests of the doors share."""

import sys
from collections.abc import Callable

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
        capsys.readouterr()
        code: int | str | None = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr()
        return int(code or 0), said.out, said.err

    return run
