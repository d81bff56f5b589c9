"""The one place where an exception becomes lines on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from modelopt_cli.errors import ExitCode, ModelOptError, RecipeError

SIGPIPE_STATUS = 141  # 128 + SIGPIPE: what a shell reports of a program that the closed pipe ended
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def boundary(debug: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Turn whatever the body raises into a message and `SystemExit`; output that is still buffered is flushed inside.

    Args:
        debug: Asked when something was raised: whether to print the traceback too.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()
        raise SystemExit(SIGPIPE_STATUS) from None
    except KeyboardInterrupt:
        _leave(debug(), ExitCode.INTERRUPTED, "modelopt: interrupted")
    except RecipeError as error:
        _leave(debug(), error.exit_code, *(f"modelopt: error: {problem}" for problem in error.problems))
    except ModelOptError as error:
        where = f"{error.where}: " if error.where else ""
        hint = [f"  hint: {error.hint}"] if error.hint else []
        _leave(debug(), error.exit_code, f"modelopt: error: {where}{error.message}", *hint)
    except MemoryError:
        _leave(debug(), ExitCode.FAILED, "modelopt: error: not enough memory")
    except Exception as error:
        if _is_framework(error):
            raise
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            _discard_stdout()
            place = f"{error.filename}: " if error.filename else ""
            _leave(debug(), ExitCode.FAILED, f"modelopt: error: {place}the disk is full", "  hint: free some space")
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        _leave(
            debug(),
            ExitCode.BUG,
            f"modelopt: internal error: {what}",
            "  hint: this is a bug of modelopt: please report it with what --debug prints",
        )


def _is_framework(error: Exception) -> bool:
    """Whether typer raised it to print usage or to leave; it knows the exit code. No import here: Ctrl-C may hit it."""
    return any(base.__name__ in ("ClickException", "Exit", "Abort") for base in type(error).__mro__)


def _leave(debug: bool, code: int, *lines: str) -> NoReturn:
    if debug:
        traceback.print_exc()
    with suppress(OSError):  # stderr may be closed as well; the exit code still speaks
        print(*lines, sep="\n", file=sys.stderr, flush=True)  # noqa: T201 the boundary is the command line's voice
    raise SystemExit(code)


def _discard_stdout() -> None:
    # What is left in the buffer would be flushed, and fail again, when the interpreter ends.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
