"""Some samples of a dataset: those that teach, or those that judge."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from modelopt_cli.data.dataset import Dataset, Sample, spread
from modelopt_cli.errors import DataError


@dataclass(frozen=True)
class Part:
    """Chosen steps of another dataset, without its ground truth.

    Attributes:
        whole: The other dataset.
        steps: Which steps of its iteration, rising.
    """

    whole: Dataset
    steps: Sequence[int]

    labels: None = None

    @property
    def source(self) -> str:
        """The other dataset's."""
        return self.whole.source

    @property
    def batch_size(self) -> int:
        """The other dataset's."""
        return self.whole.batch_size

    def __len__(self) -> int:
        size = self.batch_size
        return sum(min(size, len(self.whole) - step * size) for step in self.steps)

    def __iter__(self) -> Iterator[Sample]:
        chosen = set(self.steps)
        return (sample for step, sample in enumerate(self.whole) if step in chosen)

    def take(self, count: int) -> Part:
        """See `Dataset.take`; whole steps."""
        wanted = -(-count // self.batch_size)
        return Part(self.whole, [self.steps[index] for index in spread(len(self.steps), wanted)])

    def extra(self, name: str) -> np.ndarray:
        """See `Dataset.extra`; never there."""
        raise DataError(f"'{name}' is not read from a part of the data", where=self.source)

    def digest(self) -> str:
        """See `Dataset.digest`."""
        return hashlib.sha256(f"{self.whole.digest()} {list(self.steps)}".encode()).hexdigest()


def split_off(data: Dataset, every: int) -> tuple[Part, Part]:
    """All but every n-th step of the data, and every n-th one; neighbours are often alike, so the last of each n.

    Args:
        data: At least ``every`` steps, or the second part is empty.
        every: n.
    """
    steps = range(-(-len(data) // data.batch_size))
    return (
        Part(data, [step for step in steps if step % every != every - 1]),
        Part(data, [step for step in steps if step % every == every - 1]),
    )
