"""What a model declares of its inputs' dimensions, written anew there and wherever else a dimension's name occurs."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from modelopt_cli.errors import UsageError
from modelopt_cli.graph import diff


def declare(model: ir.Model, shapes: Mapping[str, Sequence[int | str]], where: str) -> int:
    """Give inputs other shapes, in place; returns how many edits that were.

    Args:
        model: What is edited; a named dimension of an input becomes what stands in its place everywhere.
        shapes: By input: a size or a name for each dimension.
        where: The pass that asks, for messages.

    Raises:
        UsageError: There is no such input, it has another rank or other fixed sizes, or one dimension would become two.
    """
    before, original = diff.items(model), model.clone()
    dims: dict[str, int | str] = {}
    inputs = {name: _input(model, name, where) for name in shapes}
    for name, shape in shapes.items():
        for symbol, new in _substitutes(inputs[name], shape, where):
            if dims.setdefault(symbol, new) != new:
                raise UsageError(f"dimension '{symbol}' is to be {dims[symbol]} and {new}", where=where)
    for value in _values(model):
        if value.shape is not None and any(_symbol(dim) in dims for dim in value.shape):
            value.shape = ir.Shape([dims.get(_symbol(dim), dim) for dim in value.shape])
    for name, shape in shapes.items():
        inputs[name].shape = ir.Shape(shape)
    changed = diff.count_edits(before, diff.items(model))
    del original  # kept until here: items are compared by the identity of its tensors
    return changed


def _input(model: ir.Model, name: str, where: str) -> ir.Value:
    names = [value.name or "" for value in model.graph.inputs]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"inputs: {', '.join(names)}"
        raise UsageError(f"the model has no input '{name}'", where=where, hint=hint)
    return model.graph.inputs[names.index(name)]


def _substitutes(value: ir.Value, shape: Sequence[int | str], where: str) -> Iterator[tuple[str, int | str]]:
    """The named dimensions of an input with what a shape has in their place."""
    declared = value.shape
    if declared is None:
        return
    fits = len(declared) == len(shape) and all(
        not isinstance(old, int) or old == new for old, new in zip(declared, shape, strict=False)
    )
    if not fits:
        raise UsageError(f"input '{value.name}' is {_text(declared)} and cannot be {_text(shape)}", where=where)
    for old, new in zip(declared, shape, strict=True):
        if symbol := _symbol(old):
            yield symbol, new


def _symbol(dim: int | ir.SymbolicDim) -> str:
    return dim.value or "" if isinstance(dim, ir.SymbolicDim) else ""


def _text(shape: Sequence[int | str] | ir.Shape) -> str:
    return "x".join("?" if isinstance(dim, ir.SymbolicDim) and dim.value is None else str(dim) for dim in shape)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.inputs
        for node in graph:
            yield from node.outputs
