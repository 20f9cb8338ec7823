"""The recipe of glip-nano: what it runs, and what it refuses."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from glip.errors import ConfigError, GlipError
from glip.predictor import Predictor
from tools.evaluate_dev import RealGround, everything_of
from tools.retrain_nano import Recipe, Stage, command, read_recipe, retrain, run_python

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "configs" / "recipes"


def test_a_stage_becomes_a_command_line() -> None:
    stage = Stage(name="h", tool="start_nano", options={"steps": 5, "earlier": "dg", "boxed": ["x.json", "y.json"]})
    words = command(stage, Path("runs"), ["--data=photos"])
    assert Path(words[0]).name == "start_nano.py"
    assert words[1:] == [
        *("--steps", "5", "--earlier", "runs/dg", "--boxed", "x.json", "y.json"),
        *("--data=photos", "--output", "runs/h.partial"),
    ]


def test_a_mean_of_two_stages_needs_no_materials() -> None:
    stage = Stage(name="dg", tool="mix_models", models=("d", "g"), options={"share": 0.5})
    words = command(stage, Path("runs"), ["--data=photos"])
    assert words[1:] == ["runs/d", "runs/g", "--share", "0.5", "--output", "runs/dg.partial"]


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_recipes_of_the_repository_end_with_the_shipped_rules(file: Path) -> None:
    recipe = read_recipe(file)
    assert recipe.stages[-1].name == "model"
    shipped = Predictor.from_pretrained().processor
    assert (recipe.threshold, recipe.rules) == (shipped.threshold, shipped.rules)


def test_an_option_without_a_value_is_a_single_word() -> None:
    words = command(Stage(name="a", tool="start_nano", options={"labelled": True}), Path("runs"), [])
    assert words[1:] == ["--labelled", "--output", "runs/a.partial"]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        pytest.param("[]", "stages: ", id="no stage at all"),
        pytest.param("[{name: a, tool: rm}]", "stages.0.tool: .*'start_nano', 'teach_nano'", id="no such tool"),
        pytest.param("[{name: a, tool: mix_models, models: [b, c]}]", "'b' is no stage before it", id="no such stage"),
        pytest.param("[{name: a, tool: start_nano, options: {earlier: z}}]", "'z' is no stage", id="no earlier stage"),
        pytest.param("[{name: a, tool: mix_models, models: dg}]", "stages.0.models: ", id="a word for a list of them"),
        pytest.param("[{name: a, tool: start_nano, step: 5}]", "stages.0.step: ", id="an unknown name"),
        pytest.param(
            "[{name: a, tool: start_nano}, {name: a, tool: start_nano}]", "two stages 'a'", id="one name for two stages"
        ),
        pytest.param(
            "[{name: a, tool: start_nano}]\nrules: {compettion: 1}", "unknown rule 'compettion'", id="a misspelt rule"
        ),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(stages: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    rules = "" if "rules" in stages else "rules: {}\n"
    file.write_text(f"threshold: 0.5\n{rules}stages: {stages}\n")
    with pytest.raises(ConfigError, match=message):
        read_recipe(file)


@pytest.fixture
def recipe() -> Recipe:
    stages = (Stage(name="a", tool="start_nano"), Stage(name="b", tool="start_nano", options={"earlier": "a"}))
    return Recipe(stages=stages, threshold=0.3, rules={"competition": 1.0})


def test_what_is_there_is_not_made_again_and_the_last_stage_gets_the_rules(
    recipe: Recipe, predictor: Predictor, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b.partial").mkdir()  # of a run that was interrupted
    asked: list[str] = []

    def run(words: Sequence[str]) -> None:
        asked.append(words[-1])
        assert not Path(words[-1]).exists()
        predictor.processor.save_pretrained(words[-1])

    last = retrain(recipe, tmp_path, [], run)
    assert asked == [str(tmp_path / "b.partial")]
    assert not (tmp_path / "b.partial").exists()
    saved = json.loads((last / "processor_config.json").read_text())
    assert (saved["threshold"], saved["rules"]) == (0.3, {"competition": 1.0})


def test_a_tool_that_fails_ends_in_one_sentence(tmp_path: Path) -> None:
    tool = tmp_path / "tool.py"
    tool.write_text("raise SystemExit(3)")
    with pytest.raises(GlipError, match=r"^tool\.py ended with 3; mend what it says above, and run this again$"):
        run_python([str(tool)])


def test_a_stages_own_error_is_one_sentence(tmp_path: Path) -> None:
    words = [str(ROOT / "tools" / "mix_models.py"), "a", "b", "--output", str(tmp_path)]
    said = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert said.stderr == f"error: {tmp_path}: exists already; give a new folder\n"


def test_a_folder_of_another_recipe_is_refused(recipe: Recipe, predictor: Predictor, tmp_path: Path) -> None:
    retrain(recipe, tmp_path, [], lambda words: predictor.processor.save_pretrained(words[-1]) and None)
    quick = Recipe(stages=recipe.stages[:1], threshold=0.3, rules={})
    with pytest.raises(ConfigError, match="was begun by another recipe"):
        retrain(quick, tmp_path, [], lambda _: None)


@pytest.mark.slow
def test_a_quarter_of_an_hour_of_the_recipe_grounds_real_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Needs what no repository may hold: the card says which packages and photos the recipe is made from."""
    where = {option: os.environ.get(f"GLIP_{option.upper()}") for option in ("data", "nanodet", "minilm")}
    if not all(where.values()):
        pytest.skip("set GLIP_DATA, GLIP_NANODET and GLIP_MINILM to what --data, --nanodet and --minilm take")
    materials = [f"--{option}={Path(value or '').resolve()}" for option, value in where.items()]
    realground = Path(where["data"] or "").resolve() / "realground"
    monkeypatch.chdir(ROOT)  # the tools find configs/words from there
    model = retrain(read_recipe(RECIPES / "nano_quick.yaml"), tmp_path / "nano", materials, run_python)
    metrics = RealGround(realground, everything_of(Predictor.from_pretrained(model))).metrics()
    assert metrics["recall@1"] >= 0.55
    assert metrics["recall@1 of shuffled phrases"] <= 0.3
