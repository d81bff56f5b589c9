"""Sizes are those that the tools of that name come to."""

from __future__ import annotations

import gzip
import sys

import numpy as np
import pytest

from modelopt_cli.graph.compressed import compressed_bytes

CONTENT = np.random.default_rng(0).integers(0, 8, 3_000_000, np.uint8).tobytes()


def test_gzip_is_what_gzip_makes_of_it(tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    found = compressed_bytes(path)
    assert found["gzip"] == len(gzip.compress(CONTENT, 6, mtime=0))
    assert found == compressed_bytes(CONTENT)


def test_zstd_where_it_is_there(monkeypatch) -> None:
    zstandard = pytest.importorskip("zstandard")
    found = compressed_bytes(CONTENT)
    assert found["zstd"] == pytest.approx(len(zstandard.ZstdCompressor(level=3).compress(CONTENT)), rel=1e-3)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    assert list(compressed_bytes(CONTENT)) == ["gzip"]
