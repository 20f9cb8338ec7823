"""Two processes give what one gives; with shards each holds half, and one process loads the checkpoint."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from glip.engine.config import TrainConfig
from glip.engine.parallel import fill, whole
from glip.engine.trainer import Trainer
from glip.predictor import Predictor
from tests.engine.test_trainer import config_of, data, start
from tests.engine.two_processes import without_dropout

__all__ = ["data", "start"]  # fixtures

SCRIPT = Path(__file__).with_name("two_processes.py")


def same_size(data: Path) -> Path:
    """The lying pictures only, so that halves of a batch have the padded size of the whole."""
    content = json.loads((data / "train.json").read_text())
    images = [image for image in content["images"] if image["width"] > image["height"]]
    ids = {image["id"] for image in images}
    kept = [annotation for annotation in content["annotations"] if annotation["image_id"] in ids]
    path = data / "lying.json"
    path.write_text(json.dumps({**content, "images": images, "annotations": kept}))
    return path


def settings(start: Path, data: Path, output: Path, **changes: Any) -> TrainConfig:
    plain = {"flip": 0.0, "crop": 0.0, "colour": 0.0}
    return config_of(
        start,
        data,
        output,
        sources=[{"annotations": same_size(data), "kind": "detection"}],
        batch_size=4,
        steps=3,
        augmentation={"short_sides": [64], "max_side": 96, **plain},
        captions={"max_names": 2, "full_share": 1.0, "article_share": 0.0},
        **changes,
    )


def launch(config: TrainConfig, port: int) -> None:
    path = config.output.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(json.loads(config.model_dump_json())))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(SCRIPT.parents[2]),
        "NO_ALBUMENTATIONS_UPDATE": "1",
    }
    result = subprocess.run(
        [*launcher, str(SCRIPT), str(path)], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]


def losses_of(output: Path) -> list[list[float]]:
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [[value for name, value in line.items() if name.startswith("loss_")] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True], ids=["copies", "shards"])
def test_two_processes_with_half_the_batch_each_are_one(sharded: bool, start: Path, data: Path, tmp_path: Path) -> None:
    one = Trainer(settings(start, data, tmp_path / "one"))
    without_dropout(one.model)
    one.train()
    config = settings(start, data, tmp_path / "two", sharded=sharded)
    launch(config, 29873 + sharded)
    for step, (expected, found) in enumerate(
        zip(losses_of(tmp_path / "one"), losses_of(tmp_path / "two"), strict=True)
    ):
        tolerance = 1e-5 if step == 0 else 1e-3  # then AdamW has turned rounding into steps
        assert found == pytest.approx(expected, rel=tolerance, abs=5e-5), step
    sizes = {name: parameter.numel() for name, parameter in one.model.named_parameters()}
    held = [json.loads((tmp_path / "two" / f"seen-{rank}.json").read_text()) for rank in range(2)]
    for name, size in sizes.items():
        shares = [own[name] for own in held]
        assert sum(shares) == (size if sharded else 2 * size), name
    if sharded:
        assert max(sum(own.values()) for own in held) < 0.7 * sum(sizes.values())
    loaded = Trainer(settings(start, data, tmp_path / "two"))  # one process reads what two wrote
    assert loaded.step == 3
    exported = dict(Predictor.from_pretrained(tmp_path / "two" / "model").model.named_parameters())
    assert loaded.average.averages
    for name, average in loaded.average.averages.items():
        assert torch.equal(exported[name], average), name


def test_what_is_not_split_is_whole() -> None:
    tensor = torch.tensor([1.0])
    content = {"a": [tensor, 3], "b": {"c": (tensor,)}}
    assert whole(content) == content
    assert whole({}) == {}


def test_filling_a_plain_tensor_copies() -> None:
    target = nn.Parameter(torch.zeros(2))
    fill(target, torch.tensor([1.0, 2.0]))
    assert target.tolist() == [1.0, 2.0]
