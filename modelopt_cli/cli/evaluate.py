"""``modelopt evaluate``: a metric where there are labels, agreement where there is a baseline."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelopt_cli.cli.compare import AllowCode
from modelopt_cli.cli.console import print_json, print_payload, progress_sink
from modelopt_cli.cli.files import preprocessing, read_model, refuse_two_pipes
from modelopt_cli.cli.options import (
    Baseline,
    CustomOps,
    Debug,
    Images,
    Json,
    Metric,
    ModelArgument,
    Quiet,
    RequiredEvaluation,
    Threads,
)
from modelopt_cli.errors import UsageError

if TYPE_CHECKING:
    from modelopt_cli.data.binding import BoundDataset
    from modelopt_cli.evaluation.metrics import AnyMetric
    from modelopt_cli.graph.io import SourceModel
    from modelopt_cli.progress import Progress

DEFAULT_METRIC = "top1"
RunBatch = Annotated[
    int | None, typer.Option("--batch", min=1, metavar="N", help="Samples a run. Default: 1, or what the model takes.")
]


def evaluate(
    model: ModelArgument,
    evaluation: RequiredEvaluation,
    images: Images = None,
    metric: Metric = None,
    allow_code: AllowCode = False,
    baseline: Baseline = None,
    threads: Threads = None,
    custom_ops: CustomOps = None,
    batch: RunBatch = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Score a model on labelled data, or compare its outputs with a baseline's."""
    from modelopt_cli.cli.render_evaluate import evaluation_lines
    from modelopt_cli.data.binding import bind
    from modelopt_cli.data.files import open_dataset
    from modelopt_cli.evaluation.metrics import choose_metric

    refuse_two_pipes(model, baseline)
    asked = None if metric is None else choose_metric(metric, allow_code=allow_code)
    opened = open_dataset(evaluation, images=preprocessing(images), allow_code=allow_code)
    source = read_model(model)
    other = None if baseline is None else read_model(baseline)
    data = bind(opened, source.model, batch=batch)
    chosen = asked if asked is not None or data.labels is None else choose_metric(DEFAULT_METRIC)
    if chosen is None and other is None:
        raise UsageError("holds no labels to score against", where=evaluation, hint="--baseline FILE gives agreement")
    answer = {
        "model": source.label,
        "baseline": None if other is None else other.label,
        "data": evaluation,
        "samples": len(data),
        **_measure(source, other, data, chosen, threads or 1, progress_sink(quiet)),
    }
    print_json(answer) if as_json else print_payload(*evaluation_lines(answer))


def _measure(
    source: SourceModel,
    other: SourceModel | None,
    data: BoundDataset,
    metric: AnyMetric | None,
    threads: int,
    progress: Progress,
) -> dict[str, Any]:
    from modelopt_cli.evaluation import compare
    from modelopt_cli.evaluation import evaluate as score

    model = source.path or source.model
    if other is None:
        assert metric is not None
        value = score(model, data, metric, threads=threads, progress=progress)
        return {"accuracy": {"metric": metric.name, "value": value, "baseline": None}, "agreement": []}
    found = compare(other.path or other.model, model, data, metric, threads=threads, progress=progress)
    accuracy = None
    if found.accuracy is not None:
        accuracy = {
            "metric": found.accuracy.metric,
            "value": found.accuracy.result,
            "baseline": found.accuracy.original,
            "drop": found.accuracy.drop,
            "drop_low": found.accuracy.drop_low,
            "drop_high": found.accuracy.drop_high,
            "classes": found.accuracy.classes,
        }
    return {"accuracy": accuracy, "agreement": [asdict(each) for each in found.agreement]}
