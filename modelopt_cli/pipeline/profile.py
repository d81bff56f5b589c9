"""Measure any number of models: each provider, each shape, all models in alternation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx_ir as ir

from modelopt_cli.data.dataset import Sample
from modelopt_cli.errors import ProviderError, UsageError
from modelopt_cli.graph.io import SourceModel
from modelopt_cli.pipeline.provenance import environment
from modelopt_cli.profiling.audit import is_integer_kernel
from modelopt_cli.profiling.conditions import Conditions, Finding
from modelopt_cli.profiling.feeds import Feeds
from modelopt_cli.profiling.memory import Footprint, measure_footprint
from modelopt_cli.profiling.per_op import OpProfile, by_type, profile_nodes, side_by_side
from modelopt_cli.profiling.placement import Placement, place
from modelopt_cli.profiling.providers import parse_provider
from modelopt_cli.profiling.roofline import Peak, measure_peak
from modelopt_cli.profiling.tensorrt_options import check_profiles
from modelopt_cli.profiling.throughput import measure_throughput
from modelopt_cli.profiling.timing import Budget, Measurement, Setting, measure
from modelopt_cli.profiling.trial import runnable_feeds
from modelopt_cli.progress import Progress, Silent
from modelopt_cli.report.profile import PerOp, ProfiledModel, ProfileEntry, ProfileReport, Ratio

STREAM_SECONDS = 0.5


@dataclass(frozen=True)
class Point:
    """One shape to measure at: batch size (None: 1 where it is free) and whole shapes by input; see `feeds_for`."""

    batch: int | None = None
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class ProfileOptions:
    """How to profile.

    Attributes:
        providers: Each measured for itself.
        threads: Threads inside an operator.
        config: Session configuration entries.
        points: Shapes to measure at.
        budget: For each provider and point, shared by all models.
        streams: Numbers of requests in flight to measure throughput with; none given, none measured.
        per_op: Profile operators as well, at the first point.
        allow_fallback: Nodes that a provider leaves to another one are reported, not refused.
        sample: Real inputs, or None.
        progress: Where to say how far it is.
    """

    providers: tuple[str, ...] = ("cpu",)
    threads: int = 1
    config: Mapping[str, str] = field(default_factory=dict)
    points: tuple[Point, ...] = (Point(),)
    budget: Budget = field(default_factory=Budget)
    streams: tuple[int, ...] = ()
    per_op: bool = False
    allow_fallback: bool = False
    sample: Sample | None = None
    progress: Progress = field(default_factory=Silent)


@dataclass(frozen=True)
class Profiled:
    """The report, and the raw runs of operators by model and provider for a trace."""

    report: ProfileReport
    operators: dict[str, OpProfile]


def profile(models: Sequence[SourceModel], options: ProfileOptions, *, has_baseline: bool = False) -> Profiled:
    """Measure ``models``; with a baseline it is the first of them, and the others are compared with it.

    Raises:
        UsageError: A shape that the models do not take.
        ModelError: A model cannot be loaded or run.
        ProviderError: A provider is missing, took none of a model, or left nodes of it to another one.
    """
    bench = _Bench(models, options, has_baseline)
    entries = tuple(entry for provider in options.providers for entry in bench.on_provider(provider))
    report = ProfileReport(
        models=tuple(ProfiledModel(each.label, each.sha256, each.file_bytes) for each in models),
        baseline=models[0].label if has_baseline else None,
        entries=entries,
        threads=options.threads,
        environment=environment(),
        config=dict(options.config),
        assumed=bench.assumed,
        conditions=tuple(bench.conditions),
        findings=tuple({finding.code: finding for finding in bench.findings}.values()),
    )
    return Profiled(report, bench.operators)


class _Bench:
    def __init__(self, models: Sequence[SourceModel], options: ProfileOptions, has_baseline: bool) -> None:
        self._models, self._options, self._has_baseline = models, options, has_baseline
        self.assumed: dict[str, int] = {}
        self.conditions: list[Conditions] = []
        self.findings: list[Finding] = []
        self.operators: dict[str, OpProfile] = {}

    def on_provider(self, provider: str) -> Iterator[ProfileEntry]:
        """All points and models on one provider, the facts that depend on no shape at the first point."""
        setting = Setting(provider, self._options.threads, self._options.config)
        for index, point in enumerate(self._options.points):
            feeds = self._feeds(point)
            placements = self._placements(setting, feeds) if index == 0 else [None] * len(self._models)
            entries = self._time(setting, feeds, placements)
            if index == 0:
                entries = self._with_facts(entries, setting, feeds)
            yield from entries

    def _feeds(self, point: Point) -> Feeds:
        last = self._models[-1]
        feeds = runnable_feeds(
            _openable(last), last.model, self._options.sample, batch=point.batch or 1, shapes=point.shapes
        )
        fed = _batch({name: array.shape for name, array in feeds.arrays.items()})
        if point.batch not in (None, fed):
            raise UsageError(f"batch {point.batch} is not for this model: {fed} is fixed", where="--batch")
        self.assumed |= feeds.assumed
        return feeds

    def _placements(self, setting: Setting, feeds: Feeds) -> list[Placement | None]:
        if parse_provider(setting.provider).names == ("CPUExecutionProvider",):
            return [None] * len(self._models)
        found: list[Placement | None] = []
        for each in self._models:
            check_profiles(parse_provider(setting.provider).options, each.model)
            placement = place(_openable(each), feeds.arrays, setting)
            if placement.fallbacks and not self._options.allow_fallback:
                raise _fallback_error(each.label, placement)
            found.append(placement)
        return found

    def _time(self, setting: Setting, feeds: Feeds, placements: Sequence[Placement | None]) -> list[ProfileEntry]:
        models = [_openable(each) for each in self._models]
        with self._options.progress.task(f"timing on {setting.provider}"):
            found = self._measure(models, feeds, setting)
            bound = None
            if placements[0] is not None:
                bound = self._measure(models, feeds, replace(setting, bound=True))
        shapes = {name: list(array.shape) for name, array in feeds.arrays.items()}
        return [
            ProfileEntry(
                model=each.label,
                provider=setting.provider,
                batch=_batch(shapes),
                shapes=shapes,
                latency=found.latencies[index],
                ratio=_ratio(found, index) if self._has_baseline and index else None,
                bound=None if bound is None else bound.latencies[index],
                placement=placements[index],
            )
            for index, each in enumerate(self._models)
        ]

    def _measure(self, models: list[Path | ir.Model], feeds: Feeds, setting: Setting) -> Measurement:
        found = measure(models, feeds.arrays, setting, self._options.budget)
        self.conditions.append(found.conditions)
        self.findings += found.findings
        return found

    def _with_facts(self, entries: list[ProfileEntry], setting: Setting, feeds: Feeds) -> list[ProfileEntry]:
        options, per_op = self._options, self._per_op(setting, feeds)
        complete = []
        for index, (each, entry) in enumerate(zip(self._models, entries, strict=True)):
            with options.progress.task(f"memory and throughput on {setting.provider}"):
                throughput = tuple(
                    measure_throughput(_openable(each), feeds.arrays, setting, streams=n, seconds=STREAM_SECONDS)
                    for n in options.streams
                )
                footprint = self._footprint(each, setting, feeds)
            complete.append(
                replace(entry, footprint=footprint, throughput=throughput, per_op=per_op[index] if per_op else None)
            )
        return complete

    def _footprint(self, source: SourceModel, setting: Setting, feeds: Feeds) -> Footprint:
        return measure_footprint(
            _openable(source), feeds.arrays, provider=setting.provider, threads=setting.threads, config=setting.config
        )

    def _per_op(self, setting: Setting, feeds: Feeds) -> list[PerOp]:
        if not self._options.per_op:
            return []
        with self._options.progress.task(f"operators on {setting.provider}"):
            peak = measure_peak(setting.provider, setting.threads)
            profiles = [
                profile_nodes(
                    _openable(each),
                    each.model,
                    feeds.arrays,
                    provider=setting.provider,
                    threads=setting.threads,
                    config=setting.config,
                )
                for each in self._models
            ]
        for each, found in zip(self._models, profiles, strict=True):
            self.operators[f"{each.label} on {setting.provider}"] = found
        reference = profiles[0] if self._has_baseline else None
        return [_operators(each, None if index == 0 else reference, peak) for index, each in enumerate(profiles)]


def _operators(profiled: OpProfile, baseline: OpProfile | None, peak: Peak) -> PerOp:
    shares = {
        op.name: peak.share(op.operations, op.data_bytes, op.ms, integer=is_integer_kernel(op.op_type))
        for op in profiled.times
    }
    sections = () if baseline is None else tuple(side_by_side(profiled.times, baseline.times))
    return PerOp(tuple(by_type(profiled.times)), tuple(profiled.times), shares, sections, peak)


def _batch(shapes: Mapping[str, Sequence[int]]) -> int:
    return next((shape[0] for shape in shapes.values() if shape), 1)


def _ratio(found: Measurement, index: int) -> Ratio:
    compared = found.comparisons[index - 1]
    return Ratio(compared.ratio, compared.ratio_low, compared.ratio_high)


def _openable(source: SourceModel) -> Path | ir.Model:
    return source.path if source.path is not None else source.model


def _fallback_error(model: str, placement: Placement) -> ProviderError:
    nodes = sum(each.count for each in placement.fallbacks)
    first = placement.fallbacks[0]
    kinds = ", ".join(f"{each.count} {each.op_type}" for each in placement.fallbacks)
    return ProviderError(
        f"{placement.wanted} left {nodes} nodes to other providers ({kinds}): {first.reason}",
        where=model,
        hint="--allow-fallback measures it all the same",
    )
