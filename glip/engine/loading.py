"""Batches from worker processes, with errors in their own words.

A DataLoader's worker wraps an error into pages of traceback. Here an error travels as a value and is raised where the
batch is taken.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from torch.utils.data import DataLoader, Dataset

from glip.data.dataset import BatchSampler, Draw
from glip.errors import GlipError

Item = TypeVar("Item")
Sample = TypeVar("Sample")
Batch = TypeVar("Batch")


def load_batches(
    dataset: Dataset[Sample], sampler: BatchSampler, collate: Callable[[Sequence[Sample]], Batch], *, workers: int
) -> Iterator[Batch]:
    """Endless batches.

    Args:
        dataset: examples.
        sampler: which of them, and all of their chance.
        collate: samples to a batch.
        workers: processes that read pictures; 0 for this one.

    Raises:
        GlipError: a picture cannot be read.
    """
    loader: DataLoader[Any] = DataLoader(
        _Careful(dataset), batch_sampler=sampler, collate_fn=_CarefulCollate(collate), num_workers=workers
    )
    return raising(loader)


def raising(items: Iterable[Item | GlipError]) -> Iterator[Item]:
    """The items; an error among them is raised when its turn comes."""
    for item in items:
        if isinstance(item, GlipError):
            raise item
        yield item


class _Careful(Dataset[Sample | GlipError], Generic[Sample]):
    """Samples, or the errors that stand in their places."""

    def __init__(self, dataset: Dataset[Sample]) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Draw) -> Sample | GlipError:
        try:
            return self.dataset[key]
        except GlipError as error:
            return error


class _CarefulCollate(Generic[Sample, Batch]):
    """A batch, or the first error among its samples."""

    def __init__(self, collate: Callable[[Sequence[Sample]], Batch]) -> None:
        self.collate = collate

    def __call__(self, found: Sequence[Sample | GlipError]) -> Batch | GlipError:
        errors = [one for one in found if isinstance(one, GlipError)]
        return errors[0] if errors else self.collate([one for one in found if not isinstance(one, GlipError)])
