"""Rows of all processes as one tensor, with gradients that find their way back."""

from typing import Any

import torch
from torch import Tensor, distributed


def process_index() -> int:
    """Which process this is, from 0; 0 where there is one."""
    return distributed.get_rank() if _is_distributed() else 0


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of every process behind each other, in the order of the processes.

    The backward pass adds up what every process's loss says of this process's rows. Where gradients are then averaged
    over processes, as DistributedDataParallel does, the result is the gradient of the mean of all processes' losses.
    All processes must call, with equally many rows.

    Args:
        rows: `(B, ...)` of this process.

    Returns:
        `(W B, ...)`, W the number of processes; the argument itself where there is one.
    """
    if not _is_distributed():
        return rows
    gathered: Tensor = _Gather.apply(rows)
    return gathered


def largest_of_processes(number: int, *, device: torch.device) -> int:
    """The largest of what each process gives; all processes must call.

    Args:
        number: of this process.
        device: where processes talk.
    """
    if not _is_distributed():
        return number
    largest = torch.tensor(number, device=device)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return int(largest)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        shares = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(shares, rows.contiguous())
        return torch.cat(shares)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        start = distributed.get_rank() * ctx.count
        return total[start : start + ctx.count]


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()
