"""The pass that gives dynamic dimensions of inputs a fixed size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from modelopt_cli.passes.base import Pass, PassContext, PassResult
from modelopt_cli.passes.fuse.inputs import declare

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
            UsageError: See `declare`.
        """
        return PassResult(model, declare(model, self.shapes, self.name))
