"""The C library's setting that keeps training's peak low."""

import ctypes
import platform

import pytest

from glip.engine import memory
from glip.engine.memory import LARGE_BLOCK, return_large_blocks


class FakeLibrary:
    """A C library that takes the setting down."""

    def __init__(self, answer: int) -> None:
        self.answer = answer
        self.settings: list[tuple[int, int]] = []

    def mallopt(self, name: int, value: int) -> int:
        """As glibc's."""
        self.settings.append((name, value))
        return self.answer


def test_blocks_of_a_megabyte_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeLibrary(answer=1)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    assert return_large_blocks()
    assert library.settings == [(memory.MMAP_THRESHOLD, LARGE_BLOCK)]


def test_a_refusal_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: FakeLibrary(answer=0))
    assert not return_large_blocks()


def test_a_library_without_the_setting_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not return_large_blocks()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_glibc_takes_it() -> None:
    assert return_large_blocks()
