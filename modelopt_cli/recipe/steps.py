"""A step of a recipe to a pass instance, and what is wrong with it when it is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from modelopt_cli.errors import RecipeError, UsageError
from modelopt_cli.passes.base import Pass
from modelopt_cli.passes.registry import get_pass, pass_names
from modelopt_cli.recipe.mistakes import Mistake, mistakes_of, render_path, suggest


def build_pass(index: int, name: str, options: Mapping[str, Any]) -> Pass:
    """The pass of the step at ``index``.

    Raises:
        RecipeError: There is no such pass or option.
    """
    found, mistakes = try_pass(index, name, options)
    if found is None:
        raise RecipeError(f"{render_path(mistake.path)}: {mistake.message}" for mistake in mistakes)
    return found


def try_pass(index: int, name: str, options: Mapping[str, Any]) -> tuple[Pass | None, list[Mistake]]:
    """The pass, or None and what is wrong, with paths from the top of the recipe."""
    try:
        pass_class = get_pass(name)
    except KeyError:
        return None, [Mistake(("steps", index, "pass"), f"there is no pass '{name}'{suggest(name, pass_names())}")]
    except UsageError as error:
        return None, [Mistake(("steps", index, "pass"), str(error))]
    try:
        # as JSON: strict (the text "0.5" is no number) but with lists for tuples and words for enums
        return pass_class.model_validate_json(json.dumps(options), strict=True), []
    except ValidationError as error:
        return None, mistakes_of(error, pass_class, ("steps", index, "with"))
