"""``modelopt profile``: latency, memory and per-operator time of a model, alone or against a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelopt_cli.cli.console import print_json, print_payload, progress_sink
from modelopt_cli.cli.files import read_model, refuse_two_pipes
from modelopt_cli.cli.options import (
    Baseline,
    Batch,
    Calibration,
    Debug,
    Json,
    ModelArgument,
    Provider,
    Quiet,
    Shape,
    Threads,
    check_providers,
    parse_shapes,
)

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.graph.io import SourceModel
    from modelopt_cli.profiling.session import Model
    from modelopt_cli.progress import Progress

SECONDS = 4.0


@dataclass(frozen=True)
class Setting:
    """How to measure: everything but the models."""

    providers: tuple[str, ...]
    threads: int
    seconds: float
    per_op: bool
    progress: Progress


def profile(
    model: ModelArgument,
    baseline: Baseline = None,
    per_op: Annotated[
        bool, typer.Option("--per-op", help="Time of each operator type, and the slowest nodes.")
    ] = False,
    calibration: Calibration = None,
    providers: Provider = None,
    threads: Threads = None,
    batch: Batch = None,
    shapes: Shape = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Time spent on each provider.")] = SECONDS,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure latency and memory; with --baseline, both models in alternation and the ratio."""
    from modelopt_cli.cli.render_profile import profile_tables

    refuse_two_pipes(model, baseline)
    named, sizes = check_providers(providers), parse_shapes(shapes)
    setting = Setting(named or ("cpu",), threads or 1, seconds, per_op, progress_sink(quiet))
    source = read_model(model)
    other = None if baseline is None else read_model(baseline)
    fed = _feeds(source, calibration, batch or 1, sizes)
    answer = {
        "model": source.label,
        "baseline": None if other is None else other.label,
        "shapes": {name: list(array.shape) for name, array in fed.arrays.items()},
        "assumed": fed.assumed,
        "threads": setting.threads,
        "file_bytes": source.file_bytes,
        "baseline_file_bytes": None if other is None else other.file_bytes,
        "providers": [_measure(name, source, other, fed.arrays, setting) for name in setting.providers],
    }
    print_json(answer) if as_json else print_payload(*profile_tables(answer))


def _feeds(source: SourceModel, data: str | None, batch: int, shapes: dict[str, list[int]]) -> Any:
    from modelopt_cli.data.binding import bind
    from modelopt_cli.data.files import open_dataset
    from modelopt_cli.profiling.feeds import feeds_for

    sample = None if data is None else next(iter(bind(open_dataset(data), source.model)))
    return feeds_for(source.model, sample, batch=batch, shapes=shapes)


def _measure(
    provider: str, source: SourceModel, other: SourceModel | None, feeds: Mapping[str, np.ndarray], setting: Setting
) -> dict[str, Any]:
    from modelopt_cli.profiling.memory import measure_footprint
    from modelopt_cli.profiling.timing import compare_latency, measure_latency

    model, threads = _openable(source), setting.threads
    found: dict[str, Any] = {"provider": provider}
    with setting.progress.task(f"timing on {provider}"):
        if other is None:
            latency = measure_latency(model, feeds, provider=provider, threads=threads, budget_s=setting.seconds)
            found["latency"] = asdict(latency)
        else:
            compared = compare_latency(
                _openable(other), model, feeds, provider=provider, threads=threads, budget_s=setting.seconds
            )
            found["comparison"] = {**asdict(compared), "significant": compared.significant}
    with setting.progress.task(f"memory on {provider}"):
        found["footprint"] = asdict(measure_footprint(model, feeds, provider=provider, threads=threads))
        if other is not None:
            footprint = measure_footprint(_openable(other), feeds, provider=provider, threads=threads)
            found["baseline_footprint"] = asdict(footprint)
    if setting.per_op:
        found["per_op"] = _per_op(provider, model, feeds, setting)
    return found


def _per_op(provider: str, model: Model, feeds: Mapping[str, np.ndarray], setting: Setting) -> dict[str, Any]:
    from modelopt_cli.profiling.per_op import by_type, profile_ops

    with setting.progress.task(f"operators on {provider}"):
        times = profile_ops(model, feeds, provider=provider, threads=setting.threads)
    return {"types": [asdict(op) for op in by_type(times)], "nodes": [asdict(op) for op in times]}


def _openable(source: SourceModel) -> Model:
    return source.path if source.path is not None else source.model
