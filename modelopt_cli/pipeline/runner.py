"""A recipe on a model: check everything, run the steps, measure the result, write the report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from modelopt_cli.format import format_percent
from modelopt_cli.graph.io import MAX_PROTOBUF_BYTES, SourceModel, weight_bytes
from modelopt_cli.graph.stats import model_stats
from modelopt_cli.passes.base import PassContext
from modelopt_cli.passes.prune.sparse_kernels import quantized_in_vain
from modelopt_cli.pipeline.aim import accuracy_drop
from modelopt_cli.pipeline.check import check_result
from modelopt_cli.pipeline.fit import fitted
from modelopt_cli.pipeline.gates import check_gates
from modelopt_cli.pipeline.inside import look_inside
from modelopt_cli.pipeline.lock import check_result as check_locked
from modelopt_cli.pipeline.measure import (
    Subject,
    left_to_others,
    measure_audit,
    measure_compressed,
    measure_fidelity,
    measure_latency,
)
from modelopt_cli.pipeline.memory import release_memory, return_large_blocks
from modelopt_cli.pipeline.options import CompressOptions
from modelopt_cli.pipeline.plan import decisions
from modelopt_cli.pipeline.preflight import check_memory, estimate, expectation
from modelopt_cli.pipeline.prepare import Prepared, RunData, metric_of, prepare
from modelopt_cli.pipeline.provenance import environment, stamp
from modelopt_cli.pipeline.result_file import ResultFile
from modelopt_cli.pipeline.steps import run_steps
from modelopt_cli.profiling.custom_ops import custom_ops
from modelopt_cli.profiling.feeds import Feeds
from modelopt_cli.profiling.placement import Placement
from modelopt_cli.profiling.session import runtime
from modelopt_cli.recipe.schema import Recipe
from modelopt_cli.report.model import Notice, RunReport, Usage
from modelopt_cli.targets.detect import detect_isa
from modelopt_cli.targets.runtimes import lowest_onnxruntime
from modelopt_cli.targets.schemes import scheme_for
from modelopt_cli.targets.target import Target
from modelopt_cli.targets.tensorrt import tensorrt_violations


@dataclass(frozen=True)
class CompressResult:
    """What a run made; nothing is written yet.

    Attributes:
        model: The compressed graph.
        file: Its serialized form, or None above 2 GB.
        report: Everything that was measured and decided.
    """

    model: ir.Model
    file: ResultFile | None
    report: RunReport

    @property
    def content(self) -> bytes | None:
        """The serialized bytes, read anew where the result is large; None above 2 GB."""
        return None if self.file is None else self.file.read()


def compress(source: SourceModel, recipe: Recipe, options: CompressOptions | None = None) -> CompressResult:
    """Run ``recipe`` on ``source`` and measure the result against it.

    Args:
        source: The model as the user gave it; it is not changed.
        recipe: Steps, target and requirements.
        options: Data and measuring; the default measures latency on the target and has no data.

    Raises:
        UsageError: A requirement or a step needs data that is not there, or ``max_memory`` is too little.
        DataError: The data does not fit the model.
        ModelError: The runtime cannot load the source.
        ProviderError: A requested provider is not available.
        PassError: A step failed, or the result is not a valid stand-in for the source.
        GateError: The run is locked, and something differs from the plan's.
    """
    started = time.perf_counter()
    return_large_blocks()
    options = options or CompressOptions()
    prepared = prepare(source, recipe, options)
    target, passes, data, feeds = prepared.target, prepared.passes, prepared.data, prepared.feeds
    expected = estimate(prepared, source, recipe, options)
    check_memory(expected, source)
    if said := expectation(expected):
        options.progress.note(said)
    hashes = dict(prepared.hashes)
    context = PassContext(
        target=target,
        seed=recipe.seed,
        calibration=data.calibration,
        sample=feeds.arrays,
        accuracy_drop=accuracy_drop(source, data.evaluation, metric_of(recipe, options, data), passes),
        memory=expected.working,
        cache=options.cache,
        explain_s=options.explain_s,
        progress=options.progress,
    )
    done = run_steps(source.model, passes, context, feeds.arrays)
    here = environment(target)
    decided_on = here if options.plan is None else options.plan.environment
    stamp(done.model, recipe, decisions(done.steps), hashes, decided_on)
    file: ResultFile | None = None
    left_out: tuple[str, ...] = ()
    if weight_bytes(done.model) < MAX_PROTOBUF_BYTES // 2:
        content, left_out = fitted(done.model, source.file_bytes)
        file = ResultFile.of(content)
        hashes["result"] = file.sha256
        del content
        release_memory()
    if options.plan is not None and options.locked:
        check_locked(options.plan, hashes)
    pinned, halved = any(step.changes_io for step in passes), any(step.changes_types() for step in passes)
    check_result(
        None if file is None else file.source, done.model, source.model, feeds.arrays, pinned=pinned, halved=halved
    )
    subject = Subject(source, done.model, file, feeds, target)
    threads = options.threads or recipe.profile.threads
    budget_s = options.budget_s or recipe.profile.seconds
    pruned = any(step.family == "prune" for step in passes)
    zipped = measure_compressed(subject) if pruned else ({}, {})
    original = model_stats(source.model, source.file_bytes, zipped[0])
    result = model_stats(done.model, subject.result_bytes, zipped[1])
    release_memory()
    report = RunReport(
        model=source.label,
        output=None,
        recipe=recipe.resolved(),
        steps=done.steps,
        original=original,
        result=result,
        environment=here,
        hashes=hashes,
        latency=measure_latency(subject, prepared.providers, threads, budget_s) if options.profile else (),
        fidelity=measure_fidelity(
            subject,
            data.judged,
            metric_of(recipe, options, data),
            held_out=data.evaluation is not None,
            progress=options.progress,
        ),
        audit=measure_audit(subject) if prepared.measures_target else None,
        notices=(
            *done.notices,
            *_notices(data, feeds),
            *([_shortened(left_out)] if left_out else ()),
            *_target_notices(done.model, target),
            *_elsewhere(prepared),
        ),
        usage=_usage(done.model, feeds, target.provider),
    )
    if options.profile:
        elsewhere = _placement_notices(left_to_others(subject, prepared.providers, threads))
        report = replace(report, notices=(*report.notices, *elsewhere))
    if options.inside:
        report = look_inside(report, subject, data.judged, options.progress)
    report = replace(report, gates=check_gates(recipe.require, report), seconds=time.perf_counter() - started)
    return CompressResult(done.model, file, report)


def _shortened(left_out: Sequence[str]) -> Notice:
    message = f"the model itself does not say its {', '.join(left_out)}: that would make it larger than its source"
    return Notice("stamp-shortened", message, "--report FILE.json keeps where it comes from")


def _elsewhere(prepared: Prepared) -> list[Notice]:
    """What the figures do not say, because the result is for another provider or processor than it was measured on."""
    target, here = prepared.target, detect_isa()
    if not prepared.measures_target:
        message = f"made for {target.provider}, and measured on {', '.join(prepared.providers)}"
        command = f"modelopt profile --baseline ORIGINAL --provider {target.provider}"
        return [Notice("measured-elsewhere", f"{message}: the latency is not the target's", command)]
    if target.provider != "cpu" or target.isa == here:
        return []
    lossy = scheme_for(Target(isa=here)).reduce_range and not scheme_for(target).reduce_range
    message = f"made for {target.isa}, and measured on {here}: the latency is not the target's"
    worse = "; nor is the fidelity, since sums of 8-bit weights overflow here and not there" if lossy else ""
    return [Notice("measured-elsewhere", message + worse, "modelopt profile and evaluate on that machine")]


def _placement_notices(placements: Sequence[Placement]) -> list[Notice]:
    """What a provider did not take: the latency is of a mixture, which one should know."""
    found = []
    for placement in placements:
        own = next((share.node_share for share in placement.shares if share.provider == placement.wanted), 0.0)
        rest = ", ".join(f"{each.count} {each.op_type} on {each.provider}" for each in placement.fallbacks)
        message = f"{placement.wanted} runs {format_percent(own, digits=0)} of the result's nodes, and not {rest}"
        found.append(Notice("placement", message, "modelopt profile says what that costs"))
    return found


def _target_notices(model: ir.Model, target: Target) -> list[Notice]:
    """What TensorRT would refuse or pass over: said here, because the machine that compresses seldom has it."""
    if target.provider != "tensorrt":
        return []
    found = []
    if vain := quantized_in_vain(model):
        message = f"TensorRT runs {len(vain)} layers dense whose weights are 2:4, because Q/DQ stand around them"
        found.append(Notice("sparse-and-quantized", message, "prune to 2:4 or quantize, not both"))
    return [*found, *_violation_notices(model)]


def _violation_notices(model: ir.Model) -> list[Notice]:
    broken = tensorrt_violations(model)
    if not broken:
        return []
    first = f"{broken[0].node}: {broken[0].rule}"
    message = f"{len(broken)} nodes break TensorRT's rules for Q/DQ, the first is {first}"
    return [Notice("tensorrt-rules", message, "quantize for it: target.provider tensorrt, from the float model")]


def _usage(model: ir.Model, feeds: Feeds, provider: str) -> Usage:
    opset = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 1))
    libraries = tuple(library.name for library in custom_ops())
    lowest = lowest_onnxruntime(opset, model.ir_version, runtime().__version__)
    return Usage(
        {name: (str(array.dtype), array.shape) for name, array in feeds.arrays.items()}, provider, lowest, libraries
    )


def _notices(data: RunData, feeds: Feeds) -> list[Notice]:
    notices = []
    if data.random:
        message = "calibrated on random data: ranges and accuracy of the result mean nothing for real inputs"
        notices.append(Notice("random-calibration", message, "--calib FILE with 100 real samples"))
    if feeds.assumed:
        sizes = ", ".join(f"{name}={size}" for name, size in feeds.assumed.items())
        notices.append(Notice("assumed-shape", f"latency was measured at {sizes}: nothing said otherwise", "--shape"))
    return notices
