"""NumPy files read row by row: an array is a header and a stream of rows, also inside of an archive."""

from __future__ import annotations

import contextlib
import io
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from modelopt_cli.errors import DataError

ZIP_MAGIC, NPY_MAGIC = b"PK", b"\x93NUMPY"
COPY_CHUNK_BYTES = 1 << 20


class ByteStream(Protocol):
    """What a file and a member of an archive have in common."""

    def read(self, size: int = -1, /) -> bytes: ...
    def read1(self, size: int, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...


@dataclass(frozen=True)
class ArrayMember:
    """One array of a file, described by its header alone.

    Attributes:
        name: Key in the archive; empty for a ``.npy`` file.
        shape: All axes, the sample first.
    """

    path: Path
    name: str
    entry: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    untyped: bool = False
    settings: str = ""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The one file."""
        return (self.path,)

    @property
    def where(self) -> str:
        """How messages call it."""
        return f"{self.path}:{self.name}" if self.name else str(self.path)

    def rows(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """The rows at ``indices`` (sorted), one at a time, each of shape ``self.shape[1:]``, in native byte order.

        Raises:
            DataError: The bytes are damaged, end too early, or the file is gone.
        """
        with self._reading(), self._stream() as stream:
            if self.fortran:
                yield from self._rows_by_column(stream, indices)
                return
            row_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
            position = 0
            for index in indices.tolist():
                if index != position:
                    stream.seek((index - position) * row_bytes, io.SEEK_CUR)
                position = index + 1
                yield self._native(np.frombuffer(_read_exactly(stream, row_bytes), self.dtype).reshape(self.shape[1:]))

    def read(self) -> np.ndarray:
        """The whole array: for labels and single samples, not for inputs."""
        with self._reading(), self._stream() as stream:
            size = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
            flat = np.frombuffer(_read_exactly(stream, size), self.dtype)
            return self._native(flat.reshape(self.shape, order="F" if self.fortran else "C"))

    def _rows_by_column(self, stream: ByteStream, indices: np.ndarray) -> Iterator[np.ndarray]:
        # A row of a column-major array is scattered over the whole file; memory stays flat through a mapped copy.
        with tempfile.TemporaryFile() as copy:
            while chunk := stream.read(COPY_CHUNK_BYTES):
                copy.write(chunk)
            copy.flush()
            try:
                array = np.memmap(copy, self.dtype, "r", shape=self.shape, order="F")
            except ValueError:
                raise EOFError from None
            for index in indices.tolist():
                yield self._native(np.ascontiguousarray(array[index]))

    def _native(self, array: np.ndarray) -> np.ndarray:
        return array if self.dtype.isnative else array.astype(self.dtype.newbyteorder("="))

    @contextlib.contextmanager
    def _stream(self) -> Iterator[ByteStream]:
        with contextlib.ExitStack() as stack:
            if self.entry:
                archive = stack.enter_context(zipfile.ZipFile(self.path))
                stream = cast(ByteStream, stack.enter_context(archive.open(self.entry)))
            else:
                stream = stack.enter_context(self.path.open("rb"))
            _header(stream)
            yield stream

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError):
            raise DataError("is damaged or truncated", where=self.where) from None
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror or error}", where=self.where) from error


def array_members(path: Path) -> dict[str, ArrayMember]:
    """The arrays of one ``.npz`` or ``.npy`` file, told apart by their first bytes; only headers are read.

    Raises:
        DataError: The file is missing, empty, of another kind, damaged, or holds Python objects.
    """
    where = str(path)
    try:
        with path.open("rb") as file:
            magic = file.read(len(NPY_MAGIC))
            if not magic:
                raise DataError("is empty", where=where, hint="expected a .npz or .npy file")
            if magic == NPY_MAGIC:
                file.seek(0)
                return {"": _member(path, "", "", file)}
        if magic.startswith(ZIP_MAGIC):
            return _archive_members(path)
    except FileNotFoundError:
        raise DataError("no such file", where=where) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=where) from error
    raise DataError("is neither .npz nor .npy", where=where, hint="write it with numpy.savez(FILE, input_name=array)")


def _archive_members(path: Path) -> dict[str, ArrayMember]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.namelist() if entry.endswith(".npy")]
            members = {}
            for entry in entries:
                name = entry.removesuffix(".npy")
                with archive.open(entry) as stream:
                    members[name] = _member(path, name, entry, cast(ByteStream, stream))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError):
        # What zipfile raises besides BadZipFile: EOFError and zlib.error where an archive is cut, RuntimeError where it
        # is encrypted or compressed in a way that Python cannot read.
        raise DataError("is a damaged, truncated or encrypted archive", where=str(path)) from None
    if not members:
        raise DataError("holds no arrays", where=str(path), hint="write it with numpy.savez(FILE, input_name=array)")
    return members


def _member(path: Path, name: str, entry: str, stream: ByteStream) -> ArrayMember:
    where = f"{path}:{name}" if name else str(path)
    try:
        shape, fortran, dtype = _header(stream)
    except (ValueError, EOFError):
        raise DataError("is damaged or not a NumPy array", where=where) from None
    if dtype.hasobject:
        raise DataError("holds Python objects, which are never loaded", where=where, hint="store numbers")
    return ArrayMember(path, name, entry, shape, dtype, fortran)


def _header(stream: ByteStream) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError("format 3.0 exists for structured arrays only")


def _read_exactly(stream: ByteStream, size: int) -> bytearray:
    # zipfile's own read(n) concatenates 4 kB pieces into ever longer bytes: quadratic in the size of a row.
    content = bytearray(size)
    view, filled = memoryview(content), 0
    while filled < size:
        chunk = stream.read1(size - filled)
        if not chunk:
            raise EOFError
        view[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return content
