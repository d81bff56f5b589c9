"""Weights in a file beside a large model, replaced so that no moment shows a model with another one's weights."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

DIGEST_DIGITS = 12
SMALL_BYTES = 1024  # shapes, axes: what shape inference reads the values of


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


@contextlib.contextmanager
def temporary_file(fill: Callable[[Path], None]) -> Iterator[Path | None]:
    """A model file in a folder of its own, for as long as the body takes; None where it cannot be had.

    Args:
        fill: Writes it, and what belongs beside it.
    """
    with contextlib.ExitStack() as stack:
        path: Path | None = None
        with contextlib.suppress(OSError):  # no folder for temporary files, or no room in it
            # A mapped file outlives its name on POSIX; elsewhere the leftover is not our failure.
            place = tempfile.TemporaryDirectory(prefix="modelopt-", ignore_cleanup_errors=True)
            wanted = Path(stack.enter_context(place)) / "model.onnx"
            fill(wanted)
            path = wanted
        yield path


def save_mapped(model: ir.Model, path: Path) -> None:
    """Write the model to ``path`` and its weights beside it, for a runtime that maps them; an old file is lost.

    Raises:
        OSError: One of them cannot be written.
    """
    ir.save(model, path, external_data=f"{path.name}.data")


def save_skeleton(model: ir.Model, path: Path) -> None:
    """Write the model to ``path`` as if its large weights were beside it, in a file that is empty: for a checker.

    Raises:
        OSError: It cannot be written.
    """
    weights = path.with_name(f"{path.name}.data")
    weights.touch()
    with weights_apart(model, _is_large, weights.name):
        onnx.save(ir.to_proto(model), path)


@contextlib.contextmanager
def weights_apart(
    model: ir.Model, wanted: Callable[[ir.TensorProtocol], bool], location: str = "apart"
) -> Iterator[dict[str, ir.TensorProtocol]]:
    """Initializers of the main graph as external ones that lie nowhere, for a proto that shall not hold them.

    Args:
        model: Has its own again afterwards.
        wanted: Which of its tensors.
        location: What the proto gives as their file.

    Returns:
        The tensors by the name of their initializer, which may not be that of the tensor.
    """
    initializers = model.graph.initializers.items()
    known = [(name, v, v.const_value) for name, v in initializers if v.const_value is not None]
    swapped = [(name, value, tensor) for name, value, tensor in known if wanted(tensor)]
    try:
        for name, value, tensor in swapped:
            shape, doc = ir.Shape(tensor.shape.numpy()), tensor.doc_string
            value.const_value = ir.ExternalTensor(
                location,
                0,
                tensor.nbytes,
                tensor.dtype,
                shape=shape,
                name=name,
                doc_string=doc,
                metadata_props=dict(tensor.metadata_props),
            )
        yield {name: tensor for name, _, tensor in swapped}
    finally:
        for _, value, tensor in swapped:
            value.const_value = tensor


def _is_large(tensor: ir.TensorProtocol) -> bool:
    return tensor.nbytes > SMALL_BYTES and tensor.dtype != ir.DataType.STRING


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
