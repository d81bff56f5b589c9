"""Read a model from a path or a pipe; write one atomically, with external data when it is large."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from modelopt_cli.errors import ModelError, OutputError, UsageError
from modelopt_cli.format import format_bytes
from modelopt_cli.graph.external import save_beside, temporary_file
from modelopt_cli.graph.mapped import LOCATION, deserialize, take_weights
from modelopt_cli.graph.normalize import normalize
from modelopt_cli.graph.serialize import serialize

MAX_PROTOBUF_BYTES = 2**31 - 1  # a protobuf message cannot be larger, by its format
EXTERNAL_DATA_ABOVE_BYTES = 1 << 30  # one file up to here; above, weights go beside the model
DIGEST_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class SourceModel:
    """A model as the user gave it.

    Attributes:
        model: The graph; weights of large models are mapped, from their external data or a file without a name.
            Nobody edits it: passes get a clone.
        label: How the user named it: a path, or ``<stdin>``.
        path: The file, or None when it came from a pipe.
        file_bytes: Bytes of the file with all of its external data.
        sha256: Hex digest over the file and its external data.
    """

    model: ir.Model
    label: str
    path: Path | None
    file_bytes: int
    sha256: str

    @property
    def uses_external_data(self) -> bool:
        """Whether some weights live in files beside the model."""
        return any(True for _ in external_tensors(self.model))


def load_model(path: Path) -> SourceModel:
    """Read and check the model at ``path``.

    Raises:
        ModelError: The file is missing, empty, not a protobuf, truncated, of an unknown opset, fails the ONNX checker,
            or names external data that is missing or lies outside of the model's folder.
    """
    where = str(path)
    try:
        if path.is_dir():
            raise ModelError("is a directory, not a model", where=where, hint="name the .onnx file in it")
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelError("no such file", where=where) from None
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=where) from error
    proto = _parse(content, where)
    files = _check_external_data(proto, path)
    digest = hashlib.sha256(content)
    for file in files:
        _update_digest(digest, file)
    del content
    model = _checked(proto, where, path if files else None)
    if files:
        ir.external_data.set_base_dir(model.graph, path.parent)
    size = path.stat().st_size + sum(file.stat().st_size for file in files)
    return SourceModel(model, where, path, size, digest.hexdigest())


def parse_model(content: bytes, label: str = "<stdin>") -> SourceModel:
    """Read and check a model from bytes, as they come from a pipe.

    Raises:
        ModelError: As `load_model`; external data cannot come through a pipe.
    """
    proto = _parse(content, label)
    if any(_locations(proto)):
        raise ModelError("a model with external data cannot come through a pipe", where=label, hint="give its path")
    model = _checked(proto, label)
    return SourceModel(model, label, None, len(content), hashlib.sha256(content).hexdigest())


def model_bytes(model: ir.Model) -> bytes:
    """The serialized model, deterministic for the same graph; external weights are read in.

    Raises:
        ModelError: Above 2 GB, which protobuf cannot hold: save it to a path instead.
    """
    if weight_bytes(model) >= MAX_PROTOBUF_BYTES:
        raise ModelError(
            "is larger than 2 GB, which one protobuf message cannot hold", hint="write it to a file: -o FILE"
        )
    return serialize(model).join()


def save_model(model: ir.Model, path: Path) -> int:
    """Write ``model`` to ``path``: either the whole new file is there, or the old one is untouched.

    Weights above `EXTERNAL_DATA_ABOVE_BYTES` go to ``<name>.<digest>.data`` beside it; see `save_beside`.

    Returns:
        Bytes written, external data included.

    Raises:
        OutputError: The disk is full or the folder cannot be written.
    """
    if weight_bytes(model) <= EXTERNAL_DATA_ABOVE_BYTES:
        return write_atomically(path, model_bytes(model))
    try:
        return save_beside(model, path)
    except OSError as error:
        raise _output_error(path, error) from error


def write_atomically(path: Path, content: bytes) -> int:
    """Write bytes to a temporary file in the same folder and rename it over ``path``.

    Raises:
        OutputError: The disk is full or the folder cannot be written.
    """
    with replacing(path) as file:
        file.write(content)
    return len(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A temporary file in the folder of ``path`` that is renamed over it when the body ends without an error.

    Raises:
        OutputError: The disk is full or the folder cannot be written.
    """
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            yield cast("IO[bytes]", file)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Refuse an output path that cannot be written, before any long work.

    Raises:
        UsageError: The folder does not exist or cannot be written, or the path is a directory.
    """
    if path.is_dir():
        raise UsageError("is a directory", where=str(path), hint="name the file to write")
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist", where=str(path), hint=f"mkdir -p {path.parent}")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise UsageError("cannot be written: permission denied", where=str(path), hint="choose another -o FILE")


def check_room(path: Path, needed: int) -> None:
    """Refuse an output that will not fit, before any long work.

    Args:
        path: Where it goes.
        needed: Bytes of the source: a result is seldom larger, and lies beside the old file for a moment.

    Raises:
        OutputError: The disk has less room.
    """
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        message = (
            f"the disk has {format_bytes(free)} left, and a result as large as the source takes {format_bytes(needed)}"
        )
        raise OutputError(message, where=str(path), hint="free some space, or choose another -o FILE")


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers, in every graph of the model."""
    return sum(
        value.const_value.nbytes
        for graph in model.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None
    )


