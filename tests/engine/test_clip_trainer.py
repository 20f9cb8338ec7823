"""Contrastive training: parts of a batch are the batch, and an interrupted run is an uninterrupted one.

A small network learns drawn colours and shapes, and names combinations that it has never seen.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from glip.data.class_folders import LabelledPictures, read_class_folders
from glip.engine.clip_config import ClipTrainConfig
from glip.engine.clip_evaluation import zero_shot_accuracy
from glip.engine.clip_sources import clip_starting_point, load_towers
from glip.engine.clip_trainer import ClipTrainer
from glip.errors import CheckpointError, ConfigError, DataError, FileError, GlipError
from glip.models.clip import ClipModel
from glip.zero_shot import ZeroShotClassifier
from tests.engine.coloured_shapes import (
    COLOURS,
    HELD_OUT,
    all_combinations,
    draw_folders,
    draw_shape,
)

SCRIPT = Path(__file__).with_name("two_clip_processes.py")
NETWORK: dict[str, Any] = {
    "backbone": {
        "kind": "csp",
        "stem_channels": 16,
        "stage_channels": [32, 64, 128, 256],
        "stage_depths": [1, 1, 1, 1],
        "neck_channels": 64,
    },
    "text": {
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
    "embed_dim": 64,
    "max_tokens": 16,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures with a caption each, in a table."""
    folder = tmp_path_factory.mktemp("pairs")
    draw = random.Random(0)
    rows = ["image,caption"]
    for colour, rgb in COLOURS.items():
        draw_shape(rgb, "circle", draw).save(folder / f"{colour}.png")
        rows.append(f"{colour}.png,a {colour} circle")
    (folder / "pairs.csv").write_text("\n".join(rows))
    return folder


def config_of(data: Path, output: Path, **changes: Any) -> ClipTrainConfig:
    settings: dict[str, Any] = {
        "new_model": "clip-nano",
        "network": NETWORK,
        "image_size": 32,
        "output": output,
        "sources": [{"pairs": data / "pairs.csv"}],
        "steps": 4,
        "batch_size": 4,
        "workers": 0,
        "save_every": 2,
        "log_every": 1,
        "ema_decay": 0.5,
    }
    return ClipTrainConfig(**{**settings, **changes})


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return ClipModel.from_pretrained(folder).state_dict()


def test_a_run_leaves_a_classifier_a_log_and_a_checkpoint(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    ClipTrainer(config_of(data, output)).train()
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert {"loss", "scale", "learning_rate", "images_per_second"} <= set(lines[0])
    assert [path.name for path in output.glob("checkpoint-*")] == ["checkpoint-00000004.pt"]
    classifier = ZeroShotClassifier.from_pretrained(output / "model")
    assert classifier.processor.image_processor.image_size == 32
    (found,) = classifier.classify(data / "red.png", ["red circle", "blue circle"], 0)
    assert found.scores.sum().item() == pytest.approx(1.0)


def test_an_interrupted_run_ends_with_the_same_weights(data: Path, tmp_path: Path) -> None:
    ClipTrainer(config_of(data, tmp_path / "whole")).train()
    cut = ClipTrainer(config_of(data, tmp_path / "cut"))
    batches = cut._batches()
    cut.config.output.mkdir()
    for _ in range(2):
        cut._after_step(cut._train_step([next(batches)]))
    resumed = ClipTrainer(config_of(data, tmp_path / "cut"))
    assert resumed.step == 2
    resumed.train()
    for name, tensor in weights_of(tmp_path / "whole" / "model").items():
        assert torch.equal(weights_of(tmp_path / "cut" / "model")[name], tensor), name


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param({}, id="softmax"),
        pytest.param({"chunk_size": 3}, id="softmax in chunks"),
        pytest.param({"kind": "sigmoid"}, id="sigmoid"),
        pytest.param({"same_caption_is_negative": True}, id="softmax with equal captions as negatives"),
    ],
)
def test_a_batch_in_parts_moves_the_weights_as_the_whole_does(loss: dict[str, Any], data: Path, tmp_path: Path) -> None:
    network = {**NETWORK, "initial_bias": -10.0 if loss.get("kind") else None, "initial_scale": 10.0}
    trainers = [
        ClipTrainer(config_of(data, tmp_path / "run", network=network, loss=loss, batch_size=8, accumulate=parts))
        for parts in (1, 4)
    ]
    gradients = []
    for trainer in trainers:
        batches = trainer._batches()
        trainer.model.train()
        trainer._backward([next(batches) for _ in range(trainer.config.accumulate)])
        gradients.append({n: p.grad for n, p in trainer.model.named_parameters() if p.grad is not None})
    whole, parts = gradients
    assert whole.keys() == parts.keys()
    assert "log_scale" in whole
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_the_scale_stays_at_a_hundred(data: Path, tmp_path: Path) -> None:
    trainer = ClipTrainer(
        config_of(data, tmp_path / "run", network={**NETWORK, "initial_scale": 100.0}, optimizer={"learning_rate": 1.0})
    )
    batches = trainer._batches()
    for _ in range(2):
        with torch.no_grad():
            trainer.model.log_scale.add_(1.0)
        trainer._train_step([next(batches)])
        assert trainer.model.log_scale.exp().item() <= 100.0 + 1e-3


