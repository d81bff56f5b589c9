"""The automatic pass of recipe ``int8``: static, dynamic or int8 in the file only, whichever each part is best in."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import onnx_ir as ir

from modelopt_cli.data.dataset import Dataset, Sample
from modelopt_cli.graph.edit import drop_unread_weights, forget_names
from modelopt_cli.passes.base import PassContext, PassResult, Skip
from modelopt_cli.passes.quantize.builder import Builder, Built
from modelopt_cli.passes.quantize.calibrated import CalibratedPass, is_this_machine
from modelopt_cli.passes.quantize.output_error import OutputJudge
from modelopt_cli.passes.quantize.plan import Plan, default_plan
from modelopt_cli.passes.quantize.quantize_dynamic import QuantizeDynamic
from modelopt_cli.passes.quantize.quantize_static import refusal_of, result_of
from modelopt_cli.passes.quantize.regions import Regions
from modelopt_cli.passes.quantize.search import Search, gate, search_plan
from modelopt_cli.passes.quantize.sensitivity import DynamicAlone, Sensitivity, measure_groups
from modelopt_cli.passes.quantize.weight_only import store_weights_as_int8
from modelopt_cli.profiling.feeds import feeds_for
from modelopt_cli.targets.schemes import scheme_for

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_NO_DATA = {
    "code": "no-calibration-data",
    "message": "no calibration data: convolutions stay float, their weights are int8 in the file only",
    "advice": "--calib FILE lets them run as integers",
}


class Quantize(CalibratedPass):
    """Quantize to int8, each part in the way that is fastest and closest on the target.

    Convolutions and what stands between them are static (ranges from calibration data); MatMul, Gemm and LSTM that no
    integer kernel feeds find their ranges at run time; weights that float operators read are int8 in the file. The
    whole is timed against the float model, and what does not pay is undone. Without calibration data the static part is
    left out, and the report says so.
    """

    name: ClassVar[str] = "quantize"
    family: ClassVar[Literal["fuse", "prune", "quantize"]] = "quantize"
    effect: ClassVar[Literal["exact", "lossy"]] = "lossy"
    min_opset: ClassVar[int] = 13

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        """Return a quantized clone of ``model``; see the class."""
        refusal = refusal_of(model, scheme_for(ctx.target))
        if refusal is not None:
            return PassResult(model, 0, (refusal,))
        if ctx.calibration is None:
            return self._without_data(model, ctx)
        return self._with_data(model, ctx, ctx.calibration.take(self.samples))

    def sensitivity(self, model: ir.Model, ctx: PassContext, judged: Dataset, deadline: float) -> Sensitivity:
        """The error of each group of the table's plan, alone and left out, on ``judged``; nothing is changed.

        Args:
            model: The float model, fused; of opset 13 or later.
            ctx: With calibration data.
            judged: Samples on which outputs are compared.
            deadline: In the seconds of ``time.monotonic``.

        Raises:
            UsageError: There is no calibration data.
        """
        data = ctx.need_calibration("sensitivity").take(self.samples)
        model = self._equalized(model, data, ctx, [])
        builder, alone = self._builder(model, ctx, data)
        plan = self._start(default_plan(builder.scheme))
        judge = OutputJudge(model, judged)
        groups = builder.groups(plan)
        found = measure_groups(
            groups, builder, plan, judge, alone, deadline=deadline, progress=ctx.progress, also_without=True
        )
        return Sensitivity(judge.judge(builder.build(plan).model), tuple(found), len(groups))

    def _builder(self, model: ir.Model, ctx: PassContext, data: Dataset) -> tuple[Builder, DynamicAlone]:
        def rest(clone: ir.Model, plan: Plan, final: bool) -> PassResult:
            # Drafts are timed: how well weights are rounded does not matter to that, and takes long.
            return self._dynamic(plan).apply(clone, ctx if final else replace(ctx, calibration=None))

        def alone(names: Sequence[str]) -> ir.Model:
            clone = model.clone()
            forget_names(clone)
            wanted = tuple(glob.escape(name) for name in names)
            QuantizeDynamic(include=wanted, embeddings=False).apply(clone, replace(ctx, calibration=None))
            return clone

        scheme = scheme_for(ctx.target)
        builder = Builder(
            model,
            scheme,
            data,
            rest=rest,
            observers=self._observers,
            cache=ctx.cache,
            progress=ctx.progress,
            memory=ctx.memory,
            contrib=ctx.target.provider == "cpu" and ctx.target.dialect == "onnxruntime",
        )
        return builder, alone

    def _with_data(self, model: ir.Model, ctx: PassContext, data: Dataset) -> PassResult:
        log: list[str] = []
        model = self._equalized(model, data, ctx, log)
        builder, alone = self._builder(model, ctx, data)
        start = self._unmixed(self._start(default_plan(builder.scheme)), builder, log)
        search = search_plan(builder, start, self._measuring_s(ctx.target))
        search.log[:0] = log
        self._finish(model, builder, search, ctx, alone)
        return self._explained(self._result(search), model, builder, search, ctx, alone)

    def _without_data(self, model: ir.Model, ctx: PassContext) -> PassResult:
        planned = None if self.plan is None else Plan.from_json(self.plan)
        if planned is not None and planned.float_only:
            return self._result(Search(_stored(model), planned))
        built = self._data_free(model, ctx)
        search = Search(built, Plan(frozenset()))
        if planned is None and self.budget > 0 and is_this_machine(ctx.target):
            sample: Sample = ctx.sample if ctx.sample is not None else feeds_for(model, seed=ctx.seed).arrays
            gate(search, model, sample, lambda: _stored(model), self.budget)
        result = self._result(search)
        if any(node.op_type in _CONVOLUTIONS for node in model.graph):
            result.details["notices"] = [_NO_DATA]
        return result

    def _data_free(self, model: ir.Model, ctx: PassContext) -> Built:
        clone = model.clone()
        forget_names(clone)
        done = self._dynamic(Plan(frozenset())).apply(clone, ctx)
        stored = store_weights_as_int8(done.model.graph)
        drop_unread_weights(done.model.graph)
        return Built(done.model, Regions({}, ()), tuple(stored), done)

    def _result(self, search: Search) -> PassResult:
        result, rest = result_of(search), search.built.rest
        if rest is None:
            return result
        details = result.details | {"dynamic": rest.details | {"changed": rest.changed}}
        return PassResult(result.model, result.changed + rest.changed, _merged(result, rest), details)

    def _start(self, table: Plan) -> Plan:
        if self.plan is not None:
            return Plan.from_json(self.plan)
        return replace(
            table, float_nodes=frozenset(self.exclude), only_nodes=frozenset(self.include), fed_by_integers=True
        )

    def _dynamic(self, plan: Plan) -> QuantizeDynamic:
        kept = tuple(glob.escape(name) for name in sorted(plan.float_products))
        return QuantizeDynamic(include=self.include or ("*",), exclude=(*self.exclude, *kept))


def _stored(model: ir.Model) -> Built:
    clone = model.clone()
    forget_names(clone)
    stored = store_weights_as_int8(clone.graph)
    drop_unread_weights(clone.graph)
    return Built(clone, Regions({}, ()), tuple(stored))


def _merged(static: PassResult, dynamic: PassResult) -> tuple[Skip, ...]:
    """Refusals of both ways; a product that the static part left to the dynamic one is no refusal."""
    kept = [s for s in static.skipped if not s.reason.startswith(("MatMul: ", "Gemm: "))]
    kept += [s for s in dynamic.skipped if "slower than float on CPUs" not in s.reason]
    return tuple(kept)
