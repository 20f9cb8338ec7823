"""A run says how fast it is: on a terminal beside a bar, elsewhere in the log only."""

import resource
from pathlib import Path

import pytest
import torch

from glip.engine.progress import GIGABYTE, Progress, peak_memory

LOSSES = {"loss_alignment": 0.25, "loss_giou": 0.5}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock shows; the last entry is now."""
    shown = [100.0]
    monkeypatch.setattr("glip.engine.progress.time.monotonic", lambda: shown[-1])
    return shown


def test_speed_counts_the_steps_since_this_start(clock: list[float]) -> None:
    progress = Progress(30, 4, done=10)
    with progress.shown(is_main=True):
        clock.append(110.0)
        speed = progress.speed(15, torch.device("cpu"))
    assert speed["seconds_per_step"] == 2.0
    assert speed["images_per_second"] == 2.0
    assert speed["seconds_left"] == 30
    assert speed["memory_gb"] == pytest.approx(peak_memory(torch.device("cpu")) / GIGABYTE, abs=0.1)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads what Linux says")
def test_peak_memory_is_in_bytes() -> None:
    now = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    held = torch.ones(2 * peak_memory(torch.device("cpu")) - now, dtype=torch.uint8)
    assert peak_memory(torch.device("cpu")) == pytest.approx(now + len(held), rel=0.05)


def test_nothing_is_drawn_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(3, 4)
    with progress.shown(is_main=True):
        progress.advance()
        progress.say(losses=LOSSES, learning_rate=1e-4, speed=progress.speed(1, torch.device("cpu")))
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_a_terminal_sees_the_step_the_losses_and_the_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    progress = Progress(3, 4, done=1)
    with progress.shown(is_main=True):
        progress.advance()
        progress.say(losses=LOSSES, learning_rate=1e-4, speed=progress.speed(2, torch.device("cpu")))
    err = capsys.readouterr().err
    assert "2/3" in err
    assert "alignment 0.250 giou 0.500 rate 1.0e-04" in err


def test_other_processes_draw_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Progress(3, 4).shown(is_main=False):
        pass
    assert capsys.readouterr().err == ""