def test_a_new_network_can_start_with_a_glips_towers(data: Path, tmp_path: Path) -> None:
    config = config_of(data, tmp_path / "run", network={"embed_dim": 16}, towers="glip-nano")
    model, _ = clip_starting_point(config)
    glip = load_towers("glip-nano")
    for name, tensor in glip.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], tensor)


def test_a_run_can_start_from_a_trained_clip(data: Path, tmp_path: Path) -> None:
    ClipTrainer(config_of(data, tmp_path / "first", steps=1)).train()
    start = tmp_path / "first" / "model"
    trainer = ClipTrainer(config_of(data, tmp_path / "second", new_model=None, network={}, start=start))
    for name, tensor in weights_of(start).items():
        assert torch.equal(trainer.model.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        pytest.param({"batch_size": 3, "accumulate": 2}, ConfigError, "must be a multiple", id="parts do not fit"),
        pytest.param({"loss": {"kind": "sigmoid"}}, ConfigError, "network.initial_bias=-10", id="no bias"),
        pytest.param({"network": {"embed": 3}}, ConfigError, "unknown field 'embed'", id="an unknown number"),
        pytest.param({"towers": "glip-nano"}, CheckpointError, "give both the same encoders", id="other towers"),
        pytest.param({"towers": "gone"}, FileError, "no model 'gone'", id="towers that are not there"),
        pytest.param({"image_size": 50}, ConfigError, "multiple of 32", id="a size that does not fit"),
    ],
)
def test_a_run_is_refused_before_it_starts_where(
    changes: dict[str, Any], error: type[GlipError], message: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        ClipTrainer(config_of(data, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_sources_without_captions_are_refused(data: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    trainer = ClipTrainer(config_of(data, tmp_path / "run", sources=[{"pairs": tmp_path}]))
    with pytest.raises(DataError, match="no captions in it"):
        trainer.train()


def test_a_loss_without_a_number_stops_the_run_and_names_pictures(data: Path, tmp_path: Path) -> None:
    trainer = ClipTrainer(config_of(data, tmp_path / "run"))
    nn.init.constant_(trainer.model.image_projection.weight, float("nan"))
    with pytest.raises(GlipError, match=r"step 0: the loss is nan.*\.png"):
        trainer._train_step([next(trainer._batches())])


def test_a_checkpoint_of_another_network_is_refused(data: Path, tmp_path: Path) -> None:
    ClipTrainer(config_of(data, tmp_path / "run", steps=1)).train()
    with pytest.raises(CheckpointError, match="of another network"):
        ClipTrainer(config_of(data, tmp_path / "run", network={**NETWORK, "embed_dim": 8}))


VARIANTS: dict[str, dict[str, Any]] = {
    "own-rows": {},
    "all-rows": {"loss": {"local_loss": False}},
    "parts": {"accumulate": 2, "loss": {"chunk_size": 2}},
    "sigmoid": {"network": {**NETWORK, "initial_bias": -10.0, "initial_scale": 10.0}, "loss": {"kind": "sigmoid"}},
}


def losses_of(output: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (output / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_with_half_the_batch_each_are_one(data: Path, tmp_path: Path) -> None:
    files = []
    for name, changes in VARIANTS.items():
        config = config_of(data, tmp_path / name, batch_size=8, **changes)
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(config.model_dump_json())  # JSON is YAML
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29877"]
    settings = {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(SCRIPT.parents[2]),
    }
    result = subprocess.run(
        [*launcher, str(SCRIPT), *map(str, files)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    for name, changes in VARIANTS.items():
        one = ClipTrainer(config_of(data, tmp_path / f"one-{name}", batch_size=8, **changes))
        one.train()
        expected = losses_of(tmp_path / f"one-{name}")
        assert losses_of(tmp_path / name) == pytest.approx(expected, rel=2e-3, abs=2e-4), name
        assert expected[-1] != expected[0]


@pytest.mark.slow
def test_a_small_network_names_combinations_that_it_has_never_seen(tmp_path: Path) -> None:
    seen = draw_folders(tmp_path / "seen", all_combinations() - HELD_OUT, count=60, seed=1)
    draw_folders(tmp_path / "new", all_combinations(), count=12, seed=2)
    config = config_of(
        seen,
        tmp_path / "run",
        image_size=64,
        sources=[{"pairs": seen, "kind": "classes", "templates": 1}],
        optimizer={"learning_rate": 2e-3, "backbone_factor": 1.0, "weight_decay": 0.05},
        validation={"classes": tmp_path / "new", "templates": 1, "every": 400},
        steps=1200,
        batch_size=48,
        save_every=400,
        log_every=100,
        ema_decay=0.98,
    )
    ClipTrainer(config).train()
    classifier = ZeroShotClassifier.from_pretrained(config.output / "model")
    pictures = read_class_folders(tmp_path / "new")
    held_out = {f"{colour} {shape}" for colour, shape in HELD_OUT}
    new = [place for place, label in enumerate(pictures.labels) if pictures.names[label] in held_out]
    unseen = LabelledPictures(
        tuple(pictures.images[place] for place in new), tuple(pictures.labels[place] for place in new), pictures.names
    )
    numbers = zero_shot_accuracy(classifier, unseen, 1)
    assert (numbers["pictures"], numbers["classes"]) == (96, 64)
    assert numbers["top1"] >= 0.95
    assert zero_shot_accuracy(classifier, pictures, 1)["top1"] >= 0.95
    assert (config.output / "best" / "model.safetensors").is_file()
