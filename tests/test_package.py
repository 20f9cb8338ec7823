"""The package as a whole: cheap to import, small files, honest names."""

import subprocess
import sys
from pathlib import Path

import pytest

import glip

PACKAGE = Path(glip.__file__).parent
MAX_LINES = 400


def modules_after(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter has loaded after a statement."""
    program = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("import glip", id="importing the package"),
        pytest.param("import glip.cli.main", id="importing the command"),
        pytest.param("import glip; dir(glip)", id="listing its names"),
    ],
)
def test_no_heavy_library_is_loaded_by(statement: str) -> None:
    assert not {"torch", "torchvision", "transformers", "scipy"} & modules_after(statement)


@pytest.mark.parametrize("name", glip.__all__)
def test_a_public_name_can_be_had(name: str) -> None:
    assert getattr(glip, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error_that_lists_the_names() -> None:
    with pytest.raises(AttributeError, match="Predictor"):
        _ = glip.Detector  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_holds_one_idea(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES
