"""The averaged weights: a moving average that soon forgets its start; frozen parameters are left out."""

import pytest
import torch
from torch import nn

from glip.engine.ema import ParameterAverage


def model_of(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1)
    fill(layer, value)
    return layer


def fill(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


@pytest.mark.parametrize(
    ("step", "average"),
    [
        pytest.param(1, 1 + 2 * 9 / 11, id="the first step: the past weighs 2/11"),
        pytest.param(8, 2.0, id="the eighth step: 9/18"),
        pytest.param(10_000, 1 + 2 * 0.1, id="late: the past weighs 0.9"),
    ],
)
def test_the_average_of_one_and_three_after(step: int, average: float) -> None:
    model = model_of(1.0)
    averages = ParameterAverage(model, decay=0.9)
    fill(model, 3.0)
    averages.update(model, step)
    torch.testing.assert_close(averages.averages["weight"], torch.tensor([[average]]))
    torch.testing.assert_close(averages.averages["bias"], torch.tensor([average]))
    torch.testing.assert_close(model.weight.data, torch.tensor([[3.0]]))


def test_without_decay_the_average_is_the_last() -> None:
    model = model_of(1.0)
    averages = ParameterAverage(model, decay=0.0)
    fill(model, 3.0)
    averages.update(model, 5)
    torch.testing.assert_close(averages.averages["weight"], torch.tensor([[3.0]]))


def test_frozen_parameters_are_left_out() -> None:
    model = model_of(1.0)
    model.bias.requires_grad = False
    assert list(ParameterAverage(model, decay=0.9).averages) == ["weight"]


def test_a_network_without_trained_parameters_has_no_average() -> None:
    averages = ParameterAverage(nn.ReLU(), decay=0.9)
    averages.update(nn.ReLU(), 1)
    assert averages.averages == {}


def test_the_averages_are_swapped_in_for_as_long_as_the_block_runs() -> None:
    model = model_of(1.0)
    averages = ParameterAverage(model, decay=0.9)
    fill(model, 3.0)
    with averages.swapped_in(model):
        torch.testing.assert_close(model.weight.data, torch.tensor([[1.0]]))
    torch.testing.assert_close(model.weight.data, torch.tensor([[3.0]]))


def test_the_parameters_come_back_after_an_error_too() -> None:
    model = model_of(1.0)
    averages = ParameterAverage(model, decay=0.9)
    fill(model, 3.0)
    with pytest.raises(RuntimeError, match="disk"), averages.swapped_in(model):
        raise RuntimeError("disk full")
    torch.testing.assert_close(model.weight.data, torch.tensor([[3.0]]))


def test_without_decay_the_averages_are_the_parameters_and_take_no_memory() -> None:
    model = nn.Linear(2, 2)
    average = ParameterAverage(model, 0.0)
    with torch.no_grad():
        model.weight.fill_(3.0)
    average.update(model, 1)
    assert average.averages["weight"].data_ptr() == model.weight.data_ptr()
    with average.swapped_in(model):
        assert model.weight.tolist() == [[3.0, 3.0], [3.0, 3.0]]
    assert average.averages["weight"].tolist() == [[3.0, 3.0], [3.0, 3.0]]


@pytest.mark.parametrize("decay", [pytest.param(0.0, id="last weights"), pytest.param(0.9, id="averages")])
def test_a_share_of_the_start_stays_where_what_is_swapped_in_are_the(decay: float) -> None:
    model = model_of(1.0)
    average = ParameterAverage(model, decay, start_share=0.25)
    fill(model, 5.0)
    for step in range(1000):
        average.update(model, step)
    with average.swapped_in(model):
        torch.testing.assert_close(model.weight.data, torch.tensor([[4.0]]))
    torch.testing.assert_close(model.weight.data, torch.tensor([[5.0]]))


def test_without_a_share_no_start_is_kept() -> None:
    assert ParameterAverage(model_of(1.0), 0.9).start == {}
