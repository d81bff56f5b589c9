"""The pass that gives dynamic dimensions of inputs a fixed size."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from modelopt_cli.errors import UsageError
from modelopt_cli.graph import diff
from modelopt_cli.passes.base import Pass, PassContext, PassResult

Size = Annotated[int, Field(ge=1)]


class PinInputs(Pass):
    """Fix dynamic dimensions of inputs, so that everything that depends on them can be computed beforehand.

    The result takes inputs of these shapes only. A dimension with a name is fixed wherever the name occurs. Works best
    before ``simplify``.

    Example::

        - pass: pin-inputs
          with: {shapes: {ids: [1, 128]}}
        - pass: simplify
    """

    name: ClassVar[str] = "pin-inputs"
    family: ClassVar[Literal["fuse", "prune", "quantize"]] = "fuse"
    effect: ClassVar[Literal["exact", "lossy"]] = "exact"
    changes_io: ClassVar[bool] = True

    shapes: Annotated[
        dict[str, tuple[Size, ...]], Field(default_factory=dict, description="Shape of each input to fix, by name.")
    ]

    def input_shapes(self) -> Mapping[str, Sequence[int]]:
        return self.shapes

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        """Fix the shapes in place.

        Raises:
            UsageError: There is no such input, or it has other dimensions.
        """
        before, original = diff.items(model), model.clone()
        sizes: dict[str, int] = {}
        for name, shape in self.shapes.items():
            for symbol, size in _pins(_input(model, name), shape):
                if sizes.setdefault(symbol, size) != size:
                    raise UsageError(
                        f"dimension '{symbol}' is pinned to {sizes[symbol]} and to {size}", where=self.name
                    )
        for value in _values(model):
            if value.shape is not None and any(_symbol(dim) in sizes for dim in value.shape):
                value.shape = ir.Shape([sizes.get(_symbol(dim), dim) for dim in value.shape])
        for name, shape in self.shapes.items():
            _input(model, name).shape = ir.Shape(shape)
        changed = diff.count_edits(before, diff.items(model))
        del original  # kept until here: items are compared by the identity of its tensors
        return PassResult(model, changed)


def _input(model: ir.Model, name: str) -> ir.Value:
    names = [value.name or "" for value in model.graph.inputs]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"inputs: {', '.join(names)}"
        raise UsageError(f"the model has no input '{name}'", where=PinInputs.name, hint=hint)
    return model.graph.inputs[names.index(name)]


def _pins(value: ir.Value, shape: Sequence[int]) -> Iterator[tuple[str, int]]:
    """The named dimensions of an input with their sizes."""
    declared = value.shape
    if declared is None:
        return
    fits = len(declared) == len(shape) and all(
        not isinstance(old, int) or old == new for old, new in zip(declared, shape, strict=False)
    )
    if not fits:
        raise UsageError(
            f"input '{value.name}' is {_text(declared)} and cannot be {_text(ir.Shape(shape))}", where=PinInputs.name
        )
    for old, new in zip(declared, shape, strict=True):
        if symbol := _symbol(old):
            yield symbol, new


def _symbol(dim: int | ir.SymbolicDim) -> str:
    return dim.value or "" if isinstance(dim, ir.SymbolicDim) else ""


def _text(shape: ir.Shape) -> str:
    return "x".join("?" if isinstance(dim, ir.SymbolicDim) and dim.value is None else str(dim) for dim in shape)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.inputs
        for node in graph:
            yield from node.outputs
