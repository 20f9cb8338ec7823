"""What each of two processes computes for test_regions.py: loss and gradients of two of four pictures."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed

from glip.contrastive.regions import RegionWordLoss
from glip.structures.tasks import TaskOutput, TaskTruth

PROCESSES = 2
LENGTHS = (3, 3, 5, 4)  # tokens of the captions


@dataclass(frozen=True, eq=False)
class Pictures:
    """Three anchors each, two of them with the same box."""

    regions: Tensor
    words: Tensor
    mask: Tensor
    keys: Tensor

    def part(self, rows: slice) -> "Pictures":
        """Some of them, no longer than their captions need."""
        length = int(self.mask[rows].sum(dim=1).max())
        return Pictures(
            self.regions.detach()[rows].clone().requires_grad_(),
            self.words.detach()[rows, :length].clone().requires_grad_(),
            self.mask[rows, :length],
            self.keys[rows, :length],
        )

    def loss(self) -> Tensor:
        """Token 1 names the box."""
        said = TaskOutput(
            region_embeddings=torch.nn.functional.normalize(self.regions, dim=-1),
            word_embeddings=torch.nn.functional.normalize(self.words, dim=-1),
            contrast_scale=torch.tensor(3.0),
        )
        count = len(self.regions)
        token_map = torch.zeros(1, self.mask.shape[1], dtype=torch.bool)
        token_map[:, 1] = True
        return RegionWordLoss(most_regions=3, reduce_mean=mean_of_processes)(
            said,
            self.mask,
            [torch.tensor([0, -1, 0])] * count,
            [token_map] * count,
            TaskTruth(token_keys=self.keys, token_nouns=self.keys // 10),
        )


def pictures() -> Pictures:
    """Four pictures: two of one name, one that shares its noun, and one of another."""
    draw = torch.Generator().manual_seed(0)
    longest = max(LENGTHS)
    keys = torch.zeros(4, longest, dtype=torch.int64)
    keys[:, 1] = torch.tensor([11, 12, 11, 21])
    return Pictures(
        torch.randn(4, 3, 4, generator=draw).requires_grad_(),
        torch.randn(4, longest, 4, generator=draw).requires_grad_(),
        torch.arange(longest) < torch.tensor(LENGTHS)[:, None],
        keys,
    )


def mean_of_processes(number: Tensor) -> Tensor:
    """As training has it."""
    if not distributed.is_initialized():
        return number
    total = number.detach().clone()
    distributed.all_reduce(total)
    return total / PROCESSES


def process(rank: int, folder: str) -> None:
    """Write `RANK.pt`: the mean of the losses, and this process's gradients as averaging processes leaves them."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=PROCESSES)
    mine = pictures().part(slice(2 * rank, 2 * rank + 2))
    loss = mine.loss()
    loss.backward()
    assert mine.regions.grad is not None
    assert mine.words.grad is not None
    gradients = (mine.regions.grad / PROCESSES, mine.words.grad / PROCESSES)
    torch.save((mean_of_processes(loss), *gradients), Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()
