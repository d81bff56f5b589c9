"""What a person sees: the payload on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from modelopt_cli.progress import Advance, Progress, Silent

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress as Bars

PLAIN_LINE_EVERY_SECONDS = 10.0


def say(message: str) -> None:
    """One line on stderr."""
    print_error([f"modelopt: {message}"])


def print_error(lines: Iterable[str]) -> None:
    """Lines on stderr as they are."""
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.flush()


def print_json(payload: Any) -> None:
    """The payload of ``--json``: one document on stdout, NaN and infinity as null (JSON has neither)."""
    sys.stdout.write(json.dumps(_finite(payload), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def print_payload(*renderables: RenderableType, to_stderr: bool = False) -> None:
    """Tables and text on stdout: coloured on a terminal only, ``COLUMNS`` wide, 80 in a pipe."""
    stream = sys.stderr if to_stderr else sys.stdout
    console = _console(stream)
    with console.capture() as captured:  # written by us: rich answers a closed pipe with an exit code of its own
        for renderable in renderables:
            console.print(renderable, soft_wrap=isinstance(renderable, str))  # a path is not broken: it gets copied
    stream.write("\n".join(line.rstrip() for line in captured.get().split("\n")))


def progress_sink(quiet: bool) -> Progress:
    """Bars on a terminal, a plain line now and then elsewhere, nothing with ``--quiet``."""
    if quiet:
        return Silent()
    return BarProgress() if sys.stderr.isatty() else PlainProgress()


class PlainProgress:
    """A line when a task has run for a while, then one each `PLAIN_LINE_EVERY_SECONDS`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Advance]:
        started = last = self._clock()
        done = 0

        def advance(steps: int) -> None:
            nonlocal done, last
            done += steps
            now = self._clock()
            if now - last >= PLAIN_LINE_EVERY_SECONDS:
                last = now
                say(_plain_line(label, done, total, now - started))

        yield advance

    def note(self, message: str) -> None:
        say(message)


class BarProgress:
    """Bars of rich on stderr, gone when their task is done; tasks may nest."""

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._running = 0

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Advance]:
        bars = self._open()
        task = bars.add_task(label, total=total)
        try:
            yield lambda steps: bars.advance(task, steps)
        finally:
            bars.remove_task(task)
            self._close()

    def note(self, message: str) -> None:
        if self._bars is not None:
            self._bars.console.print(f"modelopt: {message}", markup=False, highlight=False)
        else:
            say(message)

    def _open(self) -> Bars:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        if self._bars is None:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bars = Bars(*columns, console=_console(sys.stderr), transient=True)
            self._bars.start()
        self._running += 1
        return self._bars

    def _close(self) -> None:
        self._running -= 1
        if self._running == 0 and self._bars is not None:
            self._bars.stop()
            self._bars = None


def _plain_line(label: str, done: int, total: int | None, seconds: float) -> str:
    if not total:
        return f"{label}: {seconds:.0f} s"
    left = seconds / done * (total - done) if done else 0.0
    return f"{label}: {done}/{total}, about {left:.0f} s left"


def _console(stream: Any) -> Console:
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, soft_wrap=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
