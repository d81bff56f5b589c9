"""Ranges of many tensors by several rules at once, until they have settled; its state can be put down and taken up."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modelopt_cli.calibration.observers import MinMax, Observer, make_observer
from modelopt_cli.calibration.ranges import ObserverName, ObserverOptions, Range

SETTLED_GROWTH = 0.002  # mean growth of the ranges, as a share of their widths, over `SETTLING_SAMPLES` more samples
SETTLING_SAMPLES = 16
COUNTED_VALUES = 1 << 16  # of one array, for a histogram: more of them say the same and cost half of the calibration


@dataclass(frozen=True)
class RangeChoices:
    """Ranges by several rules from one pass over the data.

    Attributes:
        ranges: Observer -> tensor -> range.
        samples: How many samples were looked at before the ranges had settled; all where they had not.
    """

    ranges: dict[ObserverName, dict[str, Range]]
    samples: int


class RangeWatch:
    """Watches tensors, sample by sample.

    They have settled when smallest and largest values moved by less than `SETTLED_GROWTH` of the widths, in the mean
    over all tensors, in two turns of `SETTLING_SAMPLES` samples running, however the tensors were grouped.

    Args:
        names: The tensors.
        observers: The rules.
        options: Settings of the observers.

    Attributes:
        turn: Samples between two looks at whether they have settled.
        samples: How many all tensors were looked at on, at the last look.
        seen: First tensor of a group -> samples seen.
        over: Whether they have settled.
        after_sample: Called between two samples, when all is consistent.
    """

    def __init__(self, names: Sequence[str], observers: Sequence[ObserverName], options: ObserverOptions) -> None:
        self.turn = SETTLING_SAMPLES
        self.samples = 0
        self.seen: dict[str, int] = {}
        self.over = False
        self.after_sample: Callable[[], None] = lambda: None
        self._names, self._observers = list(names), tuple(observers)
        self._extremes = {name: MinMax() for name in names}
        self._watching: dict[ObserverName, dict[str, Observer]] = {
            observer: {name: make_observer(observer, options) for name in names}
            for observer in observers
            if observer != "minmax"
        }
        self._widths: dict[str, float] = {}
        self._quiet = 0

    def update(self, name: str, array: np.ndarray) -> None:
        """Take in what one sample made of a tensor."""
        self._extremes[name].update(array)
        for each in self._watching.values():
            each[name].update(_thinned(array))

    def saw(self, group: str, samples: int) -> None:
        """A group of tensors was looked at on so many samples."""
        self.seen[group] = samples
        self.after_sample()

    def is_over(self, samples: int) -> bool:
        """Whether the tensors, all looked at on so many samples, have settled."""
        growth = 0.0
        for name in self._names:
            width = max(self._extremes[name].high, 0.0) - min(self._extremes[name].low, 0.0)
            growth += 1 - self._widths.get(name, 0.0) / width if width > 0 else 0.0
            self._widths[name] = width
        calm = growth < SETTLED_GROWTH * len(self._names)
        self._quiet = self._quiet + 1 if calm else 0
        self.samples, self.over = samples, self._quiet >= 2
        return self.over

    def choices(self) -> RangeChoices:
        """The ranges so far."""
        ranges = {observer: self._ranges(each) for observer, each in self._watching.items()}
        if "minmax" in self._observers:
            ranges["minmax"] = self._ranges(self._extremes)
        return RangeChoices(ranges, self.samples)

    def state(self) -> dict[str, np.ndarray]:
        """All that it holds, as plain arrays by name."""
        progress = [self.samples, self.seen, self._widths, self._quiet, self.over]
        found = {"progress": np.array(json.dumps(progress))}
        for rule, name, observer in self._all():
            found |= {f"{rule}/{name}/{key}": array for key, array in observer.state().items()}
        return found

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on where `state` was taken of a watch over the same tensors by the same rules."""
        self.samples, self.seen, self._widths, self._quiet, self.over = json.loads(str(state["progress"]))
        for rule, name, observer in self._all():
            observer.restore({key: state[f"{rule}/{name}/{key}"] for key in observer.state()})

    def _all(self) -> list[tuple[str, int, Observer]]:
        rules: list[tuple[str, Mapping[str, Observer]]] = [("extremes", self._extremes), *self._watching.items()]
        return [(rule, at, each[name]) for rule, each in rules for at, name in enumerate(self._names)]

    def _ranges(self, observers: Mapping[str, Observer]) -> dict[str, Range]:
        return {name: observers[name].range() for name in self._names}


def _thinned(array: np.ndarray) -> np.ndarray:
    """Evenly spread values of a large array, with its smallest and largest."""
    flat = array.reshape(-1)
    if flat.size <= COUNTED_VALUES:
        return flat
    stride = (flat.size // COUNTED_VALUES + 1) | 1  # odd: it does not run along a column of the picture
    return np.concatenate((flat[::stride], [flat.min(), flat.max()])).astype(flat.dtype)
