"""The pass that makes activations and weights int8 with ranges found beforehand, on calibration data."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from modelopt_cli.passes.base import Need, PassContext, PassResult, Skip
from modelopt_cli.passes.quantize.builder import Builder, Built
from modelopt_cli.passes.quantize.calibrated import CalibratedPass
from modelopt_cli.passes.quantize.plan import Plan, default_plan
from modelopt_cli.passes.quantize.search import Search, search_plan
from modelopt_cli.targets.schemes import Scheme, scheme_for

_INTEGER_MARKS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul")


class QuantizeStatic(CalibratedPass):
    """Quantize weights and activations to int8 with ranges found on calibration data.

    QuantizeLinear and DequantizeLinear are placed where the target's runtime takes them for integer kernels; what it
    would not take, or what is faster in float, stays float, by a cost table first and by measurement after that.
    """

    name: ClassVar[str] = "quantize-static"
    family: ClassVar[Literal["fuse", "prune", "quantize"]] = "quantize"
    effect: ClassVar[Literal["exact", "lossy"]] = "lossy"
    needs: ClassVar[frozenset[Need]] = frozenset({"calibration"})
    min_opset: ClassVar[int] = 13  # DequantizeLinear has an axis from here on

    percentile: Annotated[float, Field(gt=50, le=100, description="Of calibrator percentile.")] = 99.99
    per_channel: Annotated[bool, Field(description="One weight scale per output channel.")] = True
    ops: Annotated[
        tuple[str, ...], Field(description="Operator types that may run as integers; none given: the target's.")
    ] = ()

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        """Return a quantized clone of ``model``; see the class."""
        scheme = scheme_for(ctx.target)
        refusal = refusal_of(model, scheme)
        if refusal is not None:
            return PassResult(model, 0, (refusal,))
        data = ctx.need_calibration(self.name).take(self.samples)
        log: list[str] = []
        model = self._equalized(model, data, ctx, log)
        builder = Builder(
            model,
            scheme,
            data,
            per_channel=self.per_channel,
            percentile=self.percentile,
            observers=self._observers,
            cache=ctx.cache,
            progress=ctx.progress,
            memory=ctx.memory,
            contrib=ctx.target.provider == "cpu" and ctx.target.dialect == "onnxruntime",
        )
        start = self._unmixed(self._start(scheme), builder, log)
        search = search_plan(builder, start, self._measuring_s(ctx.target))
        search.log[:0] = log
        self._finish(model, builder, search, ctx)
        return self._explained(result_of(search), model, builder, search, ctx)

    def _start(self, scheme: Scheme) -> Plan:
        if self.plan is not None:
            return Plan.from_json(self.plan)
        plan = default_plan(scheme)
        return replace(
            plan,
            ops=frozenset(self.ops) & scheme.integer_ops if self.ops else plan.ops,
            float_nodes=frozenset(self.exclude),
            only_nodes=frozenset(self.include),
        )


def refusal_of(model: ir.Model, scheme: Scheme) -> Skip | None:
    """Why static int8 is not for this model on this target, if it is not."""
    if not scheme.runs_integers:
        return Skip(model.graph.name or "model", scheme.why)
    if any(node.op_type in _INTEGER_MARKS for node in model.graph):
        return Skip(model.graph.name or "model", "it is quantized already")
    return None


def result_of(search: Search) -> PassResult:
    """A search as the result of a pass."""
    built = search.built
    details = search.to_json() | {"integer_ops": _counts(built), "int8_in_file_only": len(built.stored)}
    return PassResult(built.model, len(built.regions.integer) + len(built.stored), built.regions.skipped, details)


def _counts(built: Built) -> dict[str, int]:
    return dict(sorted(Counter(what.node.op_type for what in built.regions.integer.values()).items()))
