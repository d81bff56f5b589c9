"""Datasets in NumPy files: one archive, one array, or a folder of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from modelopt_cli.data.arrays import ArrayMember, array_members
from modelopt_cli.data.dataset import LABEL_NAMES, Sample, spread
from modelopt_cli.errors import DataError

SUFFIXES = (".npz", ".npy")
DIGEST_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class FileDataset:
    """The samples of one or several NumPy files, read row by row.

    Attributes:
        source: What the user called it.
        files: Members by name, per file. A ``.npy`` file has one member, named ``""``.
        inputs: Members that an iteration yields.
        whole: Each file is one sample without a sample axis (set by `bind`, which knows the model's ranks).
        limit: At most this many samples, spread evenly over all; None for all.
    """

    source: str
    files: tuple[Mapping[str, ArrayMember], ...]
    inputs: tuple[str, ...]
    whole: bool = False
    limit: int | None = None
    batch_size: int = 1

    def __len__(self) -> int:
        """The number of samples."""
        total = sum(self._lengths())
        return total if self.limit is None else min(total, self.limit)

    def __iter__(self) -> Iterator[Sample]:
        """Yield one sample at a time, with a leading axis of 1."""
        start, positions = 0, self.positions
        for file, length in zip(self.files, self._lengths(), strict=True):
            first, last = np.searchsorted(positions, [start, start + length])
            chosen = positions[first:last] - start
            start += length
            if self.whole:
                yield from ({name: file[name].read()[None] for name in self.inputs} for _ in chosen)
                continue
            streams = [file[name].rows(chosen) for name in self.inputs]
            for rows in zip(*streams, strict=True):
                yield {name: row[None] for name, row in zip(self.inputs, rows, strict=True)}

    @property
    def labels(self) -> np.ndarray | None:
        """The member ``labels``, ``label`` or ``y``, whichever comes first and is not a model input; else None."""
        for name in LABEL_NAMES:
            if name not in self.inputs and all(name in file for file in self.files):
                return self.extra(name)
        return None

    @property
    def positions(self) -> np.ndarray:
        """Index of each chosen sample in the files, for messages."""
        total = sum(self._lengths())
        return spread(total, total if self.limit is None else self.limit)

    def extra(self, name: str) -> np.ndarray:
        """All of a member that is not a model input, for the chosen samples.

        Raises:
            DataError: There is no such member, or its length differs from the number of samples.
        """
        missing = next((file for file in self.files if name not in file), None)
        if missing is not None:
            raise DataError(f"has no member '{name}'", where=self.source, hint=f"it has {_listed(missing)}")
        parts = [np.atleast_1d(file[name].read()) for file in self.files]
        if self.whole:
            parts = [part if part.shape[0] == 1 else part[None] for part in parts]
        array = np.concatenate(parts)
        if len(array) != sum(self._lengths()):
            raise DataError(
                f"member '{name}' has {len(array)} entries for {sum(self._lengths())} samples", where=self.source
            )
        chosen: np.ndarray = array[self.positions]
        return chosen

    def take(self, count: int) -> FileDataset:
        """At most ``count`` samples, spread evenly."""
        return replace(self, limit=count if self.limit is None else min(count, self.limit))

    def select(self, inputs: tuple[str, ...], *, whole: bool) -> FileDataset:
        """The same samples with other members as inputs.

        Raises:
            DataError: The members differ in length, or hold no samples.
        """
        chosen = replace(self, inputs=inputs, whole=whole)
        if not sum(chosen._lengths()):
            raise DataError("holds no samples", where=self.source)
        return chosen

    def digest(self) -> str:
        """Hex sha256 over the bytes of all files and the choice of samples."""
        digest = hashlib.sha256()
        for path in dict.fromkeys(member.path for file in self.files for member in file.values()):
            with path.open("rb") as stream:
                while chunk := stream.read(DIGEST_CHUNK_BYTES):
                    digest.update(chunk)
        digest.update(f"{self.inputs} {self.limit}".encode())
        return digest.hexdigest()

    def _lengths(self) -> list[int]:
        if self.whole:
            return [1] * len(self.files)
        return [self._length(file) for file in self.files]

    def _length(self, file: Mapping[str, ArrayMember]) -> int:
        lengths = {name: file[name].shape[0] if file[name].shape else 0 for name in self.inputs}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"'{name}' {length}" for name, length in lengths.items())
            raise DataError(f"its inputs differ in the number of samples: {listed}", where=self.source)
        return next(iter(lengths.values()))


def open_dataset(spec: str | Path, *, samples: int | None = None) -> FileDataset:
    """Open a ``.npz`` file, a ``.npy`` file, or a folder of them (sorted by name; one sample or one batch each).

    Rows are read one at a time when the dataset is gone through, so memory does not depend on their number. The first
    axis is the sample. Whether that fits a model is checked by `bind`.

    Args:
        spec: The path.
        samples: At most this many, spread evenly; default all.

    Raises:
        DataError: Missing, empty, damaged, not NumPy, or with Python objects.
    """
    path = Path(spec)
    paths = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES) if path.is_dir() else [path]
    if not paths:
        raise DataError("holds no .npz or .npy files", where=str(path))
    files = tuple(array_members(p) for p in paths)
    for file, file_path in zip(files, paths, strict=True):
        if file.keys() != files[0].keys():
            raise DataError(
                f"holds {_listed(file)}, but {paths[0].name} holds {_listed(files[0])}", where=str(file_path)
            )
    inputs = tuple(name for name in files[0] if name not in LABEL_NAMES) or tuple(files[0])
    dataset = FileDataset(str(spec), files, inputs)
    if all(member.shape[:1] == (0,) for file in files for member in file.values()):
        raise DataError("holds no samples", where=str(spec))
    return dataset if samples is None else dataset.take(samples)


def _listed(file: Mapping[str, ArrayMember]) -> str:
    return ", ".join(f"'{name}'" for name in file) if any(file) else "one unnamed array"
