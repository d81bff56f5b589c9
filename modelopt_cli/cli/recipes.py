"""``modelopt recipes list | show | init | schema | check``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from modelopt_cli.cli import completion
from modelopt_cli.cli.console import print_json, print_payload
from modelopt_cli.cli.files import PIPE, check_outputs, read_model
from modelopt_cli.cli.options import Debug, Json, ModelArgument, Set
from modelopt_cli.errors import RecipeError, UsageError

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, show, start and check recipes.")


@group.command("list")
def list_recipes(as_json: Json = False, debug: Debug = False) -> None:
    """List the built-in recipes."""
    from modelopt_cli.cli.render_facts import recipe_list
    from modelopt_cli.recipe.builtin import builtin_recipes
    from modelopt_cli.recipe.load import load_recipe

    found = [
        {"name": name, "description": built.description, "steps": [step.name for step in load_recipe(name).steps]}
        for name, built in builtin_recipes().items()
    ]
    print_json(found) if as_json else print_payload(recipe_list(found))


@group.command("show")
def show(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE", help="Built-in recipe or YAML file.", autocompletion=completion.recipe_names
        ),
    ],
    overrides: Set = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Print a recipe as YAML, to start a file of your own; with --json, every default filled in."""
    from modelopt_cli.recipe.builtin import builtin_recipes
    from modelopt_cli.recipe.load import load_recipe, recipe_text

    loaded = load_recipe(recipe, overrides=overrides or ())
    built_in = builtin_recipes().get(recipe)
    if as_json:
        print_json(loaded.resolved())
    elif built_in is not None and not overrides:
        typer.echo(built_in.path.read_text(encoding="utf-8"), nl=False)  # with its comments
    else:
        typer.echo(recipe_text(loaded), nl=False)


@group.command("init")
def init(
    model: ModelArgument,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="Where the recipe goes; - is stdout.")
    ] = "-",
    debug: Debug = False,
) -> None:
    """Write a commented recipe that fits a model; asks nothing."""
    from modelopt_cli.graph.io import write_atomically
    from modelopt_cli.recipe.init import first_recipe

    path = Path(output)
    if output != PIPE:
        check_outputs(model, output=path)
        if path.exists():
            raise UsageError("is there already, and may hold your work", where=output, hint="give another -o FILE")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem if output != PIPE else "first").strip("-._") or "first"
    text = first_recipe(read_model(model).model, name)
    if output == PIPE:
        typer.echo(text, nl=False)
    else:
        write_atomically(path, text.encode())


@group.command("schema")
def schema(debug: Debug = False) -> None:
    """Print the JSON Schema of recipes, for editors."""
    from modelopt_cli.recipe.json_schema import recipe_json_schema

    print_json(recipe_json_schema())


@group.command("check")
def check(
    recipes: Annotated[list[str], typer.Argument(metavar="NAME|FILE...", help="Built-in recipes or YAML files.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check recipes: every mistake of every file at once, each with file:line:column."""
    checked = [_check(name) for name in recipes]
    if as_json:
        print_json(checked)
    else:
        print_payload(*(f"{each['recipe']}: ok, {each['steps']} steps" for each in checked if not each["problems"]))
    problems = [problem for each in checked for problem in each["problems"]]
    if problems:
        raise RecipeError(problems)


def _check(name: str) -> dict[str, Any]:
    from modelopt_cli.recipe.load import load_recipe

    try:
        recipe = load_recipe(name)
    except RecipeError as error:
        return {"recipe": name, "steps": 0, "problems": list(error.problems)}
    except UsageError as error:  # no such file: one problem of this recipe, the others are checked as well
        return {"recipe": name, "steps": 0, "problems": [str(error)]}
    return {"recipe": name, "steps": len(recipe.steps), "problems": []}
