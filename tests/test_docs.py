"""What the docs show works: Python blocks run, `glip` commands run, YAML experiments are valid, pages are found.

A page's blocks run in order and share their names. They run in a folder that holds a copy of docs/photos, a tiny model
with heads as `runs/heads/model`, and nothing else, so that `docs/photos/coffee.jpg` is found and nothing is written
into the repository. A block that cannot run there has `<!-- not run -->` on the line before it.
"""

import re
import runpy
import shlex
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import PreTrainedTokenizerBase

from glip.cli.main import app
from glip.engine.config import read_config
from tests.reference.tiny_predictor import tiny_predictor

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), *ROOT.glob("README.md")]
NOT_RUN = "<!-- not run -->"
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w+)\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """Code on a page.

    Attributes:
        code: without the page's indentation.
        line: number of the code's first line on the page, from 1.
        is_run: whether it has to work.
    """

    code: str
    line: int
    is_run: bool


def blocks_of(text: str, language: str) -> list[Block]:
    return [
        Block(
            textwrap.dedent(match["code"]),
            line=text.count("\n", 0, match.start("code")) + 1,
            is_run=not text[: match.start()].rstrip().endswith(NOT_RUN),
        )
        for match in _FENCE.finditer(text)
        if match["language"] == language
    ]


def program_of(text: str) -> str:
    """The Python blocks that have to work as one program, each line under its number on the page."""
    lines = [""] * text.count("\n")
    for block in blocks_of(text, "python"):
        if block.is_run:
            code = block.code.splitlines()
            lines[block.line - 1 : block.line - 1 + len(code)] = code
    return "\n".join(lines)


def commands_of(text: str) -> list[list[str]]:
    """The arguments of each `glip` command in the bash blocks that have to work."""
    lines = [
        line
        for block in blocks_of(text, "bash")
        if block.is_run
        for line in block.code.replace("\\\n", " ").splitlines()
    ]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("glip ")]


def pages_with(language: str) -> list[Any]:
    return [
        pytest.param(page, id=str(page.relative_to(ROOT)))
        for page in PAGES
        if any(block.is_run for block in blocks_of(page.read_text(), language))
    ]


def nav_files(nav: list[Any]) -> Iterator[str]:
    """The files that a navigation tree of mkdocs.yml names."""
    for entry in nav:
        for target in entry.values() if isinstance(entry, dict) else [entry]:
            if isinstance(target, list):
                yield from nav_files(target)
            else:
                yield target


NAV = list(nav_files(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))


@pytest.fixture(scope="session")
def headed_model(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerBase) -> Path:
    """A saved model that has GLIPv2's heads and has learnt nothing."""
    folder = tmp_path_factory.mktemp("headed")
    predictor = tiny_predictor(tokenizer)
    predictor.model.save_pretrained(folder)
    predictor.processor.save_pretrained(folder)
    return folder


@pytest.fixture
def workplace(tmp_path: Path, headed_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder with the photos and a model with heads; what the blocks wrote goes with it."""
    folder = tmp_path / "workplace"
    shutil.copytree(DOCS / "photos", folder / "docs" / "photos")
    shutil.copytree(headed_model, folder / "runs" / "heads" / "model")
    monkeypatch.chdir(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("page", pages_with("python"))
def test_the_python_blocks_run_of(page: Path, workplace: Path) -> None:
    program = workplace.parent / f"{page.name}.py"
    program.write_text(program_of(page.read_text()))
    runpy.run_path(str(program), run_name="docs")


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES if commands_of(page.read_text())],
)
def test_the_glip_commands_run_of(page: Path, workplace: Path) -> None:
    for arguments in commands_of(page.read_text()):
        app(arguments, standalone_mode=False)


@pytest.mark.parametrize("page", pages_with("yaml"))
def test_the_yaml_blocks_are_experiments_of(page: Path, tmp_path: Path) -> None:
    for block in blocks_of(page.read_text(), "yaml"):
        if block.is_run:
            (tmp_path / "experiment.yaml").write_text(block.code)
            assert read_config(tmp_path / "experiment.yaml").sources


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page)
        for page in (
            "docs/index.md",
            *(f"docs/how_to/{name}.md" for name in ("detect", "weights", "classify", "masks", "captions", "questions")),
        )
    ],
)
def test_there_is_python_to_run_in(page: str) -> None:
    assert any(block.is_run for block in blocks_of((ROOT / page).read_text(), "python"))


@pytest.mark.parametrize("file", [pytest.param(file, id=file) for file in NAV])
def test_the_navigation_leads_to(file: str) -> None:
    assert (DOCS / file).is_file()


def test_the_navigation_leads_to_every_page_once() -> None:
    assert sorted(NAV) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", [], id="an empty page"),
        pytest.param("a\n\n```python\nb = 1\n```\n", [Block("b = 1\n", line=4, is_run=True)], id="a plain block"),
        pytest.param(
            f"{NOT_RUN}\n```python\nb = 1\n```\n", [Block("b = 1\n", line=3, is_run=False)], id="a block marked not run"
        ),
        pytest.param(
            f"{NOT_RUN}\n```bash\nls\n```\n```python\nb = 1\n```\n",
            [Block("b = 1\n", line=6, is_run=True)],
            id="a block behind one of another language that is marked",
        ),
        pytest.param(
            "1. a\n\n    ```python\n    if b:\n        c = 1\n    ```\n",
            [Block("if b:\n    c = 1\n", line=4, is_run=True)],
            id="a block inside a list",
        ),
    ],
)
def test_the_python_blocks_are_found_in(text: str, expected: list[Block]) -> None:
    assert blocks_of(text, "python") == expected


def test_a_page_becomes_a_program_with_the_same_line_numbers() -> None:
    page = f"# A\n```python\nb = 1\n```\n{NOT_RUN}\n```python\nc = b\n```\n- d\n  ```python\n  e = b\n  ```\n"
    assert program_of(page).split("\n") == ["", "", "b = 1", *[""] * 7, "e = b", ""]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", [], id="an empty page"),
        pytest.param("```bash\npip install .\n```\n", [], id="a block without one"),
        pytest.param(
            "```bash\nglip refer a.jpg \"a 'cat'\" \\\n  --json b.json\nglip --help  # all\n```\n",
            [["refer", "a.jpg", "a 'cat'", "--json", "b.json"], ["--help"]],
            id="a block with two, one over two lines and one with a comment",
        ),
        pytest.param(f"{NOT_RUN}\n```bash\nglip --help\n```\n", [], id="a block marked not run"),
    ],
)
def test_the_commands_are_found_in(text: str, expected: list[list[str]]) -> None:
    assert commands_of(text) == expected
