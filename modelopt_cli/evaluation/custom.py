"""A metric of the user's own: a function of outputs and labels. It runs code: only an explicit flag leads here."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from modelopt_cli.errors import DataError, UsageError


@dataclass(frozen=True)
class CustomMetric:
    """``function(outputs, labels) -> float``, higher being better.

    Attributes:
        label: ``module:function``.
        function: Given the outputs of all samples without their batch axis, and the labels; each as one array where
            the samples have one shape, and as a list otherwise.
    """

    label: str
    function: Callable[[Any, Any], Any]
    truth: ClassVar[str] = "labels"
    higher_is_better: ClassVar[bool] = True
    resamples: ClassVar[int] = 0  # nothing is known of what a call costs

    @property
    def name(self) -> str:
        """``module:function``."""
        return self.label

    def keep(self, output: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both as they are."""
        return output, truth

    def score(self, kept: Sequence[Any]) -> float:
        """What the function says.

        Raises:
            DataError: It failed, or did not give a finite number.
        """
        outputs, labels = ([pair[side] for pair in kept] for side in (0, 1))
        try:
            value = float(self.function(_stacked(outputs), _stacked(labels)))
        except Exception as error:
            raise DataError(f"failed: {type(error).__name__}: {error}", where=self.label) from error
        if not np.isfinite(value):
            raise DataError(f"gave {value}", where=self.label, hint="a metric is a finite number")
        return value


def load_metric(module: str, function: str) -> CustomMetric:
    """Import a metric; modules of the working directory are found too.

    Raises:
        UsageError: There is no such module or function.
    """
    label = f"{module}:{function}"
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"cannot be imported: {error}", where=label) from error
    if not callable(found):
        raise UsageError("is not a function", where=label)
    return CustomMetric(label, found)


def _stacked(arrays: list[np.ndarray]) -> Any:
    return np.stack(arrays) if len({array.shape for array in arrays}) == 1 else arrays
