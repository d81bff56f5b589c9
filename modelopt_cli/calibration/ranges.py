"""What calibration finds out about a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

ObserverName = Literal["minmax", "percentile", "mse", "entropy", "moving-average"]


@dataclass(frozen=True)
class Range:
    """The interval a quantizer should cover, in the tensor's own unit.

    Attributes:
        low: Lower end; may be above 0 when no value was lower.
        high: Upper end.
        nonfinite: NaN or Inf occurred (masked attention, say); they are left out of the interval, and such a tensor had
            better stay float.
    """

    low: float
    high: float
    nonfinite: bool = False


@dataclass(frozen=True)
class RangeRules:
    """How the range of each tensor follows from its values.

    Attributes:
        observer: Of all tensors but ``others``.
        others: Tensors that have another observer, by name.
    """

    observer: ObserverName
    others: frozenset[tuple[str, ObserverName]] = frozenset()

    def of(self, tensor: str) -> ObserverName:
        """The observer of a tensor."""
        return dict(self.others).get(tensor, self.observer)

    def but(self, tensor: str, observer: ObserverName) -> RangeRules:
        """The same, with another observer for one tensor."""
        return RangeRules(self.observer, self.others | {(tensor, observer)})

    def to_json(self) -> dict[str, Any]:
        """JSON types, sorted."""
        return {"observer": self.observer, "others": dict(sorted(self.others))}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> RangeRules:
        """What `to_json` wrote."""
        return cls(fields["observer"], frozenset(fields["others"].items()))


@dataclass(frozen=True)
class ObserverOptions:
    """Settings of the observers that have some.

    Attributes:
        percentile: Of ``percentile``: share of the non-zero values (in percent) at or below the upper end, and likewise
            above the lower end.
        momentum: Of ``moving-average``: weight of the past at each sample.
        grid: Of ``mse`` and ``entropy``: ``u8`` is asymmetric with 256 levels, ``s8`` symmetric with 255.
    """

    percentile: float = 99.99
    momentum: float = 0.9
    grid: Literal["u8", "s8"] = "u8"


@dataclass(frozen=True)
class ChannelStats:
    """Statistics of a tensor per channel, over all samples and all other axes; arrays of shape [channels].

    Attributes:
        low: Smallest value.
        high: Largest value.
        mean: First moment.
        mean_square: Second moment.
        count: Values seen per channel.
    """

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    mean_square: np.ndarray
    count: int

    @property
    def absmax(self) -> np.ndarray:
        """Largest magnitude."""
        absmax: np.ndarray = np.maximum(np.abs(self.low), np.abs(self.high))
        return absmax
