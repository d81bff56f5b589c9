"""The pass that gives dynamic dimensions of inputs a fixed size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from modelopt_cli.errors import UsageError
from modelopt_cli.graph import diff
from modelopt_cli.passes.base import Pass, PassContext, PassResult
from modelopt_cli.passes.fuse.inputs import find_input, substitute, substitutes

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
        sizes: dict[str, int | str] = {}
        for name, shape in self.shapes.items():
            for symbol, size in substitutes(find_input(model, name, self.name), shape, self.name):
                if sizes.setdefault(symbol, size) != size:
                    raise UsageError(
                        f"dimension '{symbol}' is pinned to {sizes[symbol]} and to {size}", where=self.name
                    )
        substitute(model, sizes, self.shapes)
        changed = diff.count_edits(before, diff.items(model))
        del original  # kept until here: items are compared by the identity of its tensors
        return PassResult(model, changed)
