"""An experiment is a YAML file of what differs; unknown names and impossible values are refused by their full path."""

from pathlib import Path

import pytest
import yaml

from glip.engine.clip_config import is_clip_experiment, read_clip_config
from glip.engine.config import SourceConfig, TrainConfig, read_config
from glip.engine.evaluation_config import read_evaluation_config
from glip.engine.optimizer import OptimizerConfig
from glip.errors import ConfigError

LEAST = "start: glip-nano\noutput: runs/a\nsteps: 10\nsources:\n  - {annotations: a.json, kind: detection}\n"
CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "experiment.yaml"
    file.write_text(LEAST)
    return file


def test_the_least_that_an_experiment_says(path: Path) -> None:
    config = read_config(path)
    assert (config.start, config.output, config.steps) == (Path("glip-nano"), Path("runs/a"), 10)
    assert config.sources == (SourceConfig(annotations=Path("a.json"), kind="detection"),)
    assert config.optimizer == OptimizerConfig()


@pytest.mark.parametrize(
    ("override", "group", "name", "value"),
    [
        pytest.param("steps=3", "", "steps", 3, id="a number"),
        pytest.param("ema_decay=0.5", "", "ema_decay", 0.5, id="a fraction"),
        pytest.param("optimizer.learning_rate=1e-5", "optimizer", "learning_rate", 1e-5, id="1e-5 is a number"),
        pytest.param("augmentation.short_sides=[64, 96]", "augmentation", "short_sides", (64, 96), id="a list"),
        pytest.param("captions.max_names=5", "captions", "max_names", 5, id="a group of its own"),
        pytest.param("losses.giou=1.5", "losses", "giou", 1.5, id="a loss"),
        pytest.param("tuning.frozen=[]", "tuning", "frozen", (), id="an empty list"),
        pytest.param("output=runs/b=c", "", "output", Path("runs/b=c"), id="a value with an equals sign"),
    ],
)
def test_an_override_of(path: Path, override: str, group: str, name: str, value: object) -> None:
    config = read_config(path, (override,))
    assert getattr(getattr(config, group) if group else config, name) == value


def test_the_later_of_two_overrides_wins(path: Path) -> None:
    assert read_config(path, ("steps=3", "steps=4")).steps == 4


def test_an_override_leaves_the_rest_of_its_group(path: Path) -> None:
    path.write_text(LEAST + "optimizer: {weight_decay: 0.5, clip_norm: 7}\n")
    optimizer = read_config(path, ("optimizer.clip_norm=8",)).optimizer
    assert (optimizer.weight_decay, optimizer.clip_norm) == (0.5, 8)


def test_overrides_do_not_touch_the_file(path: Path) -> None:
    read_config(path, ("steps=3",))
    assert path.read_text() == LEAST


@pytest.mark.parametrize(
    ("override", "place"),
    [
        pytest.param("stepps=3", "stepps", id="the experiment"),
        pytest.param("optimizer.rate=3", "optimizer.rate", id="a group"),
        pytest.param("augmentation.flop=3", "augmentation.flop", id="the augmentation"),
        pytest.param("captions.names=3", "captions.names", id="the captions"),
        pytest.param("losses.iou=3", "losses.iou", id="the losses"),
        pytest.param("sources=[{annotations: a, kind: detection, wait: 1}]", "sources.0.wait", id="a source"),
    ],
)
def test_an_unknown_name_is_refused_by_its_path_in(path: Path, override: str, place: str) -> None:
    with pytest.raises(ConfigError, match=rf"experiment\.yaml: {place}: ") as caught:
        read_config(path, (override,))
    assert "known fields are" in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        "steps=0",
        "steps=many",
        "batch_size=-1",
        "optimizer.clip_norm=0",
        "sources=[]",
        "ema_decay=-0.1",
        "start_share=1",
        "frozen=3",
    ],
)
def test_an_impossible_value_is_refused_by_its_path(path: Path, override: str) -> None:
    name, _, value = override.partition("=")
    with pytest.raises(ConfigError, match=rf"experiment\.yaml: {name}: ") as caught:
        read_config(path, (override,))
    assert f"got {yaml.safe_load(value)!r}" in str(caught.value).replace("()", "[]")


def test_no_share_of_the_start_for_new_heads(path: Path) -> None:
    with pytest.raises(ConfigError, match="start_share would mix new heads with random weights"):
        read_config(path, ("start_share=0.5", "heads={masks: {}}"))


def test_an_experiment_does_not_change(path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        read_config(path).steps = 3  # type: ignore[misc]


@pytest.mark.parametrize("shipped", CONFIGS, ids=lambda shipped: shipped.name)
def test_a_shipped_experiment_is_right_and_says_how_it_is_run(shipped: Path) -> None:
    if shipped.name.startswith("evaluate"):
        assert read_evaluation_config(shipped).build()
    elif shipped.name.startswith("clip"):
        assert is_clip_experiment(shipped)
        assert read_clip_config(shipped).loss.build()
    else:
        assert isinstance(read_config(shipped), TrainConfig)
    command, hardware = shipped.read_text().splitlines()[:2]
    program = "evaluate" if shipped.name.startswith("evaluate") else "train"
    assert command == f"# python tools/{program}.py configs/{shipped.name}"
    assert hardware.startswith("# ")
