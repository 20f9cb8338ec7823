"""Two processes with half the pairs each give the loss and the gradients of one process with all, for every option."""

from pathlib import Path

import pytest
import torch
from torch import multiprocessing

from glip.layers.gathering import gather_rows, process_index
from tests.contrastive.pairs import GROUPS, LOSSES, TwoTowers, gradients, pair_inputs
from tests.contrastive.two_processes import PROCESSES, Result, process


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Result]]:
    """What each process wrote."""
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(process, args=(str(folder),), nprocs=PROCESSES)  # type: ignore[attr-defined]
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize("has_groups", [False, True], ids=["no groups", "groups"])
@pytest.mark.parametrize("way", ["at once", "in parts"])
@pytest.mark.parametrize("name", LOSSES)
def test_two_processes_are_one_with(name: str, way: str, has_groups: bool, answers: list[dict[str, Result]]) -> None:
    model = TwoTowers()
    expected = LOSSES[name](model(pair_inputs()), GROUPS if has_groups else None)
    expected.backward()
    for rank in range(PROCESSES):
        loss, found = answers[rank][f"{name}, {way}, {has_groups}"]
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found, gradients(model), rtol=1e-8, atol=1e-10)


def test_one_process_gathers_its_own_rows() -> None:
    rows = torch.arange(3.0)
    assert gather_rows(rows) is rows
    assert gather_rows(torch.empty(0, 2)).shape == (0, 2)
    assert process_index() == 0
