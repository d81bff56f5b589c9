"""Every flag that more than one command has, declared once: the same word means the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEBUG_KEY = "modelopt.debug"


def _remember_debug(ctx: typer.Context, asked: bool) -> bool:
    ctx.meta[DEBUG_KEY] = asked
    return asked


ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="ONNX file, or - for stdin.", show_default=False)]
ModelsArgument = Annotated[
    list[str], typer.Argument(metavar="MODEL...", help="ONNX files; one may be - for stdin.", show_default=False)
]

Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="Where the result goes; - is stdout. Default: <stem>.<recipe>.onnx beside the source.",
    ),
]
RecipeOption = Annotated[str, typer.Option("--recipe", metavar="NAME|FILE", help="Built-in recipe or YAML file.")]
OptionalRecipe = Annotated[
    str | None,
    typer.Option("--recipe", metavar="NAME|FILE", help="Run the steps of this family from a recipe instead."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override the recipe: steps.PASS.OPTION=VALUE (repeatable)."),
]
Calibration = Annotated[
    str | None,
    typer.Option("--calib", metavar="DATA", help="Calibration samples, no labels needed: npz, npy or a folder."),
]
Evaluation = Annotated[
    str | None, typer.Option("--eval", metavar="DATA", help="Held-out samples; with labels they give accuracy.")
]
Metric = Annotated[str | None, typer.Option("--metric", metavar="NAME", help="How labelled samples are scored.")]
Baseline = Annotated[
    str | None, typer.Option("--baseline", metavar="FILE", help="The model to compare with; - for stdin.")
]
Provider = Annotated[
    list[str] | None,
    typer.Option("--provider", metavar="NAME", help="cpu, cuda, tensorrt or openvino (repeatable)."),
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, metavar="N", help="Threads per session. Default: 1.")]
Batch = Annotated[int | None, typer.Option("--batch", min=1, metavar="N", help="Batch size to measure. Default: 1.")]
Shape = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="NAME=1x128", help="Shape of an input with dynamic dimensions (repeatable)."),
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, metavar="N", help="Seed of everything random.")]
ReportFile = Annotated[
    Path | None, typer.Option("--report", metavar="FILE", help="Write the report too: .json or .md, by suffix.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]
Debug = Annotated[
    bool,
    typer.Option("--debug", is_eager=True, callback=_remember_debug, help="Show the traceback of an error."),
]
AllowRandom = Annotated[
    bool,
    typer.Option("--allow-random-calibration", help="Calibrate on random data; stamped in the report."),
]
Depfile = Annotated[
    Path | None,
    typer.Option("--depfile", metavar="FILE", help="Write a Makefile rule of what was read."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, print the plan, write nothing.")]
StrictOutput = Annotated[
    bool, typer.Option("--strict-output", help="Write no model when a requirement of the recipe is missed.")
]
