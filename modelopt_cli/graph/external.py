"""Weights in a file beside a large model, replaced so that no moment shows a model with another one's weights."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

DIGEST_DIGITS = 12


def save_beside(model: ir.Model, path: Path) -> int:
    """Write the model to ``path`` and its weights to ``<name>.<digest>.data`` beside it.

    Two files cannot be renamed at once. The name of the weights' file follows from what is in it: it is put into place
    under its new name, and the rename of the model is the one moment in which the old result becomes the new one. A
    process that is killed leaves either of them, and another one that writes the same output does not mix with it. The
    weights of the old result, if they had such a name, are removed after that.

    Returns:
        Bytes of both files.

    Raises:
        OSError: One of them cannot be written; the old result is untouched.
    """
    before, name = _own_weights(path), f"{path.name}.{_digest(model)}.data"
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        staged, weights = Path(folder) / path.name, Path(folder) / name
        ir.save(model, staged, external_data=name)
        for file in (staged, weights):
            _flush(file)
        size = staged.stat().st_size + weights.stat().st_size
        weights.replace(path.parent / name)
        staged.replace(path)
    for old in before - {name}:
        (path.parent / old).unlink(missing_ok=True)
    return size


def _digest(model: ir.Model) -> str:
    digest = hashlib.sha256()
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                digest.update(f"{value.name} {value.const_value.dtype} {value.const_value.shape}".encode())
                digest.update(value.const_value.tobytes())
    return digest.hexdigest()[:DIGEST_DIGITS]


def _own_weights(path: Path) -> set[str]:
    """Files beside ``path`` that hold weights of the model there and have a name as `save_beside` gives."""
    own = re.compile(rf"{re.escape(path.name)}\.[0-9a-f]{{{DIGEST_DIGITS}}}\.data")
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError):
        return set()  # nothing there yet, or no model
    tensors = onnx.external_data_helper._get_all_tensors(model)
    named = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    return {name for name in named if own.fullmatch(name)}


def _flush(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
