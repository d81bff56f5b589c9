"""A recipe on a model: check everything, run the steps, measure the result, write the report."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from modelopt_cli.data.binding import bind
from modelopt_cli.data.dataset import Dataset, Sample
from modelopt_cli.data.signature import signature
from modelopt_cli.data.synthetic import RandomDataset
from modelopt_cli.errors import UsageError
from modelopt_cli.graph.io import MAX_PROTOBUF_BYTES, SourceModel, model_bytes, weight_bytes
from modelopt_cli.graph.stats import model_stats
from modelopt_cli.passes.base import Pass, PassContext
from modelopt_cli.passes.prune.sparse_kernels import quantized_in_vain
from modelopt_cli.pipeline.aim import accuracy_drop, aim
from modelopt_cli.pipeline.check import check_result
from modelopt_cli.pipeline.gates import check_gates, check_measurable
from modelopt_cli.pipeline.inside import look_inside
from modelopt_cli.pipeline.lock import check_inputs
from modelopt_cli.pipeline.lock import check_result as check_locked
from modelopt_cli.pipeline.measure import Subject, measure_audit, measure_compressed, measure_fidelity, measure_latency
from modelopt_cli.pipeline.memory import release_memory
from modelopt_cli.pipeline.options import CompressOptions
from modelopt_cli.pipeline.plan import decisions, recipe_digest, replay, target_of
from modelopt_cli.pipeline.provenance import environment, stamp
from modelopt_cli.pipeline.steps import run_steps
from modelopt_cli.profiling.custom_ops import custom_ops
from modelopt_cli.profiling.feeds import Feeds
from modelopt_cli.profiling.session import open_session, runtime
from modelopt_cli.profiling.trial import runnable_feeds
from modelopt_cli.recipe.schema import Recipe
from modelopt_cli.report.model import Notice, RunReport, Usage
from modelopt_cli.targets.runtimes import lowest_onnxruntime
from modelopt_cli.targets.target import Target, resolve_target
from modelopt_cli.targets.tensorrt import tensorrt_violations

RANDOM_SAMPLES = 32
SAMPLES_TO_SIZE = 15  # whose median size is taken as typical


@dataclass(frozen=True)
class CompressResult:
    """What a run made; nothing is written yet.

    Attributes:
        model: The compressed graph.
        content: Its serialized bytes, or None above 2 GB.
        report: Everything that was measured and decided.
    """

    model: ir.Model
    content: bytes | None
    report: RunReport


def compress(source: SourceModel, recipe: Recipe, options: CompressOptions | None = None) -> CompressResult:
    """Run ``recipe`` on ``source`` and measure the result against it.

    Args:
        source: The model as the user gave it; it is not changed.
        recipe: Steps, target and requirements.
        options: Data and measuring; the default measures latency on the target and has no data.

    Raises:
        UsageError: A requirement or a step needs data that is not there.
        DataError: The data does not fit the model.
        ModelError: The runtime cannot load the source.
        ProviderError: A requested provider is not available.
        PassError: A step failed, or the result is not a valid stand-in for the source.
        GateError: The run is locked, and something differs from the plan's.
    """
    started = time.perf_counter()
    options = options or CompressOptions()
    target = resolve_target(recipe.target.provider, recipe.target.isa, recipe.dialect, recipe.target.max_opset)
    passes = aim(recipe.passes(), recipe.require)
    if options.plan is not None:
        target, passes = target_of(options.plan, recipe.target.max_opset), replay(options.plan, passes)
    data = _bind_data(source, recipe, options)
    hashes = _hashes(source, recipe, data)
    if options.plan is not None and options.locked:
        check_inputs(options.plan, hashes, environment(target))
    _check_needs(passes, data)
    check_measurable(
        recipe.require,
        labels=data.evaluation is not None and data.evaluation.labels is not None,
        data=data.evaluation is not None or data.calibration is not None,
        profile=options.profile,
    )
    providers = tuple(options.providers) or tuple(recipe.profile.providers) or (target.provider,)
    for provider in providers:
        open_session(source.path or source.model, provider=provider, optimize="off", arena=False)

    feeds = runnable_feeds(
        source.path or source.model,
        source.model,
        data.first(),
        batch=_batch(recipe, options),
        shapes=_shapes(passes, options),
        provider=providers[0],
    )
    context = PassContext(
        target=target,
        seed=recipe.seed,
        calibration=data.calibration,
        sample=feeds.arrays,
        accuracy_drop=accuracy_drop(source, data.evaluation, _metric(recipe, options, data), passes),
        cache=options.cache,
        progress=options.progress,
    )
    done = run_steps(source.model, passes, context, feeds.arrays)
    stamp(done.model, source, recipe, decisions(done.steps))
    content = model_bytes(done.model) if weight_bytes(done.model) < MAX_PROTOBUF_BYTES // 2 else None
    if content is not None:
        hashes["result"] = hashlib.sha256(content).hexdigest()
    if options.plan is not None and options.locked:
        check_locked(options.plan, hashes)
    pinned, halved = any(step.changes_io for step in passes), any(step.changes_types() for step in passes)
    check_result(content, done.model, source.model, feeds.arrays, pinned=pinned, halved=halved)
    release_memory()

    subject = Subject(source, done.model, content, feeds, target)
    threads = options.threads or recipe.profile.threads
    budget_s = options.budget_s or recipe.profile.seconds
    pruned = any(step.family == "prune" for step in passes)
    zipped = measure_compressed(subject) if pruned else ({}, {})
    report = RunReport(
        model=source.label,
        output=None,
        recipe=recipe.resolved(),
        steps=done.steps,
        original=model_stats(source.model, source.file_bytes, zipped[0]),
        result=model_stats(done.model, subject.result_bytes, zipped[1]),
        environment=environment(target),
        hashes=hashes,
        latency=measure_latency(subject, providers, threads, budget_s) if options.profile else (),
        fidelity=measure_fidelity(
            subject,
            data.judged,
            _metric(recipe, options, data),
            held_out=data.evaluation is not None,
            progress=options.progress,
        ),
        audit=measure_audit(subject),
        notices=(*done.notices, *_notices(data, feeds), *_target_notices(done.model, target)),
        usage=_usage(done.model, feeds, target.provider),
    )
    if options.inside:
        report = look_inside(report, subject, data.judged, options.progress)
    report = replace(report, gates=check_gates(recipe.require, report), seconds=time.perf_counter() - started)
    return CompressResult(done.model, content, report)


@dataclass(frozen=True)
class _Data:
    """The bound data of a run; ``random`` when the calibration data was drawn."""

    calibration: Dataset | None
    evaluation: Dataset | None
    random: bool

    @property
    def judged(self) -> Dataset | None:
        """What fidelity is measured on: held-out data when given, else the calibration data."""
        return self.evaluation if self.evaluation is not None else self.calibration

    def first(self) -> Sample | None:
        """A sample of typical size, for latency and checks: the median of some, since ragged data may open with any."""
        data = self.calibration if self.calibration is not None else self.evaluation
        if data is None:
            return None
        looked_at = [dict(sample) for sample in data.take(SAMPLES_TO_SIZE)]
        by_size = sorted(looked_at, key=lambda sample: sum(array.size for array in sample.values()))
        return by_size[len(by_size) // 2]


def _shapes(passes: Sequence[Pass], options: CompressOptions) -> dict[str, Sequence[int]]:
    """Shapes asked for, and those that passes fix."""
    shapes: dict[str, Sequence[int]] = dict(options.shapes)
    for name, shape in (pinned for step in passes for pinned in step.input_shapes().items()):
        if list(shapes.setdefault(name, shape)) != list(shape):
            raise UsageError(f"input '{name}' is pinned to another shape", where="--shape", hint="leave it out")
    return shapes


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


def _batch(recipe: Recipe, options: CompressOptions) -> int:
    return options.batch or recipe.profile.batch[0]


def _metric(recipe: Recipe, options: CompressOptions, data: _Data) -> str | None:
    """The metric asked for; top-1 for labelled data when none was; nothing without held-out data."""
    if data.evaluation is None:
        return None
    asked = options.metric or recipe.data.evaluation.metric
    return asked or ("top1" if data.evaluation.labels is not None else None)


def _bind_data(source: SourceModel, recipe: Recipe, options: CompressOptions) -> _Data:
    calibration = bind(options.calibration, source.model) if options.calibration is not None else None
    evaluation = bind(options.evaluation, source.model) if options.evaluation is not None else None
    if calibration is None and options.allow_random_calibration:
        drawn = RandomDataset(signature(source.model), RANDOM_SAMPLES, recipe.seed, options.shapes)
        return _Data(drawn, evaluation, random=True)
    if calibration is not None:
        calibration = calibration.take(recipe.data.calibration.samples)
    return _Data(calibration, evaluation, random=False)


def _check_needs(passes: Sequence[Pass], data: _Data) -> None:
    for step in passes:
        if "calibration" in step.needs and data.calibration is None:
            hint = "--calib FILE, data.calibration.path in the recipe, or --allow-random-calibration"
            raise UsageError("needs calibration data", where=step.name, hint=hint)
        if "labels" in step.needs and (data.evaluation is None or data.evaluation.labels is None):
            raise UsageError("needs labelled evaluation data", where=step.name, hint="--eval FILE with labels")


def _hashes(source: SourceModel, recipe: Recipe, data: _Data) -> dict[str, str]:
    hashes = {"model": source.sha256, "recipe": recipe_digest(recipe)}
    if data.calibration is not None:
        hashes["calibration"] = data.calibration.digest()
    if data.evaluation is not None:
        hashes["evaluation"] = data.evaluation.digest()
    return hashes


def _notices(data: _Data, feeds: Feeds) -> list[Notice]:
    notices = []
    if data.random:
        message = "calibrated on random data: ranges and accuracy of the result mean nothing for real inputs"
        notices.append(Notice("random-calibration", message, "--calib FILE with 100 real samples"))
    if feeds.assumed:
        sizes = ", ".join(f"{name}={size}" for name, size in feeds.assumed.items())
        notices.append(Notice("assumed-shape", f"latency was measured at {sizes}: nothing said otherwise", "--shape"))
    return notices
