"""Dimensions of a model's inputs, and what stands for them everywhere else: for passes that change what is declared."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from modelopt_cli.errors import UsageError


def find_input(model: ir.Model, name: str, where: str) -> ir.Value:
    """The input of this name.

    Raises:
        UsageError: There is none; ``where`` says which pass wanted it.
    """
    names = [value.name or "" for value in model.graph.inputs]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"inputs: {', '.join(names)}"
        raise UsageError(f"the model has no input '{name}'", where=where, hint=hint)
    return model.graph.inputs[names.index(name)]


def substitutes(value: ir.Value, shape: Sequence[int | str], where: str) -> Iterator[tuple[str, int | str]]:
    """The named dimensions of an input with what a shape has in their place.

    Raises:
        UsageError: The shape has another rank, or other fixed sizes.
    """
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


def substitute(model: ir.Model, dims: Mapping[str, int | str], inputs: Mapping[str, Sequence[int | str]]) -> None:
    """Write other dimensions for named ones, wherever these occur, and whole shapes for some inputs; in place."""
    for value in _values(model):
        if value.shape is not None and any(_symbol(dim) in dims for dim in value.shape):
            value.shape = ir.Shape([dims.get(_symbol(dim), dim) for dim in value.shape])
    for name, shape in inputs.items():
        find_input(model, name, "").shape = ir.Shape(shape)


def _symbol(dim: int | ir.SymbolicDim) -> str:
    return dim.value or "" if isinstance(dim, ir.SymbolicDim) else ""


def _text(shape: Sequence[int | str] | ir.Shape) -> str:
    return "x".join("?" if isinstance(dim, ir.SymbolicDim) and dim.value is None else str(dim) for dim in shape)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.inputs
        for node in graph:
            yield from node.outputs
