"""The one place where an exception becomes lines on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from modelopt_cli.errors import ExitCode, ModelOptError, RecipeError

SIGPIPE_STATUS = 141  # 128 + SIGPIPE: what a shell reports of a program that the closed pipe ended
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


_interrupted = threading.Event()


def interrupt(signum: int, frame: FrameType | None) -> None:
    """The handler of SIGINT and SIGTERM: `KeyboardInterrupt`, and a note that it was one, whatever becomes of it."""
    _interrupted.set()
    raise KeyboardInterrupt


@contextmanager
def boundary(debug: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Turn whatever the body raises into a message and `SystemExit`; output that is still buffered is flushed inside.

    Args:
        debug: Asked when something was raised: whether to print the traceback too.
    """
    try:
        yield
        sys.stdout.flush()
    except SystemExit:
        raise
    except BaseException as error:
        if _is_framework(error) and not _interrupted.is_set():
            raise
        # An extension module that is interrupted while it is imported makes an ImportError of it.
        code, lines = explain(KeyboardInterrupt() if _interrupted.is_set() else error)
        if debug():
            traceback.print_exc()
        with suppress(OSError):  # stderr may be closed as well; the exit code still speaks
            sys.stderr.write("".join(f"{line}\n" for line in lines))
            sys.stderr.flush()
        raise SystemExit(code) from None


def explain(error: BaseException) -> tuple[int, list[str]]:
    """The exit code of an error, and the lines that say what is wrong."""
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED, ["modelopt: interrupted"]
    if isinstance(error, BrokenPipeError):
        _discard_stdout()
        return SIGPIPE_STATUS, []
    if isinstance(error, RecipeError):
        return error.exit_code, [f"modelopt: error: {problem}" for problem in error.problems]
    if isinstance(error, ModelOptError):
        where = f"{error.where}: " if error.where else ""
        hint = [f"  hint: {error.hint}"] if error.hint else []
        return error.exit_code, [f"modelopt: error: {where}{error.message}", *hint]
    if isinstance(error, MemoryError):
        return ExitCode.FAILED, ["modelopt: error: not enough memory"]
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        _discard_stdout()
        place = f"{error.filename}: " if error.filename else ""
        return ExitCode.FAILED, [f"modelopt: error: {place}the disk is full", "  hint: free some space"]
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    hint_line = "  hint: this is a bug of modelopt: please report it with what --debug prints"
    return ExitCode.BUG, [f"modelopt: internal error: {what}", hint_line]


def _is_framework(error: BaseException) -> bool:
    """Whether typer raised it to print usage or to leave; it knows the exit code. No import here: Ctrl-C may hit it."""
    return any(base.__name__ in ("ClickException", "Exit", "Abort") for base in type(error).__mro__)


def _discard_stdout() -> None:
    # What is left in the buffer would be flushed, and fail again, when the interpreter ends.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
