"""``modelopt profile``: latency, memory, throughput and per-operator time of models, alone or against a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.cli.console import print_json, print_payload, progress_sink, say
from modelopt_cli.cli.files import check_outputs, preprocessing, read_model, refuse_two_pipes
from modelopt_cli.cli.options import (
    Baseline,
    Calibration,
    CustomOps,
    Debug,
    Images,
    Json,
    ModelsArgument,
    Quiet,
    Threads,
)
from modelopt_cli.cli.profile_options import (
    AllowFallback,
    Batches,
    Cpus,
    Duration,
    PerOpFlag,
    ProfileReportFile,
    Providers,
    Runs,
    SessionConfig,
    Shapes,
    Streams,
    Trace,
    UntilCi,
    parse_config,
    parse_counts,
    parse_points,
    parse_share,
    pin,
)
from modelopt_cli.errors import UsageError

if TYPE_CHECKING:
    from modelopt_cli.data.dataset import Sample
    from modelopt_cli.graph.io import SourceModel
    from modelopt_cli.profiling.per_op import OpProfile

SECONDS = 2.0


def profile(
    models: ModelsArgument,
    baseline: Baseline = None,
    per_op: PerOpFlag = False,
    calibration: Calibration = None,
    images: Images = None,
    providers: Providers = None,
    allow_fallback: AllowFallback = False,
    session_config: SessionConfig = None,
    threads: Threads = None,
    custom_ops: CustomOps = None,
    cpus: Cpus = None,
    batch: Batches = None,
    shapes: Shapes = None,
    duration: Duration = SECONDS,
    runs: Runs = None,
    until_ci: UntilCi = None,
    streams: Streams = None,
    trace: Trace = None,
    report: ProfileReportFile = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure latency and memory of models; with --baseline, all in alternation and the ratio."""
    _check(models, baseline, report, trace, per_op=per_op)
    pin(cpus)
    config, until = parse_config(session_config), parse_share(until_ci, "--until-ci")
    in_flight = parse_counts(streams, "--streams")
    from modelopt_cli.pipeline.profile import ProfileOptions
    from modelopt_cli.pipeline.profile import profile as measure
    from modelopt_cli.profiling.providers import parse_provider
    from modelopt_cli.profiling.timing import Budget
    from modelopt_cli.report.profile import profile_json

    named = tuple(dict.fromkeys(providers or ("cpu",)))
    for name in named:
        parse_provider(name)
    points = parse_points(batch, shapes)
    _warn_of_unknown(config)
    sources = [read_model(name) for name in ([] if baseline is None else [baseline]) + models]
    options = ProfileOptions(
        providers=named,
        threads=threads or 1,
        config=config,
        points=points,
        budget=Budget(duration, runs=runs, until=until),
        streams=in_flight,
        per_op=per_op,
        allow_fallback=allow_fallback,
        sample=_sample(sources[-1], calibration, images),
        progress=progress_sink(quiet),
    )
    found = measure(sources, options, has_baseline=baseline is not None)
    content = profile_json(found.report)
    _write(report, trace, content, found.operators)
    if as_json:
        print_json(content)
        return
    from modelopt_cli.cli.render_profile import profile_tables

    print_payload(*profile_tables(found.report))


def _check(models: list[str], baseline: str | None, report: Path | None, trace: Path | None, *, per_op: bool) -> None:
    refuse_two_pipes(*models, baseline)
    if report is not None and report.suffix.lower() != ".json":
        raise UsageError(f"figures are not written as '{report.suffix}'", where=str(report), hint="use .json")
    if trace is not None and not per_op:
        raise UsageError("operators are not measured", where="--trace", hint="add --per-op")
    for name in models:
        check_outputs(name, report=report, trace=trace)


def _warn_of_unknown(config: Mapping[str, str]) -> None:
    """The runtime takes any key in silence: a misspelt one would pass for measured."""
    from modelopt_cli.profiling.session import unknown_config_keys

    for key in unknown_config_keys(config):
        say(f"warning: '{key}' is no session setting that this onnxruntime knows: it may have no effect")


def _sample(source: SourceModel, data: str | None, images: Path | None) -> Sample | None:
    from modelopt_cli.data.binding import bind
    from modelopt_cli.data.files import open_dataset

    return None if data is None else next(iter(bind(open_dataset(data, images=preprocessing(images)), source.model)))


def _write(
    report: Path | None, trace: Path | None, content: dict[str, object], operators: Mapping[str, OpProfile]
) -> None:
    from modelopt_cli.graph.io import write_atomically
    from modelopt_cli.profiling.chrome import chrome_trace
    from modelopt_cli.report.serialize import encode_json

    if report is not None:
        write_atomically(report, encode_json(content).encode())
    if trace is not None:
        write_atomically(trace, chrome_trace(operators).encode())
