"""An exponential moving average of the trained parameters."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class ParameterAverage:
    """Averages of a model's trainable parameters.

    Args:
        model: whose parameters are averaged; frozen ones are left out.
        decay: weight of the past at each step; less in the first steps, so that the start is forgotten. At 0 the
            averages are the parameters themselves and take no memory.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        trained = {name: parameter.detach() for name, parameter in _trained(model)}
        self.averages = {name: values.clone() if decay else values for name, values in trained.items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the parameters after step number `step` (from 1)."""
        if not self.decay:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in _trained(model):
            self.averages[name].lerp_(parameter, 1 - decay)

    @contextmanager
    def swapped_in(self, model: nn.Module) -> Iterator[None]:
        """The model with the averages in place of its parameters, for as long as the block runs."""
        if not self.decay:
            yield
            return
        own = {name: parameter.detach().clone() for name, parameter in _trained(model)}
        _copy(model, self.averages)
        try:
            yield
        finally:
            _copy(model, own)


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


@torch.no_grad()
def _copy(model: nn.Module, values: dict[str, Tensor]) -> None:
    for name, parameter in _trained(model):
        parameter.copy_(values[name])
