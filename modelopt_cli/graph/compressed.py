"""Bytes of a file once it is compressed for download: where zeros begin to count."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Protocol

CHUNK_BYTES = 1 << 20
GZIP_WINDOW = 31  # zlib's word for a gzip header
LEVEL = {"gzip": 6, "zstd": 3}  # what the tools of that name do when nobody says


def compressed_bytes(source: bytes | Path) -> dict[str, int]:
    """Size by method: ``gzip``, and ``zstd`` where Python has it (3.14) or the package zstandard is installed.

    Args:
        source: Content, or a file, which is read in pieces.

    Raises:
        OSError: The file cannot be read.
    """
    found = {"gzip": _size(zlib.compressobj(LEVEL["gzip"], wbits=GZIP_WINDOW), _chunks(source))}
    zstd = _zstd()
    return found if zstd is None else found | {"zstd": _size(zstd, _chunks(source))}


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def _size(compressor: _Compressor, chunks: Iterable[bytes]) -> int:
    return sum(len(compressor.compress(chunk)) for chunk in chunks) + len(compressor.flush())


def _zstd() -> _Compressor | None:
    for module in ("compression.zstd", "zstandard"):
        try:
            found = import_module(module).ZstdCompressor(level=LEVEL["zstd"])
        except ImportError:
            continue
        compressor: _Compressor = found.compressobj() if hasattr(found, "compressobj") else found
        return compressor
    return None


def _chunks(source: bytes | Path) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield from (source[start : start + CHUNK_BYTES] for start in range(0, len(source), CHUNK_BYTES))
        return
    with source.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk
