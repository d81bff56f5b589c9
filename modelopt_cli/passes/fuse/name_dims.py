"""The pass that says which dynamic dimensions of inputs are always equal."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from modelopt_cli.errors import UsageError
from modelopt_cli.passes.base import Pass, PassContext, PassResult
from modelopt_cli.passes.fuse.inputs import declare

Dim = Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]


class NameDims(Pass):
    """Give dynamic dimensions of inputs names, equal ones for what is always equal, so that rules can rely on it.

    Exporters that name the dimensions of each input by themselves (tf2onnx: unk__1, unk__2 ...) leave open whether a
    mask is as long as the tokens that it hides. Inputs that contradict the names may be refused by the result, or
    computed otherwise; all others give what they gave. Works best before ``simplify``.

    Example::

        - pass: name-dims
          with: {inputs: {ids: [batch, sequence], mask: [batch, sequence]}}
        - pass: simplify
    """

    name: ClassVar[str] = "name-dims"
    family: ClassVar[Literal["fuse", "prune", "quantize"]] = "fuse"
    effect: ClassVar[Literal["exact", "lossy"]] = "exact"
    changes_io: ClassVar[bool] = True

    inputs: Annotated[
        dict[str, tuple[Dim, ...]],
        Field(default_factory=dict, description="Dimensions of inputs: a name, or a size that is fixed anyway."),
    ]

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        """Write the names in place.

        Raises:
            UsageError: A size is not fixed yet, or see `declare`.
        """
        for value in model.graph.inputs:
            for old, new in zip(value.shape or (), self.inputs.get(str(value.name), ()), strict=False):
                if isinstance(new, int) and not isinstance(old, int):
                    message = f"dimension '{old}' of input '{value.name}' is dynamic and cannot be named {new}"
                    raise UsageError(message, where=self.name, hint="pin-inputs fixes sizes")
        return PassResult(model, declare(model, self.inputs, self.name))
