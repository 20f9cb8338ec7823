"""Rates and decays of every parameter, and the course of the rate."""

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from glip.configuration import GlipConfig
from glip.engine.optimizer import OptimizerConfig, Schedule, ScheduleConfig, parameter_groups
from glip.models.glip import GlipModel
from glip.weights.official import our_name
from tests.reference.tiny_models import TINY_TEXT, tiny_model

KEYS = Path(__file__).parents[1] / "parity" / "data"
PUBLISHED = OptimizerConfig(
    learning_rate=1e-4,
    text_learning_rate=1e-5,
    backbone_factor=0.5,
    bias_factor=2,
    weight_decay=0.05,
    decay_vectors=True,
)


def settings_of(groups: list[dict[str, Any]]) -> dict[int, tuple[float, float]]:
    """Rate and decay by parameter."""
    settings = {id(p): (group["base_lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(settings)
    return settings


def official_settings(name: str) -> tuple[float, float]:
    """The published rule, on the published names: base 1e-4, words 1e-5, body x 0.5, "bias" x 2 without decay."""
    rate = 1e-5 if "language_backbone" in name else 5e-5 if "backbone.body" in name else 1e-4
    return (2 * rate, 0.0) if "bias" in name else (rate, 0.05)


@pytest.mark.parametrize("variant", ["glip_t_a", "glip_t_c", "glip_l"])
def test_every_parameter_of_a_published_model_has_the_published_rate_and_decay_of(variant: str) -> None:
    keys = json.loads((KEYS / f"keys_{variant}.json").read_text())
    names = [key for key in keys if "relative_position_index" not in key and "position_ids" not in key]
    fused = any("b_attn" in name for name in names)
    expected = {our_name(name, fused=fused): official_settings(name) for name in names}
    expected.pop(None, None)
    parameters = {name: nn.Parameter() for name in expected if name is not None}
    settings = settings_of(parameter_groups(parameters.items(), PUBLISHED))
    assert len(parameters) > 400
    for name, parameter in parameters.items():
        assert settings[id(parameter)] == pytest.approx(expected[name]), name


def test_by_default_only_matrices_decay_and_the_backbone_is_slower() -> None:
    model = GlipModel(tiny_config())
    model.text_encoder.requires_grad_(requires_grad=False)
    config = OptimizerConfig(learning_rate=1e-2, backbone_factor=0.1, weight_decay=0.5)
    settings = settings_of(parameter_groups(model.named_parameters(), config))
    for name, parameter in model.named_parameters():
        if name.startswith("text_encoder."):
            assert id(parameter) not in settings
        else:
            rate = 1e-3 if name.startswith("backbone.") else 1e-2
            decays = parameter.ndim > 1 and "bias" not in name
            assert settings[id(parameter)] == pytest.approx((rate, 0.5 if decays else 0.0)), name


def tiny_config() -> GlipConfig:
    config: GlipConfig = tiny_model("csp", top_down=False, text=TINY_TEXT).config
    return config


def test_nothing_to_train_has_no_groups() -> None:
    assert parameter_groups([], PUBLISHED) == []


# --- the course of the rate --------------------------------------------------------------------------------------


def course(steps: int, **settings: Any) -> Schedule:
    return Schedule(ScheduleConfig(**settings), steps)


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
    assert course(12, warmup_steps=4).share(step) == pytest.approx(share, abs=1e-6)


def test_a_run_may_be_all_warm_up() -> None:
    assert [course(4, warmup_steps=4).share(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_the_published_steps_are_at_two_thirds_and_nine_tenths() -> None:
    schedule = course(100, kind="step", warmup_steps=0)
    shares = [schedule.share(step) for step in (0, 66, 67, 88, 89, 99)]
    assert shares == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_constant_rate_stays() -> None:
    schedule = course(10, kind="constant", warmup_steps=2)
    assert [schedule.share(step) for step in (0, 1, 2, 9)] == [0.5, 1, 1, 1]


def test_a_plateau_lowers_the_rate_after_more_validations_than_its_patience() -> None:
    schedule = course(100, kind="plateau", warmup_steps=0, patience=1, final_share=0.0)
    shares = []
    for result in (0.1, 0.3, 0.3, 0.2, 0.4, 0.1, 0.1):
        schedule.saw(result)
        shares.append(schedule.share(50))
    assert shares == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])


def test_a_plateau_does_not_go_below_its_last_share() -> None:
    schedule = course(100, kind="plateau", warmup_steps=0, patience=0, final_share=0.05)
    for _ in range(5):
        schedule.saw(0.1)
    assert schedule.share(50) == 0.05


def test_a_resumed_course_remembers_the_plateau() -> None:
    first, second = (course(100, kind="plateau", warmup_steps=0, patience=1) for _ in range(2))
    for result in (0.5, 0.4, 0.3):
        first.saw(result)
    second.load_state_dict(first.state_dict())
    assert second.share(10) == first.share(10) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("step", "share"),
    [(0, 1.0), (43, 1.0), (45, 0.1), (58, 0.1), (60, 0.01), (99, 0.01)],
)
def test_the_weight_decay_falls_two_thirds_of_the_way_to_each_milestone(step: int, share: float) -> None:
    schedule = Schedule(ScheduleConfig(kind="step", warmup_steps=0, decay_follows=0.667), 100)  # at 67 and 89
    assert schedule.decay_share(step) == pytest.approx(share)


@pytest.mark.parametrize("step", [0, 99])
def test_the_weight_decay_stays_unless_it_is_told_to_follow(step: int) -> None:
    assert Schedule(ScheduleConfig(kind="step", warmup_steps=0), 100).decay_share(step) == 1.0


def test_a_weight_decay_cannot_follow_milestones_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="needs milestones"):
        ScheduleConfig(kind="cosine", decay_follows=0.5)
