"""One run trains all heads on batches that mix tasks; each head learns."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from glip.engine.config import TrainConfig, read_config
from glip.engine.trainer import Trainer, starting_point
from glip.errors import ConfigError
from glip.models.glip import GlipModel
from glip.predictor import Predictor
from glip.processing import GlipImageProcessor, GlipProcessor
from glip.structures.tasks import TaskInputs
from tests.engine.task_scenes import HEADS, write_scenes
from tests.reference.tiny_models import TINY_TEXT, tiny_model

CONFIGS = Path(__file__).parents[2] / "configs"
DETECTION = {"loss_alignment", "loss_giou", "loss_l1", "loss_centerness"}
HEAD_LOSSES = {f"loss_{name}" for name in HEADS}
EVERYTHING_ELSE = ("backbone", "fpn", "text_encoder", "blocks", "head")
FALLEN = {"masks": 0.95, "mlm": 0.6, "captioning": 0.6, "vqa": 0.8, "contrast": 0.9}  # last steps' share of the first


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), range(12))


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, predictor: Predictor) -> Path:
    """A tiny network with BERT's vocabulary, without heads."""
    folder = tmp_path_factory.mktemp("start")
    text = {**TINY_TEXT, "vocab_size": len(predictor.processor.tokenizer)}
    tiny_model("csp", top_down=False, text=text, drop_block=0.0, fusion_dropout=0.0).save_pretrained(folder)
    GlipProcessor(GlipImageProcessor(short_side=64, max_side=96), predictor.processor.tokenizer).save_pretrained(folder)
    return folder


def config_of(start: Path, scenes: Path, output: Path, **changes: Any) -> TrainConfig:
    settings: dict[str, Any] = {
        "start": start,
        "output": output,
        "sources": [{"annotations": scenes, "kind": "detection"}],
        "heads": HEADS,
        "steps": 3,
        "batch_size": 8,
        "workers": 0,
        "log_every": 1,
        "augmentation": {"short_sides": [64], "max_side": 96},
        "optimizer": {"learning_rate": 1e-3},
        "schedule": {"warmup_steps": 1},
    }
    return TrainConfig(**{**settings, **changes})


