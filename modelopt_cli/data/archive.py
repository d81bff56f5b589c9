"""Write a data set as an ``.npz``, row by row: memory stays that of one sample."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np

from modelopt_cli.data.binding import BoundDataset
from modelopt_cli.data.files import FileDataset
from modelopt_cli.errors import DataError


@dataclass(frozen=True)
class Column:
    """A member of a data set, and what it is called and how it is stored in the archive."""

    member: str
    name: str
    dtype: np.dtype


def columns(dataset: FileDataset, bound: BoundDataset | None) -> list[Column]:
    """One for each member: with the model's name and type for it where it is bound, else its own."""
    of_model = {} if bound is None else {bound.members[spec.name]: spec for spec in bound.inputs}
    found = []
    for member, array in dataset.files[0].items():
        spec = of_model.get(member)
        dtype = array.dtype.newbyteorder("=") if spec is None else spec.dtype
        found.append(Column(member, (member or "input") if spec is None else spec.name, dtype))
    return found


def write_archive(
    dataset: FileDataset, file: IO[bytes], written: Sequence[Column], advance: Callable[[int], None]
) -> None:
    """Write members, the sample as first axis; shorter rows are filled up with zeros.

    Args:
        dataset: What `open_dataset` gave.
        file: Where the archive goes; it need not be seekable.
        written: What to write, see `columns`.
        advance: Called with 1 for each row.

    Raises:
        DataError: Rows of one member differ in the number of axes, or a file is damaged.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for column in written:
            _write_column(archive, dataset.select((column.member,), whole=False), column, advance)


def _write_column(
    archive: zipfile.ZipFile, dataset: FileDataset, column: Column, advance: Callable[[int], None]
) -> None:
    parts = [file[column.member] for file in dataset.files]
    if len({len(part.shape) for part in parts}) > 1:
        raise DataError(f"'{column.name}' has another number of axes in some samples", where=dataset.source)
    axes = [part.shape[1:] for part in parts]
    largest = tuple(int(size) for size in np.max(axes, axis=0)) if axes[0] else ()
    header = {"descr": column.dtype.str, "fortran_order": False, "shape": (len(dataset), *largest)}
    with archive.open(f"{column.name}.npy", "w", force_zip64=True) as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for sample in dataset:
            row = sample[column.member][0]
            whole = np.zeros(largest, column.dtype)
            whole[tuple(map(slice, row.shape))] = row
            stream.write(whole.tobytes())
            advance(1)
