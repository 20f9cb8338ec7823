"""`import glip` is cheap and does nothing; public names come when they are asked for; no file is long."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import glip

PACKAGE = Path(glip.__file__).parent
MAX_LINES = 400
HEAVY = ("torch", "torchvision", "transformers", "numpy", "PIL", "scipy", "typer", "rich")


def heavy_modules_after(program: str) -> str:
    """Which of `HEAVY` a fresh interpreter has loaded when the program has run."""
    report = f"import sys\nprint('LOADED', *(name for name in {HEAVY} if name in sys.modules))"
    code = f"try:\n    {program}\nexcept SystemExit:\n    pass\n{report}"
    ended = subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True)
    assert ended.stderr == ""
    return ended.stdout.splitlines()[-1].removeprefix("LOADED").strip()


def test_importing_glip_loads_nothing_heavy() -> None:
    assert heavy_modules_after("import glip; dir(glip); glip.__version__") == ""


@pytest.mark.parametrize("arguments", [["--help"], ["detect", "--help"], ["ground", "--help"], ["refer", "--help"]])
def test_help_loads_neither_torch_nor_transformers(arguments: list[str]) -> None:
    program = f"import sys; sys.argv = {['glip', *arguments]}; from glip.cli.main import main; main()"
    assert {"torch", "torchvision", "transformers", "numpy", "scipy", "PIL"}.isdisjoint(
        heavy_modules_after(program).split()
    )


@pytest.mark.parametrize("module", ["glip.predictor", "glip.cli.grounding", "glip.zero_shot"])
def test_finding_things_needs_no_package_of_the_extra_train(module: str) -> None:
    for_training = ("accelerate", "albumentations", "peft", "pycocotools", "pydantic", "scipy")
    blocked = f"import sys; sys.modules.update(dict.fromkeys({for_training}))"  # importing them fails now
    subprocess.run([sys.executable, "-c", f"{blocked}; import {module}"], check=True, capture_output=True)


def test_the_errors_load_nothing_heavy() -> None:
    assert heavy_modules_after("from glip import GlipError") == ""


def test_dir_lists_the_public_names_in_order() -> None:
    assert dir(glip) == sorted(glip.__all__)
    assert "Predictor" in dir(glip)


@pytest.mark.parametrize("name", glip.__all__)
def test_a_public_name_is_a_documented_class_of_that_name(name: str) -> None:
    public = getattr(glip, name)
    assert public.__name__ == name
    assert public.__doc__


def test_a_public_name_is_the_one_of_its_home() -> None:
    assert glip.Predictor is importlib.import_module("glip.predictor").Predictor


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'predictr'.*'Predictor'"):
        _ = glip.predictr
    assert not hasattr(glip, "nothing")


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_no_file_is_longer_than_four_hundred_lines(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert 0 < len(lines) <= MAX_LINES
