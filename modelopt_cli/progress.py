"""Where long work says how far it is; the command line draws it, everything else stays silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """A sink for progress: ``with progress.task("calibrating", total=100) as advance: advance(1)``."""

    def task(self, label: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Start one task of ``total`` steps (None: unknown)."""
        ...

    def note(self, message: str) -> None:
        """One line for the person who waits; never the payload."""
        ...


class Silent:
    """The progress sink that says nothing: the default of the Python API and of tests."""

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Advance]:
        yield lambda steps: None

    def note(self, message: str) -> None:
        pass
