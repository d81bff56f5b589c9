"""``modelopt compress`` and its parts ``prune`` and ``quantize``; ``fuse`` has a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modelopt_cli.cli.options import ModelsArgument, OptionalRecipe, RecipeOption, RunFlags, with_run_flags
from modelopt_cli.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from modelopt_cli.report.model import RunReport

    After = Callable[[RunReport], Iterable[RenderableType]]

Family = Literal["prune", "quantize"]
BEFORE_PRUNING = ("simplify", "fuse")  # folded BatchNormalization is part of what is fitted
METHODS = {"auto": "quantize", "static": "quantize-static", "dynamic": "quantize-dynamic"}


@with_run_flags
def compress(
    models: ModelsArgument,
    recipe: RecipeOption = "int8",
    io: Annotated[
        str | None, typer.Option("--io", metavar="float16", help="Inputs and outputs in float16 too (recipe fp16).")
    ] = None,
    *,
    flags: RunFlags,
) -> None:
    """Run a recipe on a model, measure the result against the original, write both model and report."""
    from modelopt_cli.cli.run import read_recipe, run_recipe

    if io is not None:
        if io not in ("float32", "float16"):
            raise UsageError(f"inputs and outputs cannot be {io}", where="--io", hint="float32 or float16")
        flags = replace(flags, overrides=[*(flags.overrides or ()), f"steps.convert-float16.io={io}"])
    run_recipe(models, read_recipe(recipe, flags), recipe, flags)


@with_run_flags
def prune(
    models: ModelsArgument,
    recipe: OptionalRecipe = None,
    sparsity: Annotated[float | None, typer.Option("--sparsity", metavar="SHARE", help="Zeros to make: 0.5.")] = None,
    criterion: Annotated[
        str | None, typer.Option("--criterion", metavar="NAME", help="second-order, activation, magnitude, l1, random.")
    ] = None,
    distribution: Annotated[
        str | None, typer.Option("--distribution", metavar="NAME", help="sensitivity, uniform, global, erk, lamp.")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option("--max-accuracy-drop", metavar="SHARE", help="Prune as far as this allows: 0.01. Needs --eval."),
    ] = None,
    min_agreement: Annotated[
        float | None,
        typer.Option("--min-agreement", metavar="SHARE", help="Prune as far as this allows: 0.99. Needs --calib."),
    ] = None,
    structured: Annotated[
        bool, typer.Option("--structured", help="Remove whole channels and units: smaller and faster. Needs --calib.")
    ] = False,
    macs: Annotated[
        float | None, typer.Option("--macs", metavar="SHARE", help="With --structured: arithmetic that stays: 0.7.")
    ] = None,
    parameters: Annotated[
        float | None, typer.Option("--parameters", metavar="SHARE", help="With --structured: parameters that stay.")
    ] = None,
    latency: Annotated[
        float | None, typer.Option("--latency", metavar="SHARE", help="With --structured: run time that stays.")
    ] = None,
    heads: Annotated[bool, typer.Option("--heads", help="With --structured: attention heads may leave too.")] = False,
    *,
    flags: RunFlags,
) -> None:
    """Set weights to zero, or remove whole channels; the others are fitted to the original's outputs (--calib)."""
    options = _given(sparsity=sparsity, criterion=criterion, distribution=distribution)
    budget = _given(macs=macs, parameters=parameters, latency=latency, heads=heads or None)
    limits = _given(max_accuracy_drop=max_drop, min_agreement=min_agreement)
    _refuse_both(recipe, {**options, **budget, **limits, **_given(structured=structured or None)})
    _refuse_mixture(structured, options, budget)
    prepare = [{"pass": name} for name in BEFORE_PRUNING]
    if structured:
        own = {
            "name": "prune-structured",
            "steps": [*prepare, {"pass": "prune-channels", "with": {**budget, **limits}}],
        }
    else:
        share = 0.5 if sparsity is None else sparsity
        name = "prune" if limits and sparsity is None else f"prune-{share * 100:g}"
        own = {"name": name, "steps": [*prepare, {"pass": "prune", "with": {**options, **limits}}]}
    _run_family("prune", models, recipe, own, flags)


@with_run_flags
def quantize(
    models: ModelsArgument,
    recipe: OptionalRecipe = None,
    method: Annotated[
        str | None,
        typer.Option("--method", metavar="auto|static|dynamic", help="auto: static where --calib allows it."),
    ] = None,
    calibrator: Annotated[
        str | None,
        typer.Option(
            "--calibrator",
            metavar="NAME",
            help="How ranges are chosen: auto, minmax, percentile, mse, entropy, moving-average.",
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say of each group why it is integer or float, with time and error.")
    ] = False,
    *,
    flags: RunFlags,
) -> None:
    """Turn weights and activations into 8-bit integers."""
    options = _given(calibrator=calibrator)
    _refuse_both(recipe, {**options, **_given(method=method)})
    if method is not None and method not in METHODS:
        raise UsageError(f"there is no method '{method}'", where="--method", hint=f"one of {', '.join(METHODS)}")
    if not explain:
        step = {"pass": METHODS[method or "auto"], "with": options}
        name = "int8-dynamic" if method == "dynamic" else "int8"
        _run_family("quantize", models, recipe, {"name": name, "steps": [step]}, flags)
        return
    if method == "dynamic" or flags.calibration is None:
        raise UsageError("errors are measured on calibration data", where="--explain", hint="--calib FILE, no --method")
    from modelopt_cli.cli.render_explain import explained_lines

    step = {"pass": METHODS[method or "auto"], "with": {**options, "explain": True}}
    if recipe is not None:
        flags = replace(flags, overrides=[*(flags.overrides or ()), "steps.quantize.explain=true"])
    _run_family("quantize", models, recipe, {"name": "int8", "steps": [step]}, flags, explained_lines)


def _run_family(
    family: Family,
    models: list[str],
    recipe: str | None,
    own: dict[str, Any],
    flags: RunFlags,
    more: After | None = None,
) -> None:
    from modelopt_cli.cli.run import read_recipe, recipe_of_flags, run_recipe

    chosen = recipe_of_flags(own, flags) if recipe is None else read_recipe(recipe, flags).family(family)
    run_recipe(models, chosen, recipe, flags, more)


def _refuse_mixture(structured: bool, zeros: dict[str, Any], budget: dict[str, Any]) -> None:
    """Zeros and removal are two things."""
    if structured and zeros:
        flag = next(iter(zeros))
        raise UsageError(f"--{flag} sets weights to zero", where=f"--{flag}", hint="leave it out with --structured")
    if budget and not structured:
        flag = next(iter(budget))
        raise UsageError(f"--{flag} is for whole channels", where=f"--{flag}", hint="add --structured")


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _refuse_both(recipe: str | None, options: dict[str, Any]) -> None:
    if recipe is not None and options:
        flag = next(iter(options)).replace("_", "-")
        raise UsageError(
            f"--{flag} and --recipe say the same thing twice", where=f"--{flag}", hint="use --set with a recipe"
        )
