"""From a stream of arrays to one range: each observer holds a few numbers or one histogram, never the values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from modelopt_cli.calibration.clipping import entropy_range, mse_range, percentile_range
from modelopt_cli.calibration.histogram import Histogram, finite_values
from modelopt_cli.calibration.ranges import ObserverName, ObserverOptions, Range


class Observer(Protocol):
    """Watches one tensor."""

    def update(self, values: np.ndarray) -> None:
        """Take in one array of any shape."""
        ...

    def range(self) -> Range:
        """The range so far; [0, 0] before any finite value."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """All that it holds, for `restore`."""
        ...

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on where `state` was taken."""
        ...


class MinMax:
    """Smallest and largest value."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf
        self.nonfinite = False

    def update(self, values: np.ndarray) -> None:
        """Take in one array of any shape."""
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            finite, complete = finite_values(values)
            self.nonfinite |= not complete
            if not finite.size:
                return
            low, high = float(finite.min()), float(finite.max())
        self.low, self.high = min(self.low, low), max(self.high, high)

    def range(self) -> Range:
        """The range so far."""
        return _range(self.low, self.high, self.nonfinite)

    def state(self) -> dict[str, np.ndarray]:
        """All that it holds."""
        return {"ends": np.array([self.low, self.high, self.nonfinite], np.float64)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on where `state` was taken."""
        low, high, nonfinite = state["ends"].tolist()
        self.low, self.high, self.nonfinite = low, high, bool(nonfinite)


class MovingAverage(MinMax):
    """Exponential moving average of each sample's minimum and maximum (Jacob et al. 2018, section 3.1).

    It forgets, by design: the one observer whose result depends on the order of the samples.
    """

    def __init__(self, momentum: float) -> None:
        super().__init__()
        self._momentum = momentum

    def update(self, values: np.ndarray) -> None:
        """Take in the array of one sample."""
        sample = MinMax()
        sample.update(values)
        self.nonfinite |= sample.nonfinite
        if sample.low > sample.high:
            return
        if self.low > self.high:
            self.low, self.high = sample.low, sample.high
        else:
            self.low += (1 - self._momentum) * (sample.low - self.low)
            self.high += (1 - self._momentum) * (sample.high - self.high)


class Clipping:
    """A histogram, and a rule that reads a range off it."""

    def __init__(self, rule: ObserverName, options: ObserverOptions) -> None:
        self._rule, self._options = rule, options
        self.histogram = Histogram()

    def update(self, values: np.ndarray) -> None:
        """Take in one array of any shape."""
        self.histogram.update(values)

    def range(self) -> Range:
        """The range so far; never wider than the smallest and largest value."""
        histogram = self.histogram
        if histogram.low >= histogram.high or not histogram.counts.any():
            return _range(histogram.low, histogram.high, histogram.nonfinite)
        if self._rule == "percentile":
            low, high = percentile_range(histogram, self._options.percentile)
        elif self._rule == "mse":
            low, high = mse_range(histogram, symmetric=self._options.grid == "s8")
        else:
            low, high = entropy_range(histogram)
        return Range(low, high, histogram.nonfinite)

    def state(self) -> dict[str, np.ndarray]:
        """All that it holds."""
        return self.histogram.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on where `state` was taken."""
        self.histogram.restore(state)


def make_observer(name: ObserverName, options: ObserverOptions) -> Observer:
    """A fresh observer."""
    if name == "minmax":
        return MinMax()
    if name == "moving-average":
        return MovingAverage(options.momentum)
    return Clipping(name, options)


def _range(low: float, high: float, nonfinite: bool) -> Range:
    return Range(low, high, nonfinite) if low <= high else Range(0.0, 0.0, nonfinite)
