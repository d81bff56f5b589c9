"""Datasets in files: NumPy archives and arrays, folders of them or of pictures, test sets, JSON lines, CSV."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from modelopt_cli.data.arrays import array_members
from modelopt_cli.data.dataset import LABEL_NAMES, Sample, spread
from modelopt_cli.data.images import Preprocessing, image_members, is_image_folder
from modelopt_cli.data.members import Member
from modelopt_cli.data.protobuf import is_test_set, read_test_sets
from modelopt_cli.data.spool import spool_function, spool_stdin
from modelopt_cli.data.tables import csv_table, json_lines
from modelopt_cli.errors import DataError, UsageError

SUFFIXES = (".npz", ".npy")
PIPE = "-"
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
DIGEST_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class FileDataset:
    """The samples of one or several files, read row by row.

    Attributes:
        source: What the user called it.
        files: Members by name, per file. A ``.npy`` file has one member, named ``""``.
        inputs: Members that an iteration yields.
        whole: Each file is one sample without a sample axis (set by `bind`, which knows the model's ranks).
        limit: At most this many samples, spread evenly over all; None for all.
    """

    source: str
    files: tuple[Mapping[str, Member], ...]
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

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file that samples come from."""
        return tuple(dict.fromkeys(path for file in self.files for member in file.values() for path in member.paths))

    def digest(self) -> str:
        """Hex sha256 over the bytes of all files, how they are prepared, and the choice of samples."""
        digest = hashlib.sha256()
        for path in self.paths:
            with path.open("rb") as stream:
                while chunk := stream.read(DIGEST_CHUNK_BYTES):
                    digest.update(chunk)
        digest.update(f"{self.inputs} {self.limit}".encode())
        for member in (member for file in self.files for member in file.values()):
            digest.update(member.settings.encode())
        return digest.hexdigest()

    def _lengths(self) -> list[int]:
        if self.whole:
            return [1] * len(self.files)
        return [self._length(file) for file in self.files]

    def _length(self, file: Mapping[str, Member]) -> int:
        lengths = {name: file[name].shape[0] if file[name].shape else 0 for name in self.inputs}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"'{name}' {length}" for name, length in lengths.items())
            raise DataError(f"its inputs differ in the number of samples: {listed}", where=self.source)
        return next(iter(lengths.values()))


def open_dataset(
    spec: str | Path,
    *,
    samples: int | None = None,
    images: Preprocessing | None = None,
    allow_code: bool = False,
) -> FileDataset:
    """Open a data set, whichever kind ``spec`` is.

    A ``.npz`` or ``.npy`` file; a ``.jsonl`` file, a line a sample; a ``.csv`` table; a folder of NumPy files (sorted
    by name; one sample or one batch each), of pictures (with or without ``labels.csv``), or of ``test_data_set_*``;
    ``-`` for an ``.npz`` on stdin; ``module:function``.

    Rows are read one at a time when the dataset is gone through, so memory does not depend on their number. The first
    axis is the sample. Whether that fits a model is checked by `bind`.

    Args:
        spec: The path, ``-`` or ``module:function``.
        samples: At most this many, spread evenly; default all.
        images: How pictures are prepared; default what ``preprocess.yaml`` says, in the folder or beside it.
        allow_code: Whether ``module:function`` may run.

    Raises:
        DataError: Missing, empty, damaged, of another kind, or with Python objects.
        UsageError: Code that is not allowed to run; pictures without declared preprocessing; a terminal as stdin.
    """
    files = _members(str(spec), images, allow_code)
    inputs = tuple(name for name in files[0] if name not in LABEL_NAMES) or tuple(files[0])
    dataset = FileDataset(str(spec), files, inputs)
    if all(member.shape[:1] == (0,) for file in files for member in file.values()):
        raise DataError("holds no samples", where=str(spec))
    return dataset if samples is None else dataset.take(samples)


def is_function(spec: str) -> bool:
    """Whether a data set is spelt ``module:function``."""
    return _FUNCTION.fullmatch(spec) is not None


def _members(spec: str, images: Preprocessing | None, allow_code: bool) -> tuple[Mapping[str, Member], ...]:
    path = Path(spec)
    if spec == PIPE:
        return (array_members(spool_stdin()),)
    if path.is_dir():
        return _folder_members(path, images)
    if not path.exists() and is_function(spec):
        if not allow_code:
            raise UsageError(
                "is code, which only runs when asked to", where=spec, hint="--allow-code, where a command has it"
            )
        return _numpy_files(spool_function(spec))
    text = {".jsonl": json_lines, ".csv": csv_table}.get(path.suffix.lower())
    if text is None:
        return (array_members(path),)
    try:
        return (text(path),)
    except FileNotFoundError:
        raise DataError("no such file", where=spec) from None
    except UnicodeDecodeError:
        raise DataError("is not UTF-8 text", where=spec) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=spec) from error


def _folder_members(folder: Path, images: Preprocessing | None) -> tuple[Mapping[str, Member], ...]:
    if is_test_set(folder):
        sets = read_test_sets(folder)
        for each in sets:
            if each.keys() != sets[0].keys():
                raise DataError(f"a set holds {_listed(each)}, the first {_listed(sets[0])}", where=str(folder))
        return tuple(sets)
    paths = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    if paths:
        return _numpy_files(paths)
    if is_image_folder(folder):
        return (image_members(folder, images),)
    raise DataError("holds no .npz or .npy files, no pictures and no test_data_set_0", where=str(folder))


def _numpy_files(paths: Sequence[Path]) -> tuple[Mapping[str, Member], ...]:
    files = tuple(array_members(path) for path in paths)
    for file, path in zip(files, paths, strict=True):
        if file.keys() != files[0].keys():
            raise DataError(f"holds {_listed(file)}, but {paths[0].name} holds {_listed(files[0])}", where=str(path))
    return files


def _listed(file: Mapping[str, Member]) -> str:
    return ", ".join(f"'{name}'" for name in file) if any(file) else "one unnamed array"
