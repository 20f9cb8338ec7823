"""Training changes what is not frozen, exports the averaged weights, and goes on where it was interrupted.

An interrupted run ends with the very weights of an uninterrupted one.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from glip.engine.config import OptimizerConfig, SourceConfig, TrainConfig
from glip.engine.trainer import Trainer, parameter_groups, rate_share, read_sources
from glip.errors import CheckpointError, DataError, GlipError
from glip.models.glip import GlipModel
from glip.predictor import Predictor
from glip.processing import GlipImageProcessor, GlipProcessor
from tests.reference.tiny_models import TINY_TEXT, tiny_model

BERT_VOCABULARY = 30522
LOSSES = {"loss_alignment", "loss_giou", "loss_l1", "loss_centerness"}
NOT_RANDOM: dict[str, Any] = {"drop_block": 0.0, "fusion_dropout": 0.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four noisy pictures with a bright square each, lying and upright; one has no box."""
    folder = tmp_path_factory.mktemp("data")
    images, annotations = [], []
    noise = np.random.default_rng(0)
    for number, (height, width) in enumerate([(48, 64), (48, 64), (64, 48), (64, 48)], start=1):
        pixels = noise.integers(0, 80, (height, width, 3), dtype=np.uint8)
        pixels[10:40, 12:42] = 250
        Image.fromarray(pixels).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
        if number < 4:
            annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": [12, 10, 30, 30]})
    categories = [{"id": 1, "name": "square"}, {"id": 2, "name": "cat"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "train.json").write_text(json.dumps(content))
    return folder


def save_start(folder: Path, predictor: Predictor, **changes: Any) -> Path:
    """A tiny network with BERT's vocabulary, ready for training."""
    text = {**TINY_TEXT, "vocab_size": BERT_VOCABULARY}
    tiny_model("csp", top_down=False, text=text, **changes).save_pretrained(folder)
    GlipProcessor(GlipImageProcessor(short_side=64, max_side=96), predictor.processor.tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, predictor: Predictor) -> Path:
    return save_start(tmp_path_factory.mktemp("start"), predictor, **NOT_RANDOM)


@pytest.fixture(scope="module")
def random_start(tmp_path_factory: pytest.TempPathFactory, predictor: Predictor) -> Path:
    """The same with dropout of attention and of blocks."""
    return save_start(tmp_path_factory.mktemp("random_start"), predictor, drop_block=0.3, fusion_dropout=0.3)


def config_of(start: Path, data: Path, output: Path, **changes: Any) -> TrainConfig:
    settings: dict[str, Any] = {
        "start": start,
        "output": output,
        "sources": [{"annotations": data / "train.json", "kind": "detection"}],
        "steps": 4,
        "batch_size": 2,
        "workers": 0,
        "save_every": 2,
        "log_every": 1,
        "augmentation": {"short_sides": [64], "max_side": 96},
        "optimizer": {"learning_rate": 1e-3, "warmup_steps": 2, "backbone_factor": 1.0},
    }
    return TrainConfig(**{**settings, **changes})


def train_interrupted(config: TrainConfig, monkeypatch: pytest.MonkeyPatch, *, after: int) -> None:
    """Train until somebody presses Ctrl-C after so many steps."""
    train_step = Trainer._train_step

    def step_or_stop(self: Trainer, batch: Any) -> Any:
        if self.step == after:
            raise KeyboardInterrupt
        return train_step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", step_or_stop)
        with pytest.raises(KeyboardInterrupt):
            Trainer(config).train()


@pytest.fixture(scope="module")
def trained(start: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A run of four steps."""
    trainer = Trainer(config_of(start, data, tmp_path_factory.mktemp("runs") / "deep" / "run"))
    trainer.train()
    return trainer


# --- a whole run -------------------------------------------------------------------------------------------------


def test_a_run_leaves_checkpoint_log_and_model(trained: Trainer) -> None:
    output = trained.config.output
    assert trained.step == 4
    assert {path.name for path in output.iterdir()} == {"checkpoint.pt", "log.jsonl", "model"}


def test_the_log_has_every_loss_of_every_step(trained: Trainer) -> None:
    lines = [json.loads(line) for line in (trained.config.output / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(set(line) >= LOSSES | {"seconds_per_step"} for line in lines)
    assert all(math.isfinite(line[name]) for line in lines for name in LOSSES)


def test_training_moves_everything_but_what_is_frozen(trained: Trainer, start: Path) -> None:
    before = dict(GlipModel.from_pretrained(start).named_parameters())
    moved = {name for name, parameter in trained.model.named_parameters() if not torch.equal(parameter, before[name])}
    assert not any(name.startswith("text_encoder.") for name in moved)
    assert {name.split(".")[0] for name in moved} == {"backbone", "fpn", "blocks", "head"}


def test_frozen_parts_have_no_gradient_and_no_dropout(trained: Trainer) -> None:
    assert not any(parameter.requires_grad for parameter in trained.model.text_encoder.parameters())
    assert not trained.model.text_encoder.training
    assert trained.model.training


def test_the_exported_model_is_the_average_and_runs(trained: Trainer, data: Path) -> None:
    exported = Predictor.from_pretrained(trained.config.output / "model")
    parameters = dict(exported.model.named_parameters())
    assert trained.average.averages
    for name, average in trained.average.averages.items():
        torch.testing.assert_close(parameters[name].data, average, rtol=0, atol=0)
    own = dict(trained.model.named_parameters())
    assert any(not torch.equal(own[name], parameters[name]) for name in parameters)
    assert exported.processor.image_processor.short_side == 64
    assert len(exported.refer(data / "1.png", "a square")) == 1


def test_exporting_leaves_the_trained_weights_in_place(trained: Trainer, tmp_path: Path) -> None:
    before = weights_of(trained)
    trained.export(tmp_path)
    assert_equal(weights_of(trained), before)


def test_a_run_that_is_done_is_done(trained: Trainer) -> None:
    again = Trainer(trained.config)
    assert again.step == 4
    again.train()
    assert again.step == 4
    assert_equal(weights_of(again), weights_of(trained))


# --- interrupted runs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [pytest.param(2, id="at a checkpoint"), pytest.param(3, id="after a checkpoint")])
def test_an_interrupted_run_ends_with_the_same_weights(
    trained: Trainer, start: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    config = config_of(start, data, tmp_path / "run")
    train_interrupted(config, monkeypatch, after=after)
    resumed = Trainer(config)
    assert resumed.step == 2
    resumed.train()
    assert_equal(weights_of(resumed), weights_of(trained))
    assert_equal(resumed.average.averages, trained.average.averages)
    assert_equal(dict(resumed.model.named_buffers()), dict(trained.model.named_buffers()))


def test_a_run_interrupted_before_its_first_checkpoint_starts_anew(
    trained: Trainer, start: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(start, data, tmp_path / "run")
    train_interrupted(config, monkeypatch, after=1)
    resumed = Trainer(config)
    assert resumed.step == 0
    resumed.train()
    assert_equal(weights_of(resumed), weights_of(trained))


def test_with_dropout_too_an_interrupted_run_ends_with_the_same_weights(
    random_start: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Trainer(config_of(random_start, data, tmp_path / "whole"))
    torch.manual_seed(1)
    whole.train()
    config = config_of(random_start, data, tmp_path / "parts")
    train_interrupted(config, monkeypatch, after=2)
    resumed = Trainer(config)
    torch.manual_seed(2)  # another process has used other random numbers
    resumed.train()
    assert_equal(weights_of(resumed), weights_of(whole))


@pytest.mark.parametrize(("seed", "same"), [(0, True), (1, False)])
def test_the_seed_decides(trained: Trainer, start: Path, data: Path, tmp_path: Path, seed: int, same: bool) -> None:
    other = Trainer(config_of(start, data, tmp_path / "run", seed=seed))
    other.train()
    name = "head.box.weight"
    assert torch.equal(weights_of(other)[name], weights_of(trained)[name]) is same


def test_a_loss_that_is_not_finite_stops_the_run_before_it_does_harm(start: Path, data: Path, tmp_path: Path) -> None:
    trainer = Trainer(config_of(start, data, tmp_path / "run"))
    before = weights_of(trainer)
    trainer.criterion = lambda _output, _targets: {"loss_alignment": torch.tensor(math.nan)}  # type: ignore[assignment]
    with pytest.raises(GlipError, match="lower the learning rate"):
        trainer.train()
    assert_equal(weights_of(trainer), before)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def weights_of(trainer: Trainer) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0, msg=lambda text, name=name: f"{name}: {text}")  # type: ignore[misc]


@pytest.mark.parametrize("content", [{"step": 2}, {"step": 2, "model": {}}], ids=["a step only", "an empty network"])
def test_a_checkpoint_that_lacks_parts_is_refused(
    start: Path, data: Path, tmp_path: Path, content: dict[str, Any]
) -> None:
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="choose another output folder"):
        Trainer(config_of(start, data, tmp_path))


def test_gradients_are_clipped_by_their_global_norm(start: Path, data: Path, tmp_path: Path) -> None:
    trainer = Trainer(config_of(start, data, tmp_path / "run", steps=1, optimizer={"clip_norm": 1e-3}))
    trainer.train()
    norms = [parameter.grad.norm() for parameter in trainer.model.parameters() if parameter.grad is not None]
    torch.testing.assert_close(torch.stack(norms).norm(), torch.tensor(1e-3), rtol=1e-2, atol=0)


# --- its parts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "share"),
    [
        pytest.param(0, 0.25, id="the first step of four warm-up steps"),
        pytest.param(2, 0.75, id="the third"),
        pytest.param(3, 1.0, id="the last of them"),
        pytest.param(4, 1.0, id="the cosine begins at the top"),
        pytest.param(6, 0.868198, id="a quarter down: 0.1 + 0.9 (1 + cos 45) / 2"),
        pytest.param(8, 0.55, id="half way"),
        pytest.param(11, 0.134254, id="the last step: 0.1 + 0.9 (1 + cos 157.5) / 2"),
        pytest.param(12, 0.1, id="the end is a tenth"),
    ],
)
def test_the_learning_rates_share_of_twelve_steps_at(step: int, share: float) -> None:
    assert rate_share(step, steps=12, warmup_steps=4) == pytest.approx(share, abs=1e-6)


def test_a_run_may_be_all_warm_up() -> None:
    assert [rate_share(step, steps=4, warmup_steps=4) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_parameter_groups_by_hand(start: Path) -> None:
    model = GlipModel.from_pretrained(start)
    model.text_encoder.requires_grad_(requires_grad=False)
    groups = parameter_groups(model, OptimizerConfig(learning_rate=1e-2, backbone_factor=0.1, weight_decay=0.5))
    settings = {
        id(parameter): (group["base_lr"], group["weight_decay"]) for group in groups for parameter in group["params"]
    }
    assert sum(len(group["params"]) for group in groups) == len(settings)
    for name, parameter in model.named_parameters():
        if name.startswith("text_encoder."):
            assert id(parameter) not in settings
        else:
            rate = pytest.approx(1e-3 if name.startswith("backbone.") else 1e-2)
            assert settings[id(parameter)] == (rate, 0.5 if parameter.ndim > 1 else 0.0)


def test_the_rate_of_each_group_is_its_share(trained: Trainer) -> None:
    last = rate_share(3, steps=4, warmup_steps=2)
    assert [group["lr"] for group in trained.optimizer.param_groups] == [pytest.approx(1e-3 * last)] * 4


def test_sources_are_drawn_by_their_weights_whatever_their_length(data: Path, tmp_path: Path) -> None:
    sentence = {"id": 1, "file_name": "a.png", "height": 4, "width": 8, "caption": "a cat"}
    (tmp_path / "one.json").write_text(json.dumps({"images": [sentence], "annotations": []}))
    examples, weights = read_sources(
        (
            SourceConfig(annotations=data / "train.json", kind="detection", weight=3.0),
            SourceConfig(annotations=tmp_path / "one.json", kind="grounding", weight=0.5),
        )
    )
    assert [example.caption for example in examples] == [None] * 4 + ["a cat"]
    assert weights == [0.75] * 4 + [0.5]


def test_a_source_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    with pytest.raises(DataError, match=r"none\.json: no images in it"):
        read_sources((SourceConfig(annotations=tmp_path / "none.json", kind="detection"),))
