"""A stream of samples: never a list, never the whole file in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np

Sample = Mapping[str, np.ndarray]
"""One step of a dataset: model input name -> array whose first axis holds `Dataset.batch_size` samples (normally 1)."""

LABEL_NAMES = ("labels", "label", "y")
"""Member names that hold ground truth, unless the model takes an input of that name."""


class Dataset(Protocol):
    """Samples that can be gone through several times, one at a time.

    Attributes:
        source: What the user called it, for messages and the report.
        labels: Ground truth with the sample as first axis, or None.
        batch_size: Samples per step of the iteration. It is 1 but for models whose batch dimension is fixed to another
            number; then the last step repeats its last sample to be full, and whoever counts leaves the repeats out.
    """

    @property
    def source(self) -> str: ...

    @property
    def labels(self) -> np.ndarray | None: ...

    @property
    def batch_size(self) -> int: ...

    def __len__(self) -> int:
        """The number of samples (not of steps)."""
        ...

    def __iter__(self) -> Iterator[Sample]: ...

    def take(self, count: int) -> Dataset:
        """At most ``count`` samples, spread evenly over the whole; the same ones each time."""
        ...

    def extra(self, name: str) -> np.ndarray:
        """All of a member that is not a model input (``boxes``), the sample as first axis.

        Raises:
            DataError: There is no such member.
        """
        ...

    def digest(self) -> str:
        """Hex sha256 of the content, for caches and provenance."""
        ...


def spread(total: int, count: int) -> np.ndarray:
    """Indices of ``count`` out of ``total`` samples: sorted, distinct, evenly spaced, the first one included."""
    return np.arange(total) if count >= total else np.arange(count) * total // count
