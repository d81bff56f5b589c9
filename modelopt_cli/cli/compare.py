"""``modelopt compare``: two models side by side, and where the second begins to differ."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from modelopt_cli.cli.console import print_json, print_payload, progress_sink
from modelopt_cli.cli.files import check_outputs, preprocessing, read_model, refuse_two_pipes
from modelopt_cli.cli.options import (
    Batch,
    CustomOps,
    Debug,
    Evaluation,
    Images,
    Json,
    Metric,
    Quiet,
    Shape,
    Threads,
    parse_shapes,
)
from modelopt_cli.cli.profile_options import Duration, ProfileReportFile, Providers
from modelopt_cli.errors import UsageError

SECONDS = 2.0

Original = Annotated[str, typer.Argument(metavar="ORIGINAL", help="ONNX file, or - for stdin.", show_default=False)]
Candidate = Annotated[str, typer.Argument(metavar="CANDIDATE", help="What was made of it.", show_default=False)]
Below = Annotated[
    float, typer.Option("--below", metavar="DB", help="Signal to noise under which a layer counts as diverged.")
]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Let MODULE:FUNCTION of --metric and --eval import and run code of yours.")
]


def compare(
    original: Original,
    candidate: Candidate,
    evaluation: Evaluation = None,
    images: Images = None,
    metric: Metric = None,
    allow_code: AllowCode = False,
    below: Below = 20.0,
    providers: Providers = None,
    threads: Threads = None,
    custom_ops: CustomOps = None,
    batch: Batch = None,
    shapes: Shape = None,
    duration: Duration = SECONDS,
    report: ProfileReportFile = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare two models: size, latency, accuracy, agreement, and the first layer that differs."""
    _check(original, candidate, report)
    from modelopt_cli.data.files import open_dataset
    from modelopt_cli.evaluation.metrics import choose_metric
    from modelopt_cli.graph.io import write_atomically
    from modelopt_cli.pipeline.compare import CompareOptions, compare_models
    from modelopt_cli.profiling.timing import Budget
    from modelopt_cli.report.serialize import encode_json

    options = CompareOptions(
        data=None
        if evaluation is None
        else open_dataset(evaluation, images=preprocessing(images), allow_code=allow_code),
        metric=None if metric is None else choose_metric(metric, allow_code=allow_code),
        providers=tuple(dict.fromkeys(providers or ("cpu",))),
        threads=threads or 1,
        batch=batch or 1,
        shapes=parse_shapes(shapes),
        budget=Budget(duration),
        below_db=below,
        progress=progress_sink(quiet),
    )
    found = compare_models(read_model(original), read_model(candidate), options)
    if report is not None:
        write_atomically(report, encode_json(asdict(found)).encode())
    if as_json:
        print_json(asdict(found))
        return
    from modelopt_cli.cli.render_compare import comparison_lines

    print_payload(*comparison_lines(found))


def _check(original: str, candidate: str, report: Path | None) -> None:
    refuse_two_pipes(original, candidate)
    if report is not None and report.suffix.lower() != ".json":
        raise UsageError(f"figures are not written as '{report.suffix}'", where=str(report), hint="use .json")
    for name in (original, candidate):
        check_outputs(name, report=report)
