"""Garbage collection while a command starts. What imports leave is no garbage, and looking through it takes seconds."""

import atexit
import gc

AS_USUAL = gc.get_threshold()
SELDOM = 100_000  # new objects; a command makes some millions before its model is loaded


def collect_seldom() -> None:
    """Look for garbage seldom from now on, and at the exit not at all."""
    gc.set_threshold(SELDOM)
    atexit.register(gc.freeze)


def collect_as_usual() -> None:
    """The start is over: pictures and training steps may leave cycles that hold tensors."""
    gc.set_threshold(*AS_USUAL)
