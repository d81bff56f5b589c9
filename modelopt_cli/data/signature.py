"""What a model takes: its inputs with their types and dimensions, read off the graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.errors import ModelError

Dim = int | str | None


@dataclass(frozen=True)
class InputSpec:
    """One input of a model.

    Attributes:
        shape: Per axis a size, a symbol's name, or None for an axis that is free and has no name; None as a whole when
            the rank is not declared.
    """

    name: str
    dtype: np.dtype
    shape: tuple[Dim, ...] | None

    def __str__(self) -> str:
        """As messages write it: ``float32[batch, 3, 224, 224]``."""
        dims = "?" if self.shape is None else ", ".join("?" if dim is None else str(dim) for dim in self.shape)
        return f"{self.dtype}[{dims}]"


Signature = tuple[InputSpec, ...]


def signature(model: ir.Model) -> Signature:
    """The inputs a caller must give: graph inputs without those that an initializer gives a default.

    Raises:
        ModelError: An input is not a tensor of numbers.
    """
    given = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    return tuple(_spec(value) for value in given)


def _spec(value: ir.Value) -> InputSpec:
    if not isinstance(value.type, ir.TensorType) or value.dtype in (None, ir.DataType.UNDEFINED, ir.DataType.STRING):
        raise ModelError(f"input '{value.name}' is no tensor of numbers: data cannot be fed to it")
    shape = None if value.shape is None else tuple(_dim(dim) for dim in value.shape.dims)
    return InputSpec(value.name or "", value.type.dtype.numpy(), shape)


def _dim(dim: int | ir.SymbolicDim) -> Dim:
    return dim if isinstance(dim, int) else dim.value
