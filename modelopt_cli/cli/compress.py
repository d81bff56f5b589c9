"""``modelopt compress`` and its parts ``fuse``, ``prune`` and ``quantize``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from modelopt_cli.cli.options import ModelArgument, OptionalRecipe, RecipeOption, RunFlags, with_run_flags
from modelopt_cli.errors import UsageError

Family = Literal["fuse", "prune", "quantize"]
METHODS = {"auto": "quantize", "static": "quantize-static", "dynamic": "quantize-dynamic"}


@with_run_flags
def compress(model: ModelArgument, recipe: RecipeOption = "int8", *, flags: RunFlags) -> None:
    """Run a recipe on a model, measure the result against the original, write both model and report."""
    from modelopt_cli.cli.run import read_recipe, run_recipe

    run_recipe(model, read_recipe(recipe, flags), recipe, flags)


@with_run_flags
def fuse(model: ModelArgument, recipe: OptionalRecipe = None, *, flags: RunFlags) -> None:
    """Merge operators; the outputs stay the same."""
    _run_family("fuse", model, recipe, {"name": "fuse", "steps": [{"pass": "simplify"}, {"pass": "fuse"}]}, flags)


@with_run_flags
def prune(
    model: ModelArgument,
    recipe: OptionalRecipe = None,
    sparsity: Annotated[float | None, typer.Option("--sparsity", metavar="SHARE", help="Zeros to make: 0.5.")] = None,
    scope: Annotated[
        str | None, typer.Option("--scope", metavar="layer|global", help="Share per layer, or of all.")
    ] = None,
    *,
    flags: RunFlags,
) -> None:
    """Set the smallest weights to zero."""
    options = _given(sparsity=sparsity, scope=scope)
    _refuse_both(recipe, options)
    share = 0.5 if sparsity is None else sparsity
    name = f"prune-{share * 100:g}"
    _run_family("prune", model, recipe, {"name": name, "steps": [{"pass": "prune-magnitude", "with": options}]}, flags)


@with_run_flags
def quantize(
    model: ModelArgument,
    recipe: OptionalRecipe = None,
    method: Annotated[
        str | None,
        typer.Option("--method", metavar="auto|static|dynamic", help="auto: static where --calib allows it."),
    ] = None,
    calibrator: Annotated[
        str | None, typer.Option("--calibrator", metavar="minmax|percentile|mse", help="How ranges are chosen.")
    ] = None,
    *,
    flags: RunFlags,
) -> None:
    """Turn weights and activations into 8-bit integers."""
    options = _given(calibrator=calibrator)
    _refuse_both(recipe, {**options, **_given(method=method)})
    if method is not None and method not in METHODS:
        raise UsageError(f"there is no method '{method}'", where="--method", hint=f"one of {', '.join(METHODS)}")
    step = {"pass": METHODS[method or "auto"], "with": options}
    name = "int8-dynamic" if method == "dynamic" else "int8"
    _run_family("quantize", model, recipe, {"name": name, "steps": [step]}, flags)


def _run_family(family: Family, model: str, recipe: str | None, own: dict[str, Any], flags: RunFlags) -> None:
    from modelopt_cli.cli.run import read_recipe, recipe_of_flags, run_recipe

    chosen = recipe_of_flags(own, flags) if recipe is None else read_recipe(recipe, flags).family(family)
    run_recipe(model, chosen, recipe, flags)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _refuse_both(recipe: str | None, options: dict[str, Any]) -> None:
    if recipe is not None and options:
        flag = next(iter(options))
        raise UsageError(
            f"--{flag} and --recipe say the same thing twice", where=f"--{flag}", hint="use --set with a recipe"
        )
