"""No result leaves the tool that is not a valid stand-in for its source."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from modelopt_cli.data.dataset import Sample
from modelopt_cli.errors import PassError
from modelopt_cli.graph.external import save_skeleton, temporary_file
from modelopt_cli.graph.io import model_bytes, weight_bytes
from modelopt_cli.graph.mapped import worth_mapping
from modelopt_cli.profiling.session import open_session, run


def interface(model: ir.Model) -> list[tuple[str, str, str, str]]:
    """Inputs and outputs by kind, name, type and shape, in order; initializers that are listed as inputs left out."""
    inputs = [v for v in model.graph.inputs if v.name not in model.graph.initializers]
    both = [("input", v) for v in inputs] + [("output", v) for v in model.graph.outputs]
    return [(kind, v.name or "", str(v.type), str(v.shape)) for kind, v in both]


def _changed_interface(
    model: ir.Model, source: ir.Model, pinned: bool, halved: bool
) -> list[tuple[str, str, str, str]]:
    """Inputs and outputs of one that the other lacks; dynamic dimensions, and half of the bits, may differ."""
    now, was = interface(model), interface(source)
    if halved:
        names, single = _halved(model, source), str(ir.TensorType(ir.DataType.FLOAT))
        now = [(kind, name, single if name in names else dtype, shape) for kind, name, dtype, shape in now]
    if pinned:
        shapes = {value.name: value.shape for value in (*model.graph.inputs, *model.graph.outputs)}
        before = {value.name: value.shape for value in (*source.graph.inputs, *source.graph.outputs)}
        fixed = {name for name, shape in shapes.items() if _fixes(before.get(name), shape)}
        now, was = ([(*each[:3], "" if each[1] in fixed else each[3]) for each in side] for side in (now, was))
    return [] if now == was else sorted(set(now) ^ set(was)) or now


def _halved(model: ir.Model, source: ir.Model) -> set[str]:
    """Inputs and outputs that were float32 and take half of the bits now."""
    types = {value.name: value.dtype for value in (*source.graph.inputs, *source.graph.outputs)}
    half = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    both = (*model.graph.inputs, *model.graph.outputs)
    return {str(v.name) for v in both if v.dtype in half and types.get(v.name) == ir.DataType.FLOAT}


def _fixes(before: ir.Shape | None, after: ir.Shape | None) -> bool:
    """Whether every dimension is what it was, or was dynamic before: it may have a size now, or another name."""
    if before is None or after is None or len(before) != len(after):
        return False
    return all(old == new or not isinstance(old, int) for old, new in zip(before, after, strict=True))


def check_structure(model: ir.Model, step: str) -> None:
    """Run the ONNX checker after a step.

    Raises:
        PassError: The step wrote an invalid graph: a bug of the pass, named with the checker's reason.
    """
    try:
        with _checkable(model) as subject:
            onnx.checker.check_model(_accepted(subject))
    except onnx.checker.ValidationError as error:
        first = str(error).strip().splitlines()[0]
        raise PassError(f"wrote an invalid graph: {first}", where=step) from error


def check_result(
    content: bytes | Path | None,
    model: ir.Model,
    source: ir.Model,
    sample: Sample,
    *,
    pinned: bool = False,
    halved: bool = False,
) -> None:
    """Check the whole result: full checker, same interface, loads, runs, finite outputs where the source's are.

    Args:
        content: The serialized result or its file, or None above 2 GB (then the runtime's own load is the check).
        model: The result.
        source: The model the user gave.
        sample: Inputs to run it on.
        pinned: Whether a pass declared that it fixes or names dimensions of inputs and outputs.
        halved: Whether a pass declared that float32 inputs and outputs may take half of the bits.

    Raises:
        PassError: With the first thing that does not hold.
    """
    changed = _changed_interface(model, source, pinned, halved)
    if changed:
        raise PassError(f"the result's inputs or outputs are not the source's: {changed[0][0]} '{changed[0][1]}'")
    if content is not None and (complaint := _complaint(content)) and not _complaint_of(source):
        raise PassError(f"the result fails the ONNX checker: {complaint}")
    for name in _not_finite(content if content is not None else model, sample):
        if name not in _not_finite(source, sample):
            hint = "another calibrator may help; so does leaving the last operators out"
            raise PassError(f"the result's output '{name}' is not finite", hint=hint)


@contextlib.contextmanager
def _checkable(model: ir.Model) -> Iterator[bytes | Path]:
    """What the checker takes of a graph: where it is large, a file without its weights, which it does not look at."""
    if not worth_mapping(weight_bytes(model)):
        yield model_bytes(model)
        return
    with temporary_file(lambda path: save_skeleton(model, path)) as file:
        yield model_bytes(model) if file is None else file


def _complaint_of(source: ir.Model) -> str:
    """What the full checker has against the source: it knows some operators' own definitions too little (MVN)."""
    with _checkable(source) as subject:
        return _complaint(subject)


def _complaint(subject: bytes | Path) -> str:
    """The first line of what the full checker has against a model; empty when it has nothing."""
    try:
        onnx.checker.check_model(_accepted(subject), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return str(error).strip().splitlines()[0]
    return ""


def _accepted(subject: bytes | Path) -> bytes | str:
    return str(subject) if isinstance(subject, Path) else subject


def _not_finite(model: bytes | Path | ir.Model, sample: Sample) -> list[str]:
    """Outputs with NaN or infinity in them."""
    session = open_session(model, arena=False)
    names = [output.name for output in session.get_outputs()]
    return [
        name
        for name, array in zip(names, run(session, sample, names), strict=True)
        if isinstance(array, np.ndarray) and array.dtype.kind == "f" and not np.isfinite(array).all()
    ]
