"""Channels by number: which go together, which cannot go, and which are interchangeable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of a tensor.

    Attributes:
        size: Its length, or None when it is not known.
        ids: The channel at each position, int64 [size]; None when the axis is not pruned along. Positions of one
            channel, and of channels that are joined, go together.
        why: For an axis without channels: the reason a person reads when something is held by it.
    """

    size: int | None
    ids: np.ndarray | None = None
    why: str = ""


Axes = Sequence[Axis]


@dataclass(frozen=True)
class Components:
    """Joined channels.

    Attributes:
        label: The component of each channel, int64 [channels]; its number is that of its first channel.
        reason: Why a component cannot be pruned, by label; absent where it can.
    """

    label: np.ndarray
    reason: dict[int, str]


@dataclass
class Channels:
    """Hands out channels, and collects what joins and what holds them."""

    _starts: list[int] = field(default_factory=list)
    _count: int = 0
    _one: list[np.ndarray] = field(default_factory=list)
    _other: list[np.ndarray] = field(default_factory=list)
    _blocked: list[tuple[np.ndarray, str]] = field(default_factory=list)

    def fresh(self, size: int) -> Axis:
        """A new axis whose channels have nothing to do with any other; they form one block."""
        self._starts.append(self._count)
        self._count += size
        return Axis(size, np.arange(self._count - size, self._count))

    def join(self, one: Axis, other: Axis) -> None:
        """Channels at the same position go together; where one axis holds still, the other must too."""
        if one.ids is not None and other.ids is not None:
            if len(one.ids) == len(other.ids):
                self._one.append(one.ids)
                self._other.append(other.ids)
            else:  # sizes that do not fit mean that something was misread: hands off
                self.block(one, "sizes do not fit")
                self.block(other, "sizes do not fit")
        elif one.ids is not None:
            self.block(one, other.why or "it meets a tensor that is not pruned along this axis")
        elif other.ids is not None:
            self.block(other, one.why or "it meets a tensor that is not pruned along this axis")

    def block(self, axis: Axis, why: str) -> None:
        """No channel of the axis can go."""
        if axis.ids is not None:
            self._blocked.append((axis.ids, why))

    def components(self) -> Components:
        """Who goes with whom, after all joins."""
        label = np.arange(self._count)
        one = np.concatenate([np.zeros(0, np.int64), *self._one])
        other = np.concatenate([np.zeros(0, np.int64), *self._other])
        while True:
            a, b = label[one], label[other]
            low = np.minimum(a, b)
            before = label.copy()
            np.minimum.at(label, a, low)
            np.minimum.at(label, b, low)
            label = label[label]
            if np.array_equal(label, before):
                break
        reason: dict[int, str] = {}
        for ids, why in self._blocked:
            for component in np.unique(label[ids]).tolist():
                reason.setdefault(component, why)
        return Components(label, reason)

    def signatures(self, label: np.ndarray) -> dict[int, tuple[int, ...]]:
        """The blocks that each component has channels in: components of equal signature are interchangeable."""
        block = np.searchsorted(np.asarray(self._starts), np.arange(self._count), side="right")
        pairs = np.unique(np.stack([label, block], axis=1), axis=0) if self._count else np.zeros((0, 2), np.int64)
        found: dict[int, list[int]] = {}
        for component, index in pairs.tolist():
            found.setdefault(component, []).append(index)
        return {component: tuple(blocks) for component, blocks in found.items()}
