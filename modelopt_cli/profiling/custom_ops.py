"""Libraries of custom operators: loaded into every session of this process, and of the processes that it starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from modelopt_cli.errors import UsageError

VARIABLE = "MODELOPT_CUSTOM_OPS"  # what child processes inherit; paths as in PATH


def use_custom_ops(libraries: Sequence[Path]) -> None:
    """From now on every session knows the operators of these libraries.

    Raises:
        UsageError: There is no such file.
    """
    for library in libraries:
        if not library.is_file():
            raise UsageError("no such file", where=str(library), hint="--custom-ops takes the path of a shared library")
    os.environ[VARIABLE] = os.pathsep.join(str(library.resolve()) for library in libraries)


def custom_ops() -> tuple[Path, ...]:
    """The libraries in use."""
    return tuple(map(Path, filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))))


def register_custom_ops(options: Any, ort: ModuleType) -> None:
    """Load the libraries into the options of a session.

    Raises:
        UsageError: A library cannot be loaded, or is none of custom operators.
    """
    for library in custom_ops():
        try:
            options.register_custom_ops_library(str(library))
        except Exception as error:
            reason = str(error).splitlines()[0].rpartition(" : ")[2]
            message = f"cannot be loaded as a library of custom operators: {reason}"
            hint = f"built for onnxruntime {ort.__version__}, with RegisterCustomOps in it?"
            raise UsageError(message, where=str(library), hint=hint) from error
