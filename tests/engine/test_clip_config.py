"""A contrastive experiment is a YAML file of what differs; unknown names and impossible values are refused by path."""

from pathlib import Path

import pytest

from glip.contrastive.losses import InfoNceLoss, SigmoidLoss
from glip.engine.clip_config import PairSourceConfig, is_clip_experiment, read_clip_config
from glip.errors import ConfigError

LEAST = "task: clip\nnew_model: clip-nano\noutput: runs/a\nsteps: 10\nsources:\n  - {pairs: a.csv}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "experiment.yaml"
    file.write_text(LEAST)
    return file


def test_the_least_that_an_experiment_says(path: Path) -> None:
    config = read_clip_config(path)
    assert config.sources == (PairSourceConfig(pairs=Path("a.csv")),)
    assert config.loss.build() == InfoNceLoss()


def test_a_loss_is_built_as_the_config_says(path: Path) -> None:
    overrides = ("loss.kind=sigmoid", "loss.local_loss=false", "loss.chunk_size=16")
    assert read_clip_config(path, overrides).loss.build() == SigmoidLoss(local_loss=False, chunk_size=16)


def test_own_templates_are_a_list(path: Path) -> None:
    config = read_clip_config(path, ("sources=[{pairs: a, kind: classes, templates: ['a {}']}]",))
    assert config.sources[0].templates == ("a {}",)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        pytest.param("stepps=3", r"stepps: .*known fields are .*'task', ", id="an unknown name"),
        pytest.param("loss.chunks=3", r"loss\.chunks: .*'chunk_size'", id="an unknown name in a group"),
        pytest.param("sources=[{pairs: a, kind: zip}]", r"sources\.0\.kind: ", id="an unknown kind"),
        pytest.param("sources=[]", r"sources: ", id="no source"),
        pytest.param("batch_size=0", r"batch_size: ", id="a batch of nothing"),
        pytest.param("precision=fp16", r"precision: ", id="a precision that is not there"),
        pytest.param("new_model=null", "give one of start .* and new_model", id="no start"),
        pytest.param("start=runs/b", "give one of start .* and new_model", id="two starts"),
        pytest.param("new_model=clip-xl", r"new_model must be one of \['clip-l', ", id="an unknown network"),
        pytest.param("crop.min_side=2", r"crop\.min_side must be in \[0, 1\]", id="an impossible crop"),
    ],
)
def test_an_experiment_is_refused_for(path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_clip_config(path, (override,))


def test_towers_are_for_new_networks_only(path: Path) -> None:
    with pytest.raises(ConfigError, match="belong to a new network"):
        read_clip_config(path, ("new_model=null", "start=runs/b", "towers=glip-nano"))


def test_the_task_tells_one_kind_of_experiment_from_the_other(path: Path, tmp_path: Path) -> None:
    assert is_clip_experiment(path)
    (tmp_path / "other.yaml").write_text("steps: 3\n")
    assert not is_clip_experiment(tmp_path / "other.yaml")
