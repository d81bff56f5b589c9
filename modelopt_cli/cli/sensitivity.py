"""``modelopt sensitivity``: which parts of a model quantization or pruning hurts, worst first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelopt_cli.cli.options import CustomOps, Debug, Evaluation, Images, Json, Metric, ModelArgument, Quiet
from modelopt_cli.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

SensitivityFile = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Write it too: .html (heat-maps) or .json."),
]
SHOWN = 20  # groups that the table lists; --json has all
RequiredCalibration = Annotated[
    str,
    typer.Option(
        "--calib",
        metavar="DATA",
        help="Calibration samples, no labels needed: npz, npy, jsonl, csv, a folder, - ...",
        show_default=False,
    ),
]


def sensitivity(
    model: ModelArgument,
    calibration: RequiredCalibration,
    evaluation: Evaluation = None,
    images: Images = None,
    custom_ops: CustomOps = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Zeros in each layer instead of int8: error, and accuracy with --eval.")
    ] = False,
    levels: Annotated[
        str | None, typer.Option("--levels", metavar="SHARES", help="With --prune: shares of zeros, 0.5/0.7/0.9.")
    ] = None,
    metric: Metric = None,
    samples: Annotated[int, typer.Option("--samples", min=1, metavar="N", help="Calibration samples to use.")] = 64,
    budget: Annotated[float, typer.Option("--budget", min=1, metavar="SECONDS", help="Time to measure in.")] = 300.0,
    report: SensitivityFile = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure what each group of nodes costs in int8 at the outputs, or each layer with a share of zeros."""
    from modelopt_cli.cli.console import print_json, print_payload, progress_sink
    from modelopt_cli.cli.files import preprocessing, read_model
    from modelopt_cli.data.files import open_dataset
    from modelopt_cli.pipeline.prune_sensitivity import LEVELS, pruning_sensitivity
    from modelopt_cli.pipeline.sensitivity import quantization_sensitivity
    from modelopt_cli.report.sensitivity_page import check_sensitivity_path, write_sensitivity
    from modelopt_cli.targets.target import resolve_target

    if report is not None:
        check_sensitivity_path(report)
    if not prune and (flag := "--levels" if levels is not None else "--metric" if metric is not None else ""):
        raise UsageError("is for layers with zeros", where=flag, hint="add --prune")
    shares = LEVELS if levels is None else parse_levels(levels)
    calib = open_dataset(calibration, images=preprocessing(images))
    held = None if evaluation is None else open_dataset(evaluation, images=preprocessing(images))
    if prune:
        found = pruning_sensitivity(
            read_model(model),
            calib,
            held,
            resolve_target(),
            levels=shares,
            metric=metric,
            samples=samples,
            budget_s=budget,
            progress=progress_sink(quiet),
        )
    else:
        found = quantization_sensitivity(
            read_model(model),
            calib,
            held,
            resolve_target(),
            samples=samples,
            budget_s=budget,
            progress=progress_sink(quiet),
        )
    if report is not None:
        write_sensitivity(found, report)
    if as_json:
        print_json(found)
    else:
        print_payload(*(pruning_lines(found) if prune else sensitivity_lines(found)))


def parse_levels(text: str) -> tuple[float, ...]:
    """Shares out of ``0.5/0.7/0.9``.

    Raises:
        UsageError: A part is no number.
    """
    try:
        return tuple(float(part) for part in text.split("/"))
    except ValueError:
        raise UsageError(f"'{text}' is not a list of shares", where="--levels", hint="0.5/0.7/0.9") from None


def pruning_lines(found: dict[str, Any]) -> Iterator[RenderableType]:
    """The table of layers, what they lose at each share of zeros, the most sensitive first."""
    from modelopt_cli.cli.tables import plain_table
    from modelopt_cli.format import format_count, format_db, format_percent

    where = f"on {found['samples'] // 2} samples of {found['judged_on']}"
    accuracy = "" if found["accuracy"] is None else f"; {found['metric']} of the model: {found['accuracy']:.4g}"
    yield f"signal to noise at the outputs with zeros in one layer alone, {where}{accuracy}"
    yield ""
    heads = [f"{format_percent(level, digits=0)} zeros" for level in found["levels"]]
    table = plain_table("layer", "weights", *heads, right=range(1, 2 + len(heads)))
    for row in found["layers"][:SHOWN]:
        cells = []
        for level in row["levels"]:
            text = f"{level['layer_error']:.1%} off" if level["sqnr_db"] is None else format_db(level["sqnr_db"])
            cells.append(text if level["accuracy"] is None else f"{text}, {level['accuracy']:.4g}")
        table.add_row(row["layer"], format_count(row["weights"]), *cells)
    yield table
    for count, what in (
        (len(found["layers"]) - SHOWN, "more layers: --json"),
        (found["not_measured"], "layers not measured: --budget gives them time"),
        (len(found["skipped"]), "weights cannot be fitted: --json says why"),
    ):
        if count > 0:
            yield f"{count} {what}"


def sensitivity_lines(found: dict[str, Any]) -> Iterator[RenderableType]:
    """The table, and what all groups together cost."""
    from modelopt_cli.cli.plots import Bar
    from modelopt_cli.cli.tables import plain_table
    from modelopt_cli.format import format_db

    whole = found["all_groups"]
    part = f" ({whole['output']} {whole['part']})" if whole["part"] else ""
    where = f"on {found['samples']} samples of {found['judged_on']}"
    yield f"all groups in int8: {format_db(whole['sqnr_db'])}{part} {where}"
    yield ""
    table = plain_table("group", "nodes", "ranges", "alone", "without it", "noise", right=(3, 4))
    most = max((_noise(row) for row in found["groups"]), default=0.0) or 1.0
    for row in found["groups"][:SHOWN]:
        nodes = row["ops"][0] + (f" + {len(row['ops']) - 1}" if len(row["ops"]) > 1 else "")
        errors = format_db(row["alone_db"]), format_db(row["without_db"])
        table.add_row(row["group"], nodes, row["way"], *errors, Bar(_noise(row) / most, 8))
    yield table
    left = len(found["groups"]) - SHOWN
    if left > 0:
        yield f"{left} more groups: --json"
    if found["not_measured"]:
        yield f"{found['not_measured']} groups not measured: --budget gives them time"


def _noise(row: dict[str, Any]) -> float:
    """Power of the noise with only this group quantized, as a share of the signal's: what adds up over groups."""
    return float(10 ** (-row["alone_db"] / 10))
