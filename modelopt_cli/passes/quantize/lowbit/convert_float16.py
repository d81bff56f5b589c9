"""The pass that stores or computes in float16 or bfloat16."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from modelopt_cli.data.dataset import Dataset
from modelopt_cli.errors import ModelError
from modelopt_cli.graph.edit import all_nodes, forget_names
from modelopt_cli.graph.io import weight_bytes
from modelopt_cli.passes.base import Pass, PassContext, PassResult
from modelopt_cli.passes.quantize.lowbit.decode import NODE_BYTES
from modelopt_cli.passes.quantize.lowbit.half_format import FORMATS, FormatName, HalfFormat
from modelopt_cli.passes.quantize.lowbit.half_ranges import HalfTypes, choose_half_nodes
from modelopt_cli.passes.quantize.lowbit.half_writer import compute_in_half, halve_interface, store_weights
from modelopt_cli.profiling.session import open_session, run

CHECKED_SAMPLES = 16
_NO_DATA = {
    "code": "no-calibration-data",
    "message": "no calibration data: ranges are not known, so only weights are float16",
    "advice": "--calib FILE lets operators compute in float16",
}
_NOT_FINITE = {
    "code": "float16-undone",
    "message": "computing in 16 bits gave infinities or no session on the calibration data: only weights do",
    "advice": "compute: weights says so from the start",
}
_NOT_SMALLER = {
    "code": "float16-larger",
    "message": "conversions around 16-bit operators would take more bytes than weights give back: they stay float32",
    "advice": "none: such a model is all operators",
}
_NOT_HALVED = {
    "code": "float16-io-undone",
    "message": "inputs or outputs in float16 gave infinities on the calibration data: they stay float32",
    "advice": "leave --io float16 out, or scale the inputs",
}


class ConvertFloat16(Pass):
    """Halve the file with float16 weights, and on GPUs compute in float16 where the ranges of values allow it.

    CPUs have no float16 kernels to speak of: there only weights are stored in float16, and a session makes them float32
    when it loads. Elsewhere operators compute in float16, but for sums and exponentials, values that calibration data
    shows to overflow, and constants that float16 cannot hold. Inputs and outputs stay float32 without ``io``.
    """

    name: ClassVar[str] = "convert-float16"
    family: ClassVar[Literal["fuse", "prune", "quantize"]] = "quantize"
    effect: ClassVar[Literal["exact", "lossy"]] = "lossy"
    min_opset: ClassVar[int] = 13

    compute: Annotated[
        Literal["auto", "float16", "weights"],
        Field(description="weights: only the file is 16-bit; auto: weights on CPUs, 16-bit operators elsewhere."),
    ] = "auto"
    format: Annotated[
        FormatName, Field(description="bfloat16 holds what float16 cannot, at three bits less of precision.")
    ] = "float16"
    io: Annotated[
        Literal["float32", "float16"], Field(description="What float32 inputs and outputs become; also --io float16.")
    ] = "float32"

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        """Return ``model`` edited, or a clone of it; see the class."""
        forget_names(model)
        result = self._convert(model, ctx)
        if self.io == "float32":
            return result
        halved = result.model.clone()
        changed = halve_interface(halved, FORMATS["float16"])
        if ctx.calibration is not None and not _is_finite(halved, ctx.calibration):
            return _with_notice(result, _NOT_HALVED)
        details = result.details | {"inputs_outputs": changed}
        return replace(result, model=halved, changed=result.changed + changed, details=details)

    def changes_types(self) -> bool:
        """Whether inputs and outputs take 16 bits."""
        return self.io != "float32"

    def _convert(self, model: ir.Model, ctx: PassContext) -> PassResult:
        half = FORMATS[self.format]
        computes = self.compute == "float16" or (
            self.compute == "auto" and ctx.target.provider not in ("cpu", "openvino")
        )
        if not computes:
            return _store_weights(model, half)
        if ctx.calibration is None:
            return _with_notice(_store_weights(model, half), _NO_DATA)
        clone = model.clone()
        result = _compute_in_half(clone, half, ctx.calibration, ctx)
        if not _is_smaller(result.model, model):
            return _with_notice(_store_weights(model, half), _NOT_SMALLER)
        if _is_finite(result.model, ctx.calibration):
            return result
        return _with_notice(_store_weights(model, half), _NOT_FINITE)


def _with_notice(result: PassResult, notice: dict[str, str]) -> PassResult:
    notices = [*result.details.get("notices", ()), notice]
    return replace(result, details=result.details | {"notices": notices})


def _store_weights(model: ir.Model, half: HalfFormat) -> PassResult:
    stored, skipped = store_weights(model, half)
    return PassResult(model, stored, tuple(skipped), {"weights": stored})


def _compute_in_half(model: ir.Model, half: HalfFormat, data: Dataset, ctx: PassContext) -> PassResult:
    types = HalfTypes(model, half)
    nodes, skipped = choose_half_nodes(model, types, data, ctx.progress)
    compute_in_half(model, types, nodes)
    stored = _store_weights(model, half)  # of what stays float32
    details = {"nodes": len(nodes), "weights": stored.changed}
    return PassResult(model, len(nodes) + stored.changed, (*skipped, *stored.skipped), details)


def _is_smaller(half: ir.Model, full: ir.Model) -> bool:
    more = sum(1 for _ in all_nodes(half)) - sum(1 for _ in all_nodes(full))
    return weight_bytes(half) + more * NODE_BYTES <= weight_bytes(full)


def _is_finite(model: ir.Model, data: Dataset) -> bool:
    """Whether it loads, and gives numbers on calibration samples."""
    try:
        session = open_session(model, arena=False)
        return all(
            np.isfinite(array).all()
            for sample in data.take(CHECKED_SAMPLES)
            for array in run(session, dict(sample))
            if array.dtype.kind == "f"
        )
    except ModelError:
        return False
