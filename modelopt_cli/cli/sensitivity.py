"""``modelopt sensitivity``: which parts of a model quantization hurts, worst first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelopt_cli.cli.options import Debug, Evaluation, Json, ModelArgument, Quiet

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN = 20  # groups that the table lists; --json has all
RequiredCalibration = Annotated[
    str,
    typer.Option(
        "--calib",
        metavar="DATA",
        help="Calibration samples, no labels needed: npz, npy or a folder.",
        show_default=False,
    ),
]


def sensitivity(
    model: ModelArgument,
    calibration: RequiredCalibration,
    evaluation: Evaluation = None,
    samples: Annotated[int, typer.Option("--samples", min=1, metavar="N", help="Calibration samples to use.")] = 64,
    budget: Annotated[float, typer.Option("--budget", min=1, metavar="SECONDS", help="Time to measure in.")] = 300.0,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure what each group of nodes costs in int8 at the outputs: quantized alone, and left in float."""
    from modelopt_cli.cli.console import print_json, print_payload, progress_sink
    from modelopt_cli.cli.files import read_model
    from modelopt_cli.data.files import open_dataset
    from modelopt_cli.pipeline.sensitivity import quantization_sensitivity
    from modelopt_cli.targets.target import resolve_target

    calib = open_dataset(calibration)
    held = None if evaluation is None else open_dataset(evaluation)
    found = quantization_sensitivity(
        read_model(model),
        calib,
        held,
        resolve_target(),
        samples=samples,
        budget_s=budget,
        progress=progress_sink(quiet),
    )
    print_json(found) if as_json else print_payload(*sensitivity_lines(found))


def sensitivity_lines(found: dict[str, Any]) -> Iterator[RenderableType]:
    """The table, and what all groups together cost."""
    from modelopt_cli.cli.tables import plain_table
    from modelopt_cli.format import format_db

    whole = found["all_groups"]
    part = f" ({whole['output']} {whole['part']})" if whole["part"] else ""
    where = f"on {found['samples']} samples of {found['judged_on']}"
    yield f"all groups in int8: {format_db(whole['sqnr_db'])}{part} {where}"
    yield ""
    table = plain_table("group", "nodes", "ranges", "alone", "without it", right=(3, 4))
    for row in found["groups"][:SHOWN]:
        nodes = row["ops"][0] + (f" + {len(row['ops']) - 1}" if len(row["ops"]) > 1 else "")
        table.add_row(row["group"], nodes, row["way"], format_db(row["alone_db"]), format_db(row["without_db"]))
    yield table
    left = len(found["groups"]) - SHOWN
    if left > 0:
        yield f"{left} more groups: --json"
    if found["not_measured"]:
        yield f"{found['not_measured']} groups not measured: --budget gives them time"