def log_of(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(start: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    trainer = Trainer(config_of(start, scenes, tmp_path_factory.mktemp("run")))
    trainer.train()
    return trainer


def test_every_step_logs_the_loss_of_every_task(trained: Trainer) -> None:
    lines = log_of(trained.config.output)
    assert len(lines) == 3
    assert all({name for name in line if name.startswith("loss_")} == DETECTION | HEAD_LOSSES for line in lines)
    assert all(any(line[name] > 0 for line in lines) for name in HEAD_LOSSES)


def test_every_head_has_moved(trained: Trainer, start: Path) -> None:
    torch.manual_seed(trained.config.seed)
    before = starting_point(trained.config)[0].heads.state_dict()
    after = trained.model.heads.state_dict()
    for name in HEADS:
        own = [key for key in before if key.startswith(f"{name}.")]
        assert any(not torch.equal(before[key], after[key]) for key in own)


def test_the_trained_model_has_its_heads_and_detects_without_them(trained: Trainer) -> None:
    model = GlipModel.from_pretrained(trained.config.output / "model").eval()
    assert set(model.config.heads) == set(HEADS)
    whole = copy.deepcopy(model)  # tensors of a file lie otherwise in memory, which may change a last bit
    pixels, ids = torch.randn(1, 3, 64, 64), torch.tensor([[101, 3899, 102]])
    with torch.no_grad():
        one, other = whole(pixels, ids, tasks=TaskInputs()), model.without_heads()(pixels, ids)
    assert torch.equal(one.alignment_logits, other.alignment_logits)


def test_a_next_run_keeps_the_heads_of_its_start(trained: Trainer, scenes: Path, tmp_path: Path) -> None:
    folder = trained.config.output / "model"
    model, _ = starting_point(config_of(folder, scenes, tmp_path, heads={"mlm": {}}))
    state = GlipModel.from_pretrained(folder).state_dict()
    assert set(model.config.heads) == set(HEADS)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_a_head_of_the_start_is_not_changed_in_passing(trained: Trainer, scenes: Path, tmp_path: Path) -> None:
    changed = config_of(trained.config.output / "model", scenes, tmp_path, heads={"contrast": {"width": 9}})
    with pytest.raises(ConfigError, match=r"heads\.contrast: the start has this head with other numbers; leave it"):
        starting_point(changed)


def test_a_batch_without_truth_for_a_head_still_reaches_all_of_its_parameters(start: Path, tmp_path: Path) -> None:
    """With zeros, in one way for every process of a run."""
    empty = write_scenes(tmp_path / "scenes", range(1))
    content = json.loads(empty.read_text())
    content["images"] = [{**content["images"][0], "description": None}]
    content["annotations"] = []
    empty.write_text(json.dumps(content))
    trainer = Trainer(config_of(start, empty, tmp_path / "run"))
    losses = trainer._losses(next(trainer._batches()))
    assert all(losses[name] == 0 for name in HEAD_LOSSES)
    torch.stack(list(losses.values())).sum().backward()
    without = [name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad]
    assert [name for name in without if trainer.model.get_parameter(name).grad is None] == []


def test_heads_alone_can_be_trained_and_detection_stays(start: Path, scenes: Path, tmp_path: Path) -> None:
    """The paper's second stage for masks: everything else is frozen."""
    alone = {"heads": {"masks": HEADS["masks"]}, "tuning": {"frozen": EVERYTHING_ELSE}}
    config = config_of(start, scenes, tmp_path / "run", **alone)
    Trainer(config).train()
    before = GlipModel.from_pretrained(start).state_dict()
    after = GlipModel.from_pretrained(tmp_path / "run" / "model").without_heads().state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_plain_run_knows_nothing_of_heads(start: Path, scenes: Path, tmp_path: Path) -> None:
    trainer = Trainer(config_of(start, scenes, tmp_path / "run", heads={}))
    batch = next(trainer._batches())
    assert batch.truth is None
    assert all(target.masks is None for target in batch.targets)
    assert set(trainer._losses(batch)) == DETECTION


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param("heads.mask={}", "unknown field 'mask'; did you mean 'masks'", id="a head"),
        pytest.param("heads.masks.layers=0", "heads.masks.layers must be a whole number", id="a number of a head"),
        pytest.param("head_losses.mask=1", "head_losses.mask: .*known fields are .*'masks'", id="a weight"),
    ],
)
def test_an_experiment_is_refused_for(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(CONFIGS / "glipv2_t.yaml", (change,))


@pytest.mark.parametrize(
    ("name", "millions"),
    [pytest.param("t", 285, id="T"), pytest.param("b", 344, id="B"), pytest.param("h", 487, id="H")],
)
def test_the_published_size_is_built_with_all_heads(name: str, millions: int) -> None:
    with torch.device("meta"):
        model, _ = starting_point(read_config(CONFIGS / f"glipv2_{name}.yaml"))
    assert set(model.heads) == set(HEADS)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6) == millions


@pytest.mark.slow
@pytest.mark.parametrize(("head", "fallen"), FALLEN.items())
def test_the_loss_falls_of(head: str, fallen: float, tmp_path: Path) -> None:
    """The head alone learns 64 drawn scenes on the shipped network for a minute; the last ten steps are compared."""
    tasks = ("questions",) if head == "vqa" else ("things",)
    config = config_of(
        Path("glip-nano"),
        write_scenes(tmp_path / "scenes", range(64), tasks=tasks),
        tmp_path / "run",
        heads={head: HEADS[head]},
        steps=60,
        tuning={"frozen": EVERYTHING_ELSE},
        augmentation={"short_sides": [128], "max_side": 128, "colour": 0.0},
        schedule={"warmup_steps": 5, "kind": "constant"},
    )
    Trainer(config).train()
    losses = [line[f"loss_{head}"] for line in log_of(tmp_path / "run")]
    assert len(losses) == 60
    assert sum(losses[-10:]) < fallen * sum(losses[:10])
