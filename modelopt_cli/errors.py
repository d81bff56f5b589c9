"""The one error family of the package, and the exit codes it maps to."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the process tells the shell; documented in the README."""

    OK = 0
    GATE = 1  # the work is done and written, but a `require` or a `diff` gate was missed
    USAGE = 2  # flags, recipe, unwritable path, missing extra
    INPUT = 3  # model or data unreadable or invalid
    FAILED = 4  # a pass failed, or the disk is full
    PROVIDER = 5  # a requested execution provider is not available
    BUG = 70  # EX_SOFTWARE: ours, please report
    INTERRUPTED = 130  # 128 + SIGINT


class ModelOptError(Exception):
    """A failure that a person can act on: what, where, how to fix it.

    Args:
        message: What is wrong, in one line.
        where: The file, node or recipe position, printed before the message.
        hint: How to fix it, printed after the message.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.message}{hint}"


class UsageError(ModelOptError):
    """Flags that contradict each other, a path that cannot be written, an extra that is not installed."""

    exit_code = ExitCode.USAGE


class RecipeError(UsageError):
    """Every mistake of a recipe at once; each line of ``problems`` is ``file:line:column: what``."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class ModelError(ModelOptError):
    """The model cannot be read, or is not a valid ONNX model."""

    exit_code = ExitCode.INPUT


class DataError(ModelOptError):
    """Calibration or evaluation data cannot be read, or does not fit the model."""

    exit_code = ExitCode.INPUT


class PassError(ModelOptError):
    """A pass could not do its work, or broke what it promised."""

    exit_code = ExitCode.FAILED


class OutputError(ModelOptError):
    """The result could not be written (full disk, lost permission); nothing half written is left."""

    exit_code = ExitCode.FAILED


class ProviderError(ModelOptError):
    """A requested execution provider is missing or did not take the model."""

    exit_code = ExitCode.PROVIDER


class GateError(ModelOptError):
    """A gate (``require``, ``report diff``) was missed."""

    exit_code = ExitCode.GATE
