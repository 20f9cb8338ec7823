"""What each of two processes computes for test_processes.py: losses and gradients of its half of the pairs."""

import contextlib
from pathlib import Path

import torch
from torch import Tensor, distributed

from glip.contrastive.cached import cached_backward
from tests.contrastive.pairs import GROUPS, LOSSES, PAIRS, TwoTowers, gradients, pair_inputs

PROCESSES = 2
Result = tuple[Tensor, dict[str, Tensor]]


def process(rank: int, folder: str) -> None:
    """Write `RANK.pt`: by loss and way, the mean over processes of the loss and of the gradients."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=PROCESSES)
    mine = slice(rank * PAIRS // PROCESSES, (rank + 1) * PAIRS // PROCESSES)
    results = {}
    for name in LOSSES:
        for way in ("at once", "in parts"):
            for groups in (None, GROUPS):
                results[f"{name}, {way}, {groups is not None}"] = _run(name, way, mine, groups)
    torch.save(results, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def _run(name: str, way: str, mine: slice, groups: Tensor | None) -> Result:
    model = TwoTowers()
    own_groups = None if groups is None else groups[mine]
    if way == "at once":
        loss = LOSSES[name](model(pair_inputs()[mine]), own_groups)
        loss.backward()
    else:
        loss = cached_backward(
            model,
            pair_inputs()[mine].split([1, 2]),
            lambda output: LOSSES[name](output, own_groups),
            during=lambda _: contextlib.nullcontext(),
        )
    total, sums = loss.detach().clone(), gradients(model)
    for tensor in (total, *sums.values()):
        distributed.all_reduce(tensor)
        tensor.div_(PROCESSES)
    return total, sums
