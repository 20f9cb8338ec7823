"""An exponential moving average of the trained parameters, and how much of the start stays in it."""

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
        start_share: of what is swapped in, the share of the parameters as they are now (Wortsman et al. 2022,
            WiSE-FT, section 3): what the model knew before stays. At 0 they take no memory.
    """

    def __init__(self, model: nn.Module, decay: float, *, start_share: float = 0.0) -> None:
        self.decay, self.start_share = decay, start_share
        trained = {name: parameter.detach() for name, parameter in _trained(model)}
        self.averages = {name: values.clone() if decay else values for name, values in trained.items()}
        self.start = {name: values.clone() for name, values in trained.items()} if start_share else {}

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
        """The model with the averages, or their mean with the start, as its parameters while the block runs."""
        if not self.decay and not self.start_share:
            yield
            return
        own = {name: parameter.detach().clone() for name, parameter in _trained(model)}
        _copy(model, self.averages)
        if self.start_share:
            _mix(model, self.start, self.start_share)
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


@torch.no_grad()
def _mix(model: nn.Module, values: dict[str, Tensor], share: float) -> None:
    for name, parameter in _trained(model):
        parameter.lerp_(values[name], share)
