"""What a metric is: a function of sums over samples, or of all samples at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from modelopt_cli.errors import DataError


class Metric(Protocol):
    """A metric as sums over samples, which is what makes a paired bootstrap over samples cheap.

    Attributes:
        name: The word of recipes and reports.
        truth: The member of the data that holds the ground truth: ``labels`` or ``boxes``.
        higher_is_better: Which way is good.
        counts_hits: The sums are [hits, trials] of yes-or-no answers, one per sample unless a sample has several.
    """

    name: ClassVar[str]
    truth: ClassVar[str]
    higher_is_better: ClassVar[bool]
    counts_hits: ClassVar[bool]

    def sums(self, output: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """What one sample adds, shape [k].

        Args:
            output: The model's output for the sample, without the batch axis.
            truth: The sample's ground truth.

        Raises:
            DataError: Output and truth do not fit each other.
        """
        ...

    def value(self, totals: np.ndarray) -> np.ndarray:
        """The metric from sums over samples, shape [..., k] -> [...]."""
        ...


@runtime_checkable
class ByClass(Protocol):
    """A metric that is a mean over classes, and can say each."""

    def by_class(self, totals: np.ndarray) -> np.ndarray:
        """From sums over samples, shape [k] -> [classes]; NaN for classes that do not occur."""
        ...


@runtime_checkable
class WholeMetric(Protocol):
    """A metric that needs all samples at once: it ranks them, or looks for neighbours among them.

    Attributes:
        truth: As of `Metric`.
        higher_is_better: Likewise.
        resamples: Draws of the bootstrap of a difference; 0 where one evaluation is too dear for that.
    """

    truth: ClassVar[str]
    higher_is_better: ClassVar[bool]
    resamples: ClassVar[int]

    @property
    def name(self) -> str:
        """The word of recipes and reports."""
        ...

    def keep(self, output: np.ndarray, truth: np.ndarray) -> Any:
        """What is remembered of one sample; arguments and errors as of `Metric.sums`."""
        ...

    def score(self, kept: Sequence[Any]) -> float:
        """The metric of all samples."""
        ...


AnyMetric = Metric | WholeMetric


def same_size(metric: str, output: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Output and truth as flat float64 arrays.

    Raises:
        DataError: They differ in size.
    """
    if output.size != truth.size:
        message = f"output {list(output.shape)} and labels {list(truth.shape)} differ in size"
        raise DataError(message, where=metric, hint="labels must have the shape of the output")
    return output.reshape(-1).astype(np.float64), truth.reshape(-1).astype(np.float64)


def class_scores(metric: str, output: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores [n, classes], labels [n] and which of them count: negative ones do not.

    Outputs are [classes] with a scalar label, or [..., classes] with labels of shape [...].

    Raises:
        DataError: They do not fit, or a label is no class of the output.
    """
    label = truth.reshape(-1)
    scores = output.reshape(label.size, -1) if label.size == 1 else output.reshape(-1, output.shape[-1])
    if label.dtype.kind not in "iub" or len(scores) != label.size or int(label.max(initial=0)) >= scores.shape[-1]:
        raise DataError(
            f"labels {truth.dtype}{list(truth.shape)} are no classes of an output {list(output.shape)}",
            where=metric,
            hint="labels are class indices, and the output holds a score per class on its last axis",
        )
    valid = label >= 0 if label.dtype.kind == "i" else np.ones(label.size, bool)
    return scores, label, valid


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Their quotient, 0 where the denominator is 0."""
    result: np.ndarray = np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), 0.0)
    return result
