"""The recipe format as JSON Schema (draft 2020-12), for editors that complete and check YAML."""

from __future__ import annotations

from typing import Any

from modelopt_cli.passes.registry import BrokenPlugin, all_passes
from modelopt_cli.recipe.builtin import builtin_recipes
from modelopt_cli.recipe.schema import Recipe


def recipe_json_schema() -> dict[str, Any]:
    """What `load_recipe` accepts: the sections, and for each step the options of its pass.

    A value may also be the text ``$variable``, which the schema allows everywhere but in keys.
    """
    schema = Recipe.model_json_schema(by_alias=True)
    definitions = schema.setdefault("$defs", {})
    definitions["variable"] = {"type": "string", "pattern": r"^\$[A-Za-z_][A-Za-z0-9_-]*$"}
    steps = [_step(each, definitions) for each in all_passes() if not isinstance(each, BrokenPlugin)]
    include = {
        "type": "object",
        "properties": {"include": {"enum": list(builtin_recipes()), "description": "Steps of a built-in recipe."}},
        "required": ["include"],
        "additionalProperties": False,
    }
    definitions["Step"] = {"anyOf": [*steps, include]}
    schema["properties"]["vars"] = {
        "type": "object",
        "description": "Values for $name in the rest of the recipe; --set vars.name=VALUE changes one.",
        "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "modelopt recipe"}


def _step(run: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    options = run.model_json_schema(by_alias=True)
    definitions |= options.pop("$defs", {})
    for name, option in options.get("properties", {}).items():
        about = {key: option.pop(key) for key in ("description", "default") if key in option}
        options["properties"][name] = {**about, "anyOf": [option, {"$ref": "#/$defs/variable"}]}
    return {
        "type": "object",
        "description": run.summary(),
        "properties": {"pass": {"const": run.name}, "with": options},
        "required": ["pass"],
        "additionalProperties": False,
    }
