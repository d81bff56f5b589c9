"""Data that is no file, brought into files: what comes through a pipe, and what a function of the user's makes."""

from __future__ import annotations

import atexit
import functools
import importlib
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modelopt_cli.errors import DataError, UsageError


def spool_stdin() -> Path:
    """Stdin as a temporary file, which is gone when the program ends.

    Raises:
        UsageError: Stdin is a terminal.
        DataError: Nothing came.
    """
    if sys.stdin.isatty():
        raise UsageError("stdin is a terminal", where="-", hint="pipe an .npz in, or give its path")
    path = _folder() / "stdin.npz"
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    if path.stat().st_size == 0:
        raise DataError("is empty", where="<stdin>", hint="expected an .npz")
    return path


def spool_function(spec: str) -> list[Path]:
    """What ``module:function`` gives, a file for each sample; the working directory is looked in for the module.

    The function takes nothing and returns an iterable of mappings: the model's input -> array whose first axis counts
    samples; ``labels`` is ground truth. It is gone through once, and one sample is held at a time.

    Raises:
        UsageError: There is no such module or function.
        DataError: It raised, or gave something else.
    """
    samples = _call(spec)
    folder, paths = Path(tempfile.mkdtemp(dir=_folder())), []
    try:
        for index, sample in enumerate(samples):
            paths.append(folder / f"{index:08}.npz")
            np.savez(paths[-1], **_arrays(sample, spec))
    except (DataError, UsageError):
        raise
    except Exception as error:  # the user's code may raise anything
        raise DataError(f"raised {type(error).__name__}: {error}", where=spec) from error
    if not paths:
        raise DataError("gave no samples", where=spec)
    return paths


def _call(spec: str) -> Iterable[Any]:
    module_name, _, name = spec.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module_name), name)
    except ImportError as error:
        raise UsageError(
            f"cannot be imported: {error}", where=spec, hint="MODULE:FUNCTION, as Python names it"
        ) from error
    except AttributeError:
        raise UsageError(f"module '{module_name}' has no '{name}'", where=spec) from None
    try:
        samples: Iterable[Any] = function()
        return iter(samples)
    except Exception as error:
        raise DataError(f"raised {type(error).__name__}: {error}", where=spec) from error


def _arrays(sample: Any, spec: str) -> dict[str, Any]:
    if not isinstance(sample, Mapping) or not all(isinstance(name, str) for name in sample):
        raise DataError(
            f"gave {type(sample).__name__}", where=spec, hint="yield a dict of input names to arrays, sample axis first"
        )
    return {name: np.asarray(array) for name, array in sample.items()}


@functools.cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="modelopt-data-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
