"""Every flag that more than one command has, declared once: the same word means the same everywhere."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from modelopt_cli.cli import completion
from modelopt_cli.errors import UsageError

DEBUG_KEY = "modelopt.debug"


def _remember_debug(ctx: typer.Context, asked: bool) -> bool:
    ctx.meta[DEBUG_KEY] = asked
    return asked


def _use_custom_ops(ctx: typer.Context, libraries: list[Path] | None) -> list[Path] | None:
    """Every session of this command knows them; a command in the same process after it does not."""
    if libraries:
        from modelopt_cli.profiling.custom_ops import VARIABLE, use_custom_ops

        before = os.environ.get(VARIABLE)
        ctx.call_on_close(lambda: os.environ.pop(VARIABLE) if before is None else os.environ.update({VARIABLE: before}))
        use_custom_ops(libraries)
    return libraries


ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="ONNX file, or - for stdin.", show_default=False)]
ModelsArgument = Annotated[
    list[str], typer.Argument(metavar="MODEL...", help="ONNX files; one may be - for stdin.", show_default=False)
]

Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE|FOLDER/",
        help="Where the result goes; - is stdout. Default: <stem>.<recipe>.onnx beside the source.",
    ),
]
RecipeOption = Annotated[
    str,
    typer.Option(
        "--recipe", metavar="NAME|FILE", help="Built-in recipe or YAML file.", autocompletion=completion.recipe_names
    ),
]
OptionalRecipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="NAME|FILE",
        help="Run the steps of this family from a recipe instead.",
        autocompletion=completion.recipe_names,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override the recipe: steps.PASS.OPTION=VALUE (repeatable)."),
]
Calibration = Annotated[
    str | None,
    typer.Option(
        "--calib", metavar="DATA", help="Calibration samples, no labels needed: npz, npy, jsonl, csv, a folder, - ..."
    ),
]
Evaluation = Annotated[
    str | None, typer.Option("--eval", metavar="DATA", help="Held-out samples; with labels they give accuracy.")
]
RequiredEvaluation = Annotated[
    str,
    typer.Option(
        "--eval", metavar="DATA", help="Held-out samples; with labels they give accuracy.", show_default=False
    ),
]
Images = Annotated[
    Path | None,
    typer.Option("--images", metavar="FILE", help="How pictures become numbers: a preprocess.yaml (docs/data.md)."),
]
Metric = Annotated[
    str | None,
    typer.Option(
        "--metric", metavar="NAME", help="How labelled samples are scored.", autocompletion=completion.metric_names
    ),
]
Baseline = Annotated[
    str | None, typer.Option("--baseline", metavar="FILE", help="The model to compare with; - for stdin.")
]
Provider = Annotated[
    list[str] | None,
    typer.Option(
        "--provider",
        metavar="NAME",
        help="Provider to measure on (repeatable); the first is the target.",
        autocompletion=completion.provider_names,
    ),
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, metavar="N", help="Threads per session. Default: 1.")]
Batch = Annotated[int | None, typer.Option("--batch", min=1, metavar="N", help="Batch size to measure. Default: 1.")]
Shape = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="NAME=1x128", help="Shape of an input with dynamic dimensions (repeatable)."),
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, metavar="N", help="Seed of everything random.")]
ReportFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="Write the report too: .json, .md, .html, .xml (JUnit) or .csv (repeatable).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]
Debug = Annotated[
    bool,
    typer.Option("--debug", is_eager=True, callback=_remember_debug, help="Show the traceback of an error."),
]
CustomOps = Annotated[
    list[Path] | None,
    typer.Option(
        "--custom-ops",
        metavar="LIBRARY",
        callback=_use_custom_ops,
        help="Shared library of custom operators that the model needs (repeatable).",
    ),
]
AllowRandom = Annotated[
    bool,
    typer.Option("--allow-random-calibration", help="Calibrate on random data; stamped in the report."),
]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Let MODULE:FUNCTION as a data set import and run that code.")
]
Annotations = Annotated[
    Literal["github"] | None,
    typer.Option("--annotations", help="Also say verdict and missed requirements as this CI reads them, on stderr."),
]
Depfile = Annotated[
    Path | None,
    typer.Option("--depfile", metavar="FILE", help="Write a Makefile rule of what was read."),
]
IfChanged = Annotated[
    bool,
    typer.Option("--if-changed", help="Make nothing when the output was made from the same content before."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, print the plan, write nothing.")]
StrictOutput = Annotated[
    bool, typer.Option("--strict-output", help="Write no model when a requirement of the recipe is missed.")
]

PlanFile = Annotated[
    Path | None, typer.Option("--plan", metavar="FILE", help="Replay the decisions of a plan, or of a report (.json).")
]
PlanOut = Annotated[
    Path | None, typer.Option("--plan-out", metavar="FILE", help="Write what was decided, for --plan (JSON).")
]
Locked = Annotated[bool, typer.Option("--locked", help="With --plan: the same inputs, versions and bytes, or exit 1.")]


SearchBudget = Annotated[
    float | None,
    typer.Option("--budget", min=0, metavar="SECONDS", help="Time to search for a faster plan in. Default: 30."),
]
MaxMemory = Annotated[
    str | None,
    typer.Option("--max-memory", metavar="SIZE", help="For the whole process; less means more passes over the data."),
]


@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """What `compress` and its parts have in common."""

    output: Output = None
    overrides: Set = None
    calibration: Calibration = None
    evaluation: Evaluation = None
    images: Images = None
    metric: Metric = None
    providers: Provider = None
    threads: Threads = None
    batch: Batch = None
    shapes: Shape = None
    seed: Seed = None
    budget: SearchBudget = None
    max_memory: MaxMemory = None
    reports: ReportFiles = None
    annotations: Annotations = None
    depfile: Depfile = None
    plan: PlanFile = None
    plan_out: PlanOut = None
    locked: Locked = False
    allow_random: AllowRandom = False
    allow_code: AllowCode = False
    custom_ops: CustomOps = None
    strict_output: StrictOutput = False
    if_changed: IfChanged = False
    dry_run: DryRun = False
    as_json: Json = False
    quiet: Quiet = False
    debug: Debug = False


def with_run_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command whose last parameter is ``flags: RunFlags`` each field of it as a flag of its own."""
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "flags"]
    hints = get_type_hints(RunFlags, include_extras=True)
    shared = [
        inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=hints[each.name])
        for each in fields(RunFlags)
    ]

    def expanded(**values: Any) -> None:
        flags = RunFlags(**{each.name: values.pop(each.name) for each in fields(RunFlags)})
        command(**values, flags=flags)

    expanded.__doc__, expanded.__name__ = command.__doc__, command.__name__
    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    vars(expanded)["__signature__"] = inspect.Signature([*keyword_only, *shared])
    expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *shared]}
    return expanded


