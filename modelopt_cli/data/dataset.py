"""A stream of samples: never a list, never the whole file in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np

Sample = Mapping[str, np.ndarray]
"""One sample: model input name -> array with a leading batch dimension of 1."""


class Dataset(Protocol):
    """Samples that can be gone through several times, one at a time.

    Attributes:
        source: What the user called it, for messages and the report.
        labels: Ground truth with the sample as first axis, or None.
    """

    @property
    def source(self) -> str: ...

    @property
    def labels(self) -> np.ndarray | None: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample]: ...

    def take(self, count: int) -> Dataset:
        """At most ``count`` samples, spread evenly over the whole; the same ones each time."""
        ...

    def digest(self) -> str:
        """Hex sha256 of the content, for caches and provenance."""
        ...
