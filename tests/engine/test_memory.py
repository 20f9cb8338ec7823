"""Freed memory that goes back to the system between the parts of a backward pass."""

import ctypes
import platform

import pytest
import torch
from torch import Tensor, nn

from glip.engine import memory
from glip.engine.memory import freed_memory_returner, return_memory_between_parts


class Part(nn.Module):
    """Something that computes its activations again, or not."""

    def __init__(self, *, recomputes: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.gradient_checkpointing = recomputes

    def forward(self, features: Tensor) -> tuple[list[Tensor], Tensor]:
        """As blocks of deep fusion do: a list, and more."""
        result = self.layer(features)
        return [result], features


class Parts(nn.Module):
    """Two parts that compute again, one that does not."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(Part(recomputes=recomputes) for recomputes in (True, False, True))

    def forward(self, features: Tensor) -> Tensor:
        """Through all of them."""
        for part in self.parts:
            features = part(features)[0][0]
        return features


@pytest.fixture
def returned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry each time memory is given back."""
    times: list[int] = []
    monkeypatch.setattr(memory, "freed_memory_returner", lambda: lambda: times.append(1))
    return times


def test_memory_goes_back_once_before_each_part_that_computes_again(returned: list[int]) -> None:
    model = Parts()
    assert return_memory_between_parts(model) == 2
    loss = model(torch.ones(1, 2)).sum()
    assert returned == []
    loss.backward()
    assert returned == [1, 1]


def test_gradients_stay_as_they_are(returned: list[int]) -> None:
    torch.manual_seed(0)
    model = Parts()
    model(torch.ones(1, 2)).sum().backward()
    before = [weight.grad for weight in model.parameters()]
    model.zero_grad(set_to_none=True)
    return_memory_between_parts(model)
    model(torch.ones(1, 2)).sum().backward()
    assert returned
    torch.testing.assert_close([weight.grad for weight in model.parameters()], before, rtol=0, atol=0)


def test_without_gradients_nothing_happens(returned: list[int]) -> None:
    model = Parts()
    return_memory_between_parts(model)
    with torch.no_grad():
        model(torch.ones(1, 2))
    assert returned == []


def test_a_model_that_keeps_its_activations_has_no_such_parts(returned: list[int]) -> None:
    assert return_memory_between_parts(nn.Linear(2, 2)) == 0


def test_a_library_that_cannot_do_it_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert freed_memory_returner() is None
    assert return_memory_between_parts(Parts()) == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_glibc_can_do_it() -> None:
    give_back = freed_memory_returner()
    assert give_back is not None
    give_back()
