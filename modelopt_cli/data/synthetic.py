"""Random samples in a model's own signature, for those who ask for them in so many words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from modelopt_cli.data.dataset import Sample
from modelopt_cli.data.signature import InputSpec, Signature
from modelopt_cli.errors import DataError, UsageError


@dataclass(frozen=True)
class RandomDataset:
    """Standard normal floats, integers 0 or 1 (legal for any embedding of two rows), and masks of ones.

    They say nothing about the activations of real inputs: whoever uses them stamps that in the report.

    Args:
        inputs: The model's signature.
        count: Number of samples.
        seed: Same seed, same samples.
        shapes: Full shape by input name, for inputs with free dimensions. The first dimension is 1 where it is free.

    Raises:
        UsageError: On construction, when a free dimension has no size.
    """

    inputs: Signature
    count: int
    seed: int = 0
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)

    source = "<random>"
    labels = None
    batch_size = 1

    def __post_init__(self) -> None:
        for spec in self.inputs:
            self._shape(spec)

    def __len__(self) -> int:
        """The number of samples."""
        return self.count

    def __iter__(self) -> Iterator[Sample]:
        """Yield one sample at a time; each draws from a generator of its own, so that `take` keeps the first ones."""
        for index in range(self.count):
            rng = np.random.default_rng((self.seed, index))
            yield {spec.name: self._draw(spec, rng) for spec in self.inputs}

    def take(self, count: int) -> RandomDataset:
        """The first ``count`` samples: random ones need no spreading."""
        return replace(self, count=min(count, self.count))

    def extra(self, name: str) -> np.ndarray:
        """Random data has no other members.

        Raises:
            DataError: Always.
        """
        raise DataError(f"random data has no member '{name}'", where=self.source)

    def digest(self) -> str:
        """Hex sha256 of what determines the samples."""
        shapes = {spec.name: self._shape(spec) for spec in self.inputs}
        return hashlib.sha256(f"{self.inputs} {self.count} {self.seed} {shapes}".encode()).hexdigest()

    def _shape(self, spec: InputSpec) -> tuple[int, ...]:
        if spec.name in self.shapes:
            return tuple(self.shapes[spec.name])
        dims = [1 if axis == 0 and not isinstance(dim, int) else dim for axis, dim in enumerate(spec.shape or (None,))]
        if spec.shape is None or not all(isinstance(dim, int) for dim in dims):
            raise UsageError(
                f"input '{spec.name}' {spec} has free dimensions",
                where="random data",
                hint=f"--shape {spec.name}={'x'.join(str(d) if isinstance(d, int) else 'N' for d in dims)}",
            )
        return tuple(int(dim) for dim in dims if dim is not None)

    def _draw(self, spec: InputSpec, rng: np.random.Generator) -> np.ndarray:
        shape = self._shape(spec)
        if spec.dtype.kind in "iub":
            ones = "mask" in spec.name.lower()
            return np.ones(shape, spec.dtype) if ones else rng.integers(0, 2, shape).astype(spec.dtype)
        return rng.standard_normal(shape, np.float32).astype(spec.dtype)
