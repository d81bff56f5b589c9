"""Tables of ``modelopt evaluate`` and ``modelopt compare``: metric and agreement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType

from modelopt_cli.cli.tables import plain_table
from modelopt_cli.format import format_db, format_percent
from modelopt_cli.report.verdict import metric_label

CLASSES_SHOWN = 3


def evaluation_lines(answer: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The metric, and how the outputs follow those of a baseline."""
    yield f"{answer['model']} on {answer['samples']} samples of {answer['data']}"
    accuracy = answer["accuracy"]
    if accuracy is not None:
        yield ""
        yield accuracy_lines(accuracy)
    if answer["agreement"]:
        yield ""
        yield f"agreement with {answer['baseline']}" + ("" if accuracy else " (not accuracy: no labels)")
        yield ""
        yield agreement_table(answer["agreement"])


def accuracy_lines(accuracy: Mapping[str, Any]) -> RenderableType:
    """A metric, with the drop and its interval where there is a baseline; the classes that lost most below."""
    name = metric_label(accuracy["metric"])
    if accuracy["baseline"] is None:
        return f"{name} {accuracy['value']:.4f}"
    table = plain_table("", "baseline", "model", "drop", "95 % interval of the drop", right=[1, 2, 3])
    low, high = accuracy["drop_low"], accuracy["drop_high"]
    interval = "" if low is None else f"[{low:+.4f}, {high:+.4f}]"
    values = f"{accuracy['baseline']:.4f}", f"{accuracy['value']:.4f}", f"{accuracy['drop']:+.4f}"
    table.add_row(name, *values, interval)
    drops = sorted(accuracy.get("classes", ()), key=lambda each: each[2] - each[1])
    for index, old, new in drops[:CLASSES_SHOWN]:
        table.add_row(f"  class {index}", f"{old:.4f}", f"{new:.4f}", f"{old - new:+.4f}", "")
    return table


def agreement_table(outputs: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One row for each output."""
    table = plain_table("output", "same top-1", "cosine", "SQNR", "largest error", right=[1, 2, 3, 4])
    for each in outputs:
        top1 = "" if each["top1"] is None else format_percent(each["top1"])
        error = f"{each['max_abs_error']:.3g}"
        table.add_row(each["output"], top1, f"{each['cosine']:.4f}", format_db(each["sqnr_db"]), error)
    return table
