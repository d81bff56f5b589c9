"""Tables of ``modelopt profile`` and ``modelopt evaluate``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType

from modelopt_cli.cli.tables import plain_table
from modelopt_cli.report.format import format_bytes, format_db, format_ms, format_percent, format_speed
from modelopt_cli.report.verdict import metric_label

NODES_SHOWN = 10


def profile_tables(answer: Mapping[str, Any]) -> Iterator[RenderableType]:
    """One table per provider, with the verdict of a comparison above it."""
    shapes = ", ".join(f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in answer["shapes"].items())
    yield answer["model"] + (f" against {answer['baseline']}" if answer["baseline"] else "")
    yield f"fed: {shapes}; {answer['threads']} thread{'s' if answer['threads'] > 1 else ''}"
    if answer["assumed"]:
        assumed = ", ".join(f"{name} = {size}" for name, size in answer["assumed"].items())
        yield f"nothing said the size of {assumed}: assumed; --shape or --calib says it"
    for each in answer["providers"]:
        yield ""
        yield from _comparison(answer, each) if answer["baseline"] else _single(answer, each)
        if "per_op" in each:
            yield ""
            yield from _per_op(each["per_op"])


def _single(answer: Mapping[str, Any], each: Mapping[str, Any]) -> Iterator[RenderableType]:
    latency, footprint = each["latency"], each["footprint"]
    table = plain_table(f"on {each['provider']}", "", right=[1])
    table.add_row("file", format_bytes(answer["file_bytes"]))
    table.add_row("latency, median", format_ms(latency["median_ms"]))
    table.add_row("mean +- stdev", f"{format_ms(latency['mean_ms'])} +- {format_ms(latency['stdev_ms'])}")
    table.add_row("p90 / p99", f"{format_ms(latency['p90_ms'])} / {format_ms(latency['p99_ms'])}")
    table.add_row("runs per second", f"{1000 / latency['median_ms']:.4g}")
    table.add_row("runs timed", f"{latency['runs']:,}")
    table.add_row("memory", format_bytes(footprint["session_bytes"]))
    table.add_row("load", format_ms(footprint["load_ms"]))
    table.add_row("first run", format_ms(footprint["first_run_ms"]))
    yield table


def _comparison(answer: Mapping[str, Any], each: Mapping[str, Any]) -> Iterator[RenderableType]:
    compared, before, after = each["comparison"], each["baseline_footprint"], each["footprint"]
    yield speed_sentence(compared["ratio"], compared["ratio_low"], compared["ratio_high"])
    table = plain_table(f"on {each['provider']}", "baseline", "model", "share", right=[1, 2, 3])

    def row(label: str, old: float, new: float, text: Any) -> None:
        table.add_row(label, text(old), text(new), f"{new / old:.2f}" if old else "")

    row("file", answer["baseline_file_bytes"], answer["file_bytes"], format_bytes)
    interval = f"{compared['ratio']:.2f} [{compared['ratio_low']:.2f}, {compared['ratio_high']:.2f}]"
    medians = compared["original"]["median_ms"], compared["result"]["median_ms"]
    table.add_row("latency, median", format_ms(medians[0]), format_ms(medians[1]), interval)
    row("latency, p99", compared["original"]["p99_ms"], compared["result"]["p99_ms"], format_ms)
    row("memory", before["session_bytes"], after["session_bytes"], format_bytes)
    row("load", before["load_ms"], after["load_ms"], format_ms)
    yield table


def speed_sentence(ratio: float, low: float, high: float) -> str:
    """What a ratio with its interval lets one say, and no more."""
    if low <= 1.0 <= high:
        return "no significant difference in latency"
    return format_speed(ratio)


def evaluation_lines(answer: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The metric, and how the outputs follow those of a baseline."""
    yield f"{answer['model']} on {answer['samples']} samples of {answer['data']}"
    accuracy = answer["accuracy"]
    if accuracy is not None:
        yield ""
        yield _accuracy(accuracy)
    if answer["agreement"]:
        yield ""
        yield f"agreement with {answer['baseline']}" + ("" if accuracy else " (not accuracy: no labels)")
        yield ""
        yield _agreement(answer["agreement"])


def _accuracy(accuracy: Mapping[str, Any]) -> RenderableType:
    name = metric_label(accuracy["metric"])
    if accuracy["baseline"] is None:
        return f"{name} {accuracy['value']:.4f}"
    table = plain_table("", "baseline", "model", "drop", "95 % interval of the drop", right=[1, 2, 3])
    low, high = accuracy["drop_low"], accuracy["drop_high"]
    interval = "" if low is None else f"[{low:+.4f}, {high:+.4f}]"
    values = f"{accuracy['baseline']:.4f}", f"{accuracy['value']:.4f}", f"{accuracy['drop']:+.4f}"
    table.add_row(name, *values, interval)
    return table


def _agreement(outputs: Sequence[Mapping[str, Any]]) -> RenderableType:
    table = plain_table("output", "same top-1", "cosine", "SQNR", "largest error", right=[1, 2, 3, 4])
    for each in outputs:
        top1 = "" if each["top1"] is None else format_percent(each["top1"])
        error = f"{each['max_abs_error']:.3g}"
        table.add_row(each["output"], top1, f"{each['cosine']:.4f}", format_db(each["sqnr_db"]), error)
    return table


def _per_op(per_op: Mapping[str, Any]) -> Iterator[RenderableType]:
    total = sum(op["ms"] for op in per_op["types"]) or 1.0
    table = plain_table("operator", "nodes", "time", "share", right=[1, 2, 3])
    for op in per_op["types"]:
        table.add_row(op["op_type"], str(op["count"]), format_ms(op["ms"]), format_percent(op["ms"] / total))
    yield table
    yield ""
    table = plain_table("slowest nodes", "operator", "time", "share", right=[2, 3])
    for op in per_op["nodes"][:NODES_SHOWN]:
        table.add_row(op["name"], op["op_type"], format_ms(op["ms"]), format_percent(op["ms"] / total))
    yield table
