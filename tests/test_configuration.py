"""`GlipConfig` holds the network's numbers: unknown names and impossible values are refused, JSON keeps them all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from glip.configuration import (
    BACKBONE_FIELDS,
    GlipConfig,
    glip_large,
    glip_nano,
    glip_resnet50,
    glip_tiny,
    glip_tiny_a,
)
from glip.errors import ConfigError, GlipError

VARIANTS = [
    pytest.param(glip_tiny_a, id="GLIP-T (A)"),
    pytest.param(glip_tiny, id="GLIP-T"),
    pytest.param(glip_large, id="GLIP-L"),
    pytest.param(glip_resnet50, id="ResNet-50"),
    pytest.param(glip_nano, id="nano"),
]
OWN_FIELDS = (
    "backbone",
    "text",
    "channels",
    "num_blocks",
    "fusion",
    "fusion_dim",
    "fusion_heads",
    "fusion_dropout",
    "top_down",
    "drop_block",
    "num_groups",
    "strides",
    "max_tokens",
    "mask_padding",
)


def own_numbers(config: GlipConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in OWN_FIELDS}


def test_the_defaults_are_the_published_glip_t() -> None:
    assert own_numbers(GlipConfig()) == {
        "backbone": {
            "kind": "swin",
            "embed_dim": 96,
            "depths": [2, 2, 6, 2],
            "num_heads": [3, 6, 12, 24],
            "window_size": 7,
            "drop_path_rate": 0.2,
        },
        "text": {},
        "channels": 256,
        "num_blocks": 6,
        "fusion": True,
        "fusion_dim": 2048,
        "fusion_heads": 8,
        "fusion_dropout": 0.1,
        "top_down": True,
        "drop_block": 0.3,
        "num_groups": 16,
        "strides": [8, 16, 32, 64, 128],
        "max_tokens": 256,
        "mask_padding": False,
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"num_block": 6}, "GlipConfig: unknown field 'num_block'; did you mean 'num_blocks'", id="a slip"),
        pytest.param({"zzz": 1}, "GlipConfig: unknown field 'zzz'; known fields are", id="something else"),
        pytest.param(
            {"backbone": {"kind": "swin", "window": 7}},
            r"GlipConfig.backbone \(swin\): unknown field 'window'; did you mean 'window_size'",
            id="a slip in the backbone",
        ),
        pytest.param(
            {"backbone": {"kind": "resnet", "embed_dim": 96}},
            r"GlipConfig.backbone \(resnet\): unknown field 'embed_dim'; known fields are \['kind', 'layers'\]",
            id="another backbone's field",
        ),
    ],
)
def test_an_unknown_name_is_refused_with_a_hint_for(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GlipConfig(**fields)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        pytest.param(
            {"kind": "vgg"}, r"kind must be one of \['csp', 'resnet', .*'transformers'\], got 'vgg'", id="vgg"
        ),
        pytest.param({}, "kind must be one of .*, got None", id="no kind"),
        pytest.param({"kind": "timm"}, r"backbone \(timm\): 'name' must be given", id="timm without a name"),
        pytest.param(
            {"kind": "transformers"},
            r"backbone \(transformers\): 'config' must be given",
            id="transformers without a config",
        ),
    ],
)
def test_an_impossible_backbone_is_refused(backbone: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GlipConfig(backbone=backbone)


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind) for kind in BACKBONE_FIELDS])
def test_every_kind_of_backbone_is_completed_with_its_defaults(kind: str) -> None:
    must = {name: {"model_type": "resnet"} for name, value in BACKBONE_FIELDS[kind].items() if value is ...}
    given = {"kind": kind, **must}
    config = GlipConfig(backbone=given)
    assert config.backbone == {"kind": kind, **BACKBONE_FIELDS[kind], **must}
    assert given == {"kind": kind, **must}, "the caller's dict is unchanged"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"num_blocks": 0}, "num_blocks must be a whole number, at least 1, got 0", id="no blocks"),
        pytest.param({"channels": 250}, "multiple of num_groups, got 250 and 16", id="channels that make no groups"),
        pytest.param(
            {"fusion_dim": 2047}, "multiple of fusion_heads, got 2047 and 8", id="a width that makes no heads"
        ),
        pytest.param({"strides": [8, 16]}, r"strides must be three or more, .* got \[8, 16\]", id="two strides"),
        pytest.param({"strides": [8, 16, 64]}, r"each twice the one before, got \[8, 16, 64\]", id="a missing stride"),
        pytest.param({"strides": []}, r"strides must be three or more", id="no strides"),
    ],
)
def test_an_impossible_value_is_refused_with_what_came(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GlipConfig(**fields)


def test_a_config_error_is_a_value_error_of_the_library() -> None:
    assert issubclass(ConfigError, ValueError)
    assert issubclass(ConfigError, GlipError)


@pytest.mark.parametrize("variant", VARIANTS)
def test_json_keeps_every_number_of(variant: Callable[[], GlipConfig], tmp_path: Path) -> None:
    config = variant()
    config.save_pretrained(tmp_path)
    assert own_numbers(GlipConfig.from_pretrained(tmp_path)) == own_numbers(config)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "glip"


def test_json_keeps_every_number_that_differs_from_its_default(tmp_path: Path) -> None:
    config = GlipConfig(
        backbone={"kind": "transformers", "config": {"model_type": "convnextv2", "out_features": ["stage2"]}},
        text={"hidden_size": 24},
        channels=32,
        num_blocks=2,
        fusion=False,
        fusion_dim=64,
        fusion_heads=4,
        fusion_dropout=0.0,
        top_down=False,
        drop_block=0.0,
        num_groups=4,
        strides=(4, 8, 16),
        max_tokens=64,
        mask_padding=True,
    )
    defaults = own_numbers(GlipConfig())
    assert all(value != defaults[name] for name, value in own_numbers(config).items()), "one of them tests nothing"
    config.save_pretrained(tmp_path)
    assert own_numbers(GlipConfig.from_pretrained(tmp_path)) == own_numbers(config)


def test_a_saved_config_with_an_unknown_name_is_refused(tmp_path: Path) -> None:
    glip_nano().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "num_block": 3}))
    with pytest.raises(ConfigError, match="did you mean 'num_blocks'"):
        GlipConfig.from_pretrained(tmp_path)


def test_transformers_finds_the_config_by_its_model_type(tmp_path: Path) -> None:
    glip_nano().save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), GlipConfig)


def test_two_configs_share_no_default() -> None:
    first, second = GlipConfig(), GlipConfig()
    first.backbone["depths"] = [1, 1, 1, 1]
    first.text["hidden_size"] = 24
    assert second.backbone["depths"] == [2, 2, 6, 2]
    assert second.text == {}


def test_a_configs_list_is_its_own() -> None:
    assert GlipConfig().backbone["depths"] is not GlipConfig().backbone["depths"]
    given: dict[str, Any] = {"kind": "resnet", "layers": [1, 1, 1, 1]}
    assert GlipConfig(backbone=given).backbone["layers"] is not given["layers"]
