"""One batch of inputs to time a model with: from the user's data where there is some, by stated defaults otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.data.dataset import Sample
from modelopt_cli.errors import UsageError

IMAGE_SIDE = 224  # default of the last two dimensions of a rank-4 input
LENGTH = 128  # default of any other free dimension but the first


@dataclass(frozen=True)
class Feeds:
    """One batch of inputs.

    Attributes:
        arrays: By input name.
        assumed: Free dimensions that nothing told the size of, with the default taken: ``{"ids.seq": 128}``.
    """

    arrays: dict[str, np.ndarray]
    assumed: dict[str, int]


def feeds_for(
    model: ir.Model,
    sample: Sample | None = None,
    *,
    batch: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    assume: Mapping[str, int] | None = None,
    integer: int = 1,
) -> Feeds:
    """Inputs of the shapes to be measured.

    Values come from ``sample``, repeated or cut to the shape; without it floats are standard normal, integers are 1
    (a valid index, and an open attention mask) and texts are "1" (a word, and a number for those who parse it). A
    dimension takes its size from, in this order: the model when fixed there, ``shapes``, what they say of another
    input's dimension of the same name, ``batch`` when it is the first, the sample, another input's dimension of the
    same name, and at last a default that `Feeds.assumed` reports.

    Args:
        model: Whose inputs are fed.
        sample: One sample, with a leading batch dimension of 1.
        batch: Size of a free first dimension.
        shapes: Whole shapes by input name, over everything but dimensions that the model fixes.
        seed: Of the random values.
        assume: Sizes instead of the defaults, by the keys of `Feeds.assumed`.
        integer: What integers are.

    Raises:
        UsageError: A shape for an input that does not exist, or that the model contradicts; an input of unknown rank
            without data for it; an input that is no tensor.
    """
    inputs = {v.name or "": v for v in model.graph.inputs if v.name not in model.graph.initializers}
    unknown = sorted(set(shapes or {}) - set(inputs))
    if unknown:
        raise UsageError(f"the model has no input '{unknown[0]}'", hint=f"it has {', '.join(inputs)}")
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    assumed: dict[str, int] = {}
    known: dict[str, int] = {}
    told = _told_sizes(inputs, shapes or {})
    for name, value in inputs.items():
        given = None if sample is None or name not in sample else np.asarray(sample[name])
        _refuse_other_types(value)
        shape = _shape(value, given, batch, (shapes or {}).get(name), told, known, assumed, assume or {})
        arrays[name] = _values(value, shape, rng, integer) if given is None else _fit(given, shape)
    return Feeds(arrays, assumed)


def _told_sizes(inputs: Mapping[str, ir.Value], shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Size of each dimension that has a name, from the shapes asked for: one input says it for all that share it."""
    told: dict[str, int] = {}
    for name, sizes in shapes.items():
        dimensions = inputs[name].shape
        if dimensions is not None and len(dimensions) == len(sizes):
            for dimension, size in zip(dimensions, sizes, strict=True):
                if not isinstance(dimension, int) and dimension.value:
                    told.setdefault(dimension.value, size)
    return told


def _shape(
    value: ir.Value,
    given: np.ndarray | None,
    batch: int,
    asked: Sequence[int] | None,
    told: Mapping[str, int],
    known: dict[str, int],
    assumed: dict[str, int],
    assume: Mapping[str, int],
) -> tuple[int, ...]:
    declared = _dimensions(value, given, asked)
    if asked is not None and len(asked) != len(declared):
        raise UsageError(f"input '{value.name}' has {len(declared)} dimensions, not {len(asked)}", hint="--shape")
    sizes: list[int] = []
    for axis, dimension in enumerate(declared):
        if isinstance(dimension, int):
            size = dimension
            if asked is not None and asked[axis] != size:
                raise UsageError(f"input '{value.name}' is fixed to {size} at dimension {axis}, not {asked[axis]}")
        elif asked is not None:
            size = asked[axis]
        elif dimension in told:
            size = told[str(dimension)]
        elif axis == 0:
            size = batch
        elif given is not None:
            size = given.shape[axis]
        elif dimension in known:
            size = known[dimension]
        else:
            key = f"{value.name}.{dimension or axis}"
            size = assumed[key] = assume.get(key, IMAGE_SIDE if len(declared) == 4 and axis >= 2 else LENGTH)
        if isinstance(dimension, str):
            known.setdefault(dimension, size)
        sizes.append(size)
    return tuple(sizes)


def _dimensions(value: ir.Value, given: np.ndarray | None, asked: Sequence[int] | None) -> list[int | str | None]:
    if value.shape is not None:
        return [d if isinstance(d, int) else d.value for d in value.shape]
    if given is not None:
        return [None] * given.ndim
    if asked is not None:
        return [None] * len(asked)
    raise UsageError(f"the model does not say the rank of input '{value.name}'", hint=f"--shape {value.name}=1x...")


def _fit(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The sample, cut where it is longer than the shape and repeated where it is shorter."""
    if array.ndim != len(shape):
        raise UsageError(f"a sample of {array.ndim} dimensions does not fit an input of {len(shape)}")
    if 0 in array.shape and 0 not in shape:
        raise UsageError("a sample without a single element cannot be measured", hint="--shape NAME=1x128")
    for axis, size in enumerate(shape):
        array = np.take(array, np.arange(size) % max(array.shape[axis], 1), axis=axis)
    return np.ascontiguousarray(array)


def _refuse_other_types(value: ir.Value) -> None:
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        kind = type(value.type).__name__.removesuffix("Type").lower()
        raise UsageError(f"input '{value.name}' is of type {kind}: only tensors can be fed")


def _values(value: ir.Value, shape: tuple[int, ...], rng: np.random.Generator, integer: int) -> np.ndarray:
    if value.dtype is None:
        raise UsageError(f"the model does not say the type of input '{value.name}'", hint="export it again")
    if value.dtype == ir.DataType.STRING:
        return np.full(shape, "1", dtype=object)
    dtype = value.dtype.numpy()
    if value.dtype.is_floating_point():
        return rng.standard_normal(shape, dtype=np.float32).astype(dtype)
    return np.full(shape, integer).astype(dtype)
