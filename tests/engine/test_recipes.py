"""The published experiments as configs: networks of the published size that take a step."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from glip.configuration import VARIANTS
from glip.engine.config import read_config
from glip.engine.trainer import Trainer, starting_point
from glip.engine.tuning import prepare_tuning
from glip.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
TRAINABLE = {  # of the official code, without its unused classifier of 20,560
    "pretrain_glip_t_a": 151_409_966,
    "pretrain_glip_t_b": 231_759_662,
    "pretrain_glip_t_c": 231_759_662,
    "pretrain_glip_l": 429_199_508,
}


@pytest.mark.parametrize("name", TRAINABLE)
def test_the_number_of_trained_parameters_is_the_published_one_of(name: str) -> None:
    config = read_config(CONFIGS / f"{name}.yaml")
    with torch.device("meta"):
        model, _ = starting_point(config)
    tuned = prepare_tuning(model, config.tuning)
    assert sum(p.numel() for p in tuned.model.parameters() if p.requires_grad) == TRAINABLE[name]


def test_prompt_tuning_trains_the_published_number() -> None:
    config = read_config(CONFIGS / "finetune_odinw_prompt.yaml")
    with torch.device("meta"):
        model, _ = starting_point(read_config(CONFIGS / "pretrain_glip_t_c.yaml"))
        tuned = prepare_tuning(model, config.tuning)
    assert sum(p.numel() for p in tuned.model.parameters() if p.requires_grad) == 768_000


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINABLE)
def test_a_step_on_tiny_data_of(name: str, tmp_path: Path) -> None:
    Image.new("RGB", (96, 64), "red").save(tmp_path / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 96, "height": 64}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 8, 60, 40]}],
        "categories": [{"id": 1, "name": "flag"}],
    }
    (tmp_path / "tiny.json").write_text(json.dumps(content))
    overrides = (
        f"output={tmp_path / 'run'}",
        f"sources=[{{kind: detection, annotations: {tmp_path / 'tiny.json'}}}]",
        *("steps=1", "batch_size=1", "workers=0", "precision=fp32", "augmentation.short_sides=[64]"),
        *("save_every=10", "schedule.warmup_steps=0"),
    )
    trainer = Trainer(read_config(CONFIGS / f"{name}.yaml", overrides))
    before = trainer.model.head.box.weight.detach().clone()
    losses = trainer._train_step([next(trainer._batches())])
    assert all(loss.isfinite() for loss in losses.values())
    assert not torch.equal(trainer.model.head.box.weight, before)


def test_every_named_network_is_a_config() -> None:
    assert {name: variant().num_blocks for name, variant in VARIANTS.items()} == {
        "glip-t-a": 6,
        "glip-t": 6,
        "glip-l": 8,
        "glip-r50": 6,
        "glip-nano": 2,
        "glipv2-t": 6,
        "glipv2-b": 6,
        "glipv2-h": 8,
    }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        pytest.param(("new_model=null",), "give one of start .* and new_model", id="neither start nor network"),
        pytest.param(("start=glip-nano",), "give one of start .* and new_model", id="both"),
        pytest.param(
            ("start_share=0.5",), "start_share keeps what a trained model knew", id="a share of random weights"
        ),
        pytest.param(("new_model=glip-xl",), r"new_model must be one of \['glip-l', ", id="an unknown network"),
    ],
)
def test_a_start_is_refused_for(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(CONFIGS / "pretrain_glip_t_a.yaml", overrides)
