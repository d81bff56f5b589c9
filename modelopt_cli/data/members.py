"""What a data set is made of: named arrays whose rows are read when asked for, whatever file they come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np


class Member(Protocol):
    """One array of a file, known by its header alone.

    Attributes:
        name: Key in the file; empty where the file has no names.
        shape: All axes, the sample first; the largest of each where rows differ.
        untyped: The file says no more of the type than its kind (JSON, CSV): `bind` casts within the kind.
        paths: The files it comes from.
        settings: What was done to the bytes, for digests; empty for arrays as they are.
    """

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def untyped(self) -> bool: ...
    @property
    def paths(self) -> tuple[Path, ...]: ...
    @property
    def settings(self) -> str: ...

    def rows(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """The rows at ``indices`` (sorted), one at a time, each without the sample axis."""
        ...

    def read(self) -> np.ndarray:
        """The whole array: for labels and single samples."""
        ...


@dataclass(frozen=True)
class RowsMember:
    """Rows that fit the memory: of a table, of a text file. They may differ in length."""

    name: str
    values: tuple[np.ndarray, ...]
    paths: tuple[Path, ...]
    untyped: bool = True
    settings: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows, and the largest size of each axis."""
        ranks = {value.ndim for value in self.values}
        largest = np.max([value.shape for value in self.values], axis=0) if ranks != {0} else ()
        return (len(self.values), *map(int, largest))

    @property
    def dtype(self) -> np.dtype:
        """Type of every row."""
        return self.values[0].dtype

    def rows(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """The rows at ``indices``."""
        return (self.values[index] for index in indices.tolist())

    def read(self) -> np.ndarray:
        """All rows, filled up with zeros to the longest."""
        whole = np.zeros(self.shape, self.dtype)
        for index, value in enumerate(self.values):
            place: tuple[int | slice, ...] = (index, *map(slice, value.shape))
            whole[place] = value
        return whole
