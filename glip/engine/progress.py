"""How fast a run goes, how much memory it takes, and when it will be done."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

GIGABYTE = 2**30
SPEED_PERIOD = 3600.0  # seconds that the time left is judged by; a step may take a minute
UNIT_OF_PEAK = 1 if sys.platform == "darwin" else 1024  # bytes that `ru_maxrss` counts in
Speed = dict[str, float]


class Progress:
    """Times the steps of a run; a bar on a terminal, nothing elsewhere.

    Args:
        steps: of the whole run.
        batch_size: pictures a step, of all processes together.
        done: steps that an earlier start of the run has made.
    """

    def __init__(self, steps: int, batch_size: int, *, done: int = 0) -> None:
        self.steps = steps
        self.batch_size = batch_size
        self.first = done
        self.started = time.monotonic()
        console = Console(stderr=True)
        columns = (
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        self.bar = Bar(*columns, console=console, disable=not console.is_terminal, speed_estimate_period=SPEED_PERIOD)
        self.task = self.bar.add_task("", total=steps, completed=done)

    @contextmanager
    def shown(self, *, is_main: bool) -> Iterator[None]:
        """Show the bar, in the main process, for as long as the block runs."""
        self.started = time.monotonic()
        self.bar.disable = self.bar.disable or not is_main
        with self.bar:
            yield

    def advance(self) -> None:
        """A step is done."""
        self.bar.advance(self.task)

    def say(self, *, losses: Mapping[str, float], learning_rate: float, speed: Speed) -> None:
        """Write the newest numbers beside the bar."""
        terms = " ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in losses.items())
        pace = f"{speed['images_per_second']:.1f} images/s {speed['memory_gb']:.1f} GB"
        self.bar.update(self.task, description=f"{terms} rate {learning_rate:.1e} {pace}")

    def note(self, text: str) -> None:
        """A line above the bar; nothing elsewhere, where the log says it."""
        if not self.bar.disable:
            self.bar.console.print(text, highlight=False)

    def speed(self, step: int, device: torch.device) -> Speed:
        """What a line of the log says of it, `step` steps being done.

        Returns:
            seconds_per_step and images_per_second since this start, memory_gb (most so far, of this process), and
            seconds_left.
        """
        seconds = (time.monotonic() - self.started) / max(step - self.first, 1)
        return {
            "seconds_per_step": round(seconds, 3),
            "images_per_second": round(self.batch_size / max(seconds, 1e-9), 2),
            "memory_gb": round(peak_memory(device) / GIGABYTE, 2),
            "seconds_left": round(seconds * (self.steps - step)),
        }


def peak_memory(device: torch.device) -> int:
    """Bytes that this process has held at most: of the GPU's memory, or of the machine's; 0 where nobody counts."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT_OF_PEAK
