"""While a command starts, garbage is looked for seldom; once it works, as usual; at the exit, not at all."""

import subprocess
import sys
from pathlib import Path

import pytest

from glip.cli import startup

REPORT = "import gc, atexit; atexit.register(lambda: print(gc.get_threshold()[0], gc.get_freeze_count() > 0))"
PHOTO = str(Path(__file__).parents[2] / "docs/photos/coffee.jpg")
SELDOM, USUALLY = f"{startup.SELDOM} True", f"{startup.AS_USUAL[0]} True"


def at_the_exit(arguments: list[str]) -> str:
    """The threshold and whether objects are frozen, said by the last thing that a process of its own does."""
    program = f"{REPORT}; import sys; sys.argv = {['glip', *arguments]}; from glip.cli.main import main; main()"
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    return ended.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--help"], SELDOM, id="a command that loads nothing has only started"),
        pytest.param(["detect", PHOTO, "--labels", "cup"], USUALLY, id="a model was loaded"),
        pytest.param(["train", "gone.yaml"], USUALLY, id="training was about to begin"),
    ],
)
def test_how_often_garbage_is_looked_for(arguments: list[str], said: str) -> None:
    assert at_the_exit(arguments) == said