def parse_shapes(texts: Sequence[str] | None, flag: str = "--shape") -> dict[str, list[int]]:
    """``["ids=1x128"]`` -> ``{"ids": [1, 128]}``.

    Raises:
        UsageError: Not of that form, a dimension below 1, or an input named twice.
    """
    shapes: dict[str, list[int]] = {}
    for text in texts or ():
        name, _, dims = text.rpartition("=")
        if not name or not all(dim.isascii() and dim.isdigit() and int(dim) > 0 for dim in dims.split("x")):
            raise UsageError(f"'{text}' is not a shape", where=flag, hint="NAME=1x3x224x224")
        if name in shapes:
            raise UsageError(f"input '{name}' is named twice", where=flag)
        shapes[name] = [int(dim) for dim in dims.split("x")]
    return shapes


def parse_dims(texts: Sequence[str], flag: str) -> dict[str, list[int | str]]:
    """``["ids=batch,seq", "x=batch,16"]`` -> ``{"ids": ["batch", "seq"], "x": ["batch", 16]}``.

    Raises:
        UsageError: Not of that form, or an input named twice.
    """
    found: dict[str, list[int | str]] = {}
    for text in texts:
        name, _, dims = text.rpartition("=")
        words = [word.strip() for word in dims.split(",")]
        if not name or not all(word.isidentifier() or (word.isascii() and word.isdigit()) for word in words):
            raise UsageError(f"'{text}' does not name dimensions", where=flag, hint="NAME=batch,sequence")
        if name in found:
            raise UsageError(f"input '{name}' is named twice", where=flag)
        found[name] = [int(word) if word.isdigit() else word for word in words]
    return found


def check_providers(names: Sequence[str] | None) -> tuple[str, ...]:
    """The providers asked for, each well formed; whether it is installed is found out when it is opened.

    Raises:
        UsageError: There is none of that name.
    """
    from modelopt_cli.profiling.providers import parse_provider

    for name in names or ():
        parse_provider(name)
    return tuple(dict.fromkeys(names or ()))
