"""The pass that says which dynamic dimensions of inputs are always equal."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from modelopt_cli.errors import UsageError
from modelopt_cli.graph import diff
from modelopt_cli.passes.base import Pass, PassContext, PassResult
from modelopt_cli.passes.fuse.inputs import find_input, substitute, substitutes

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
            UsageError: There is no such input, it has other dimensions, one would have two names, or a size is not
                fixed yet.
        """
        before, original = diff.items(model), model.clone()
        names: dict[str, int | str] = {}
        for name, dims in self.inputs.items():
            value = find_input(model, name, self.name)
            for symbol, new in substitutes(value, dims, self.name):
                if names.setdefault(symbol, new) != new:
                    message = f"dimension '{symbol}' is named '{names[symbol]}' and '{new}'"
                    raise UsageError(message, where=self.name)
            for old, new in zip(value.shape or (), dims, strict=False):
                if isinstance(new, int) and not isinstance(old, int):
                    message = f"dimension '{old}' of input '{name}' is dynamic and cannot be named {new}"
                    raise UsageError(message, where=self.name, hint="pin-inputs fixes sizes")
        substitute(model, names, self.inputs)
        changed = diff.count_edits(before, diff.items(model))
        del original  # kept until here: items are compared by the identity of its tensors
        return PassResult(model, changed)