def external_tensors(model: ir.Model) -> Iterator[ir.ExternalTensor]:
    """Initializers whose bytes live in a file beside the model."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                yield value.const_value


def _parse(content: bytes, where: str) -> onnx.ModelProto:
    if not content:
        raise ModelError("is empty", where=where, hint="expected an ONNX model")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except DecodeError:
        raise ModelError("is not an ONNX model, or is truncated", where=where) from None
    if not proto.HasField("graph") or not proto.opset_import:
        raise ModelError("is not an ONNX model", where=where, hint="it has no graph or declares no opset")
    return proto


def _normalize(proto: onnx.ModelProto, where: str) -> None:
    try:
        normalize(proto)
    except ValueError as error:
        raise ModelError(f"is invalid: {error}", where=where) from error


def _checked(proto: onnx.ModelProto, where: str, path: Path | None = None) -> ir.Model:
    """The graph of ``proto``, which is good for nothing afterwards.

    Args:
        proto: As it was read.
        where: What the user calls it.
        path: Its file, if it has external data, which the checker looks for beside it.

    Raises:
        ModelError: It is not valid.
    """
    _normalize(proto, where)
    _check_opsets(proto, where)
    _check_shapes(proto, where)
    proto, mapping = take_weights(proto)
    if path is not None:
        _check_model(str(path), where)
    elif mapping is None:
        _check_model(proto.SerializeToString(), where)
    else:
        with temporary_file(lambda file: _write_lean(proto, file)) as lean:
            if lean is None:
                raise ModelError(
                    "there is no room for temporary files", where=where, hint="name a folder with room: TMPDIR=DIR"
                )
            _check_model(str(lean), where)
    return _deserialize(proto, mapping, where)


def _write_lean(proto: onnx.ModelProto, path: Path) -> None:
    path.with_name(LOCATION).touch()  # the checker looks for the weights, and not into them
    path.write_bytes(proto.SerializeToString())


def _deserialize(proto: onnx.ModelProto, mapping: mmap.mmap | None, where: str) -> ir.Model:
    """The graph.

    Raises:
        ModelError: It uses a part of the format that onnx_ir cannot hold (map types, as of 1.1).
    """
    try:
        return deserialize(proto, mapping)
    except ir.serde.SerdeError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = str(cause).split(". ")[0] or type(cause).__name__
        hint = "a classifier of skl2onnx: convert it with zipmap=False" if "Map" in reason else ""
        raise ModelError(f"uses a part of ONNX that is not supported: {reason}", where=where, hint=hint) from error


def _check_shapes(proto: onnx.ModelProto, where: str) -> None:
    """The checker refuses an input or output without a shape too, but does not say which."""
    for kind, values in (("input", proto.graph.input), ("output", proto.graph.output)):
        for value in values:
            if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape"):
                hint = "onnx.shape_inference.infer_shapes may add it; else set the rank where the model is exported"
                raise ModelError(f"{kind} '{value.name}' declares no shape, as ONNX requires", where=where, hint=hint)


def _check_opsets(proto: onnx.ModelProto, where: str) -> None:
    newest = onnx.defs.onnx_opset_version()
    for opset in proto.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version > newest:
            raise ModelError(
                f"opset {opset.version} is newer than the installed onnx {onnx.__version__} knows ({newest})",
                where=where,
                hint="pip install -U onnx",
            )
    declared = {opset.domain for opset in proto.opset_import}
    for node in proto.graph.node:
        if node.domain not in declared:
            raise ModelError(
                f"node '{node.name or node.op_type}' is of domain '{node.domain}', which the model does not declare",
                where=where,
                hint="the exporter left out the opset_import entry",
            )


def _check_model(model: str | bytes, where: str) -> None:
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        raise ModelError(f"fails the ONNX checker: {lines[0] if lines else 'no reason given'}", where=where) from error


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    return iter(onnx.external_data_helper._get_all_tensors(proto))


def _locations(proto: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    for tensor in _tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            for entry in tensor.external_data:
                if entry.key == "location":
                    yield tensor.name, entry.value


def _check_external_data(proto: onnx.ModelProto, path: Path) -> list[Path]:
    folder = path.parent.resolve()
    files: dict[Path, None] = {}
    for name, location in _locations(proto):
        target = folder / location
        if Path(location).is_absolute() or not target.resolve().is_relative_to(folder):
            raise ModelError(
                f"weight '{name}' points to '{location}', outside of the model's folder: refused", where=str(path)
            )
        if not target.is_file():
            raise ModelError(
                f"the external data file '{location}' of weight '{name}' is missing",
                where=str(path),
                hint=f"put it into {path.parent}",
            )
        files[target] = None
    return list(files)


def _update_digest(digest: hashlib._Hash, file: Path) -> None:
    with file.open("rb") as stream:
        while chunk := stream.read(DIGEST_CHUNK_BYTES):
            digest.update(chunk)


def _output_error(path: Path, error: OSError) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError("the disk is full; nothing was written", where=str(path), hint="free some space")
    return OutputError(f"cannot be written: {error.strerror}; nothing was changed", where=str(path))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
