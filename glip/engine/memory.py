"""Memory that training gives back to the system."""

import ctypes
from collections.abc import Callable

from torch import Tensor, nn


def freed_memory_returner() -> Callable[[], object] | None:
    """What makes the C library give freed memory back to the system; None where it knows no such thing."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library (musl, macOS), or Windows
        return None
    return lambda: trim(0)


def return_memory_between_parts(model: nn.Module) -> int:
    """Let a CPU's backward pass give freed memory back in front of each part that computes its activations again.

    A part leaves holes in the heap that the next part's activations do not fit into; without this the peak grows by a
    seventh. Some thirty milliseconds a part and step.

    Args:
        model: its parts have been told to recompute (`recompute_activations`).

    Returns:
        How many parts there are; 0 also where the C library cannot do it.
    """
    give_back = freed_memory_returner()
    parts = [part for part in model.modules() if getattr(part, "gradient_checkpointing", False)]
    if give_back is None:
        return 0
    for part in parts:
        part.register_forward_hook(lambda _, __, output: _before_gradient(output, give_back))
    return len(parts)


def _before_gradient(output: object, act: Callable[[], object]) -> None:
    """Act when the gradient arrives at a part, which is before anything of the part is computed again."""
    while isinstance(output, list | tuple):
        output = output[0]
    if isinstance(output, Tensor) and output.requires_grad:
        output.register_hook(lambda _: _nothing(act()))


def _nothing(_: object) -> None:
    """A gradient hook that gives something back would replace the gradient."""
