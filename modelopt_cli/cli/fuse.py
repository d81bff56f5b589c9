"""``modelopt fuse``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from modelopt_cli.cli.options import ModelsArgument, OptionalRecipe, RunFlags, parse_dims, parse_shapes, with_run_flags
from modelopt_cli.errors import UsageError


@with_run_flags
def fuse(
    models: ModelsArgument,
    recipe: OptionalRecipe = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="RULE", help="Apply this rule and no others (repeatable).")
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option("--skip", metavar="RULE", help="Do not apply this rule (repeatable).")
    ] = None,
    pin: Annotated[
        list[str] | None,
        typer.Option("--pin", metavar="NAME=1x128", help="Fix the shape of an input: the result takes no other."),
    ] = None,
    name_dims: Annotated[
        list[str] | None,
        typer.Option(
            "--name-dims", metavar="NAME=batch,seq", help="Name dimensions of an input; equal names are equal sizes."
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print what each rule did, what it nearly did, and why not.")
    ] = False,
    *,
    flags: RunFlags,
) -> None:
    """Merge operators; the outputs stay the same."""
    from modelopt_cli.cli.run import read_recipe, recipe_of_flags, run_recipe

    if recipe is not None:
        for flag, value in {"only": only, "skip": skip, "pin": pin, "name-dims": name_dims}.items():
            if value:
                message = f"--{flag} and --recipe say the same thing twice"
                raise UsageError(message, where=f"--{flag}", hint="use --set with a recipe")
    if explain and flags.as_json:
        raise UsageError("the JSON report has all of it", where="--explain", hint="leave it out with --json")
    settings = {"name": "fuse", "steps": _steps(only, skip, _io_steps(pin, name_dims))}
    chosen = recipe_of_flags(settings, flags) if recipe is None else read_recipe(recipe, flags).family("fuse")
    if explain:
        from modelopt_cli.cli.render_fuse import explain_lines

        run_recipe(models, chosen, recipe, flags, more=explain_lines)
    else:
        run_recipe(models, chosen, recipe, flags)


def _io_steps(pin: list[str] | None, name_dims: list[str] | None) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    if name_dims:
        steps.append({"pass": "name-dims", "with": {"inputs": parse_dims(name_dims, "--name-dims")}})
    if pin:
        steps.append({"pass": "pin-inputs", "with": {"shapes": parse_shapes(pin, "--pin")}})
    return steps


def _steps(only: list[str] | None, skip: list[str] | None, first: list[dict[str, Any]]) -> list[dict[str, Any]]:
    options = {name: rules for name, rules in {"only": only, "skip": skip}.items() if rules}
    return [*first, {"pass": "simplify", "with": options}, {"pass": "fuse", "with": options}]
