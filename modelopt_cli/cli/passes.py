"""``modelopt passes``: what a recipe may say, with options, defaults and ranges."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelopt_cli.cli import completion
from modelopt_cli.cli.console import print_json, print_payload
from modelopt_cli.cli.options import Debug, Json
from modelopt_cli.errors import UsageError

if TYPE_CHECKING:
    from modelopt_cli.passes.base import Pass


def passes(
    show: Annotated[
        str | None,
        typer.Option(
            "--show",
            metavar="NAME",
            help="Options of one pass, with defaults and ranges.",
            autocompletion=completion.pass_names,
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the passes that recipes are made of."""
    from modelopt_cli.cli.render_facts import pass_details, pass_list
    from modelopt_cli.passes.registry import BrokenPlugin, all_passes

    if show is not None:
        described = describe(_find(show))
        print_json(described) if as_json else print_payload(*pass_details(described))
        return
    found = [
        {"name": each.name, "broken": each.reason} if isinstance(each, BrokenPlugin) else describe(each)
        for each in all_passes()
    ]
    print_json(found) if as_json else print_payload(pass_list(found))


def describe(each: type[Pass]) -> dict[str, Any]:
    """A pass as data: name, family, effect, what it needs, its text, its options."""
    schema = each.model_json_schema()
    return {
        "name": each.name,
        "family": each.family,
        "effect": each.effect,
        "needs": sorted(each.needs),
        "summary": each.summary(),
        "description": _unindent(each.__doc__ or ""),
        "options": [_option(name, _resolve(spec, schema)) for name, spec in schema.get("properties", {}).items()],
    }


def _find(name: str) -> type[Pass]:
    from modelopt_cli.passes.registry import get_pass, pass_names

    try:
        return get_pass(name)
    except KeyError:
        near = difflib.get_close_matches(name, pass_names(), 1)
        hint = f"did you mean '{near[0]}'?" if near else "modelopt passes lists them"
        raise UsageError("there is no pass of this name", where=name, hint=hint) from None


def _option(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "type": _type_of(spec),
        "default": spec.get("default"),
        "description": spec.get("description", ""),
    }


def _resolve(spec: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """``$ref`` replaced by what it names; the default and the description that stand beside it stay."""
    if "$ref" not in spec:
        return spec
    named = schema["$defs"][spec["$ref"].rsplit("/", 1)[-1]]
    return {**named, **{key: value for key, value in spec.items() if key != "$ref"}}


def _type_of(spec: dict[str, Any]) -> str:
    if "anyOf" in spec:
        return " or ".join(_type_of(each) for each in spec["anyOf"])
    if "enum" in spec:
        return " | ".join(str(value) for value in spec["enum"])
    if "const" in spec:
        return str(spec["const"])
    words = {"number": "number", "integer": "integer", "boolean": "true | false", "string": "text", "null": "none"}
    kind = spec.get("type", "value")
    if kind == "array":
        return f"list of {_type_of(spec.get('items', {}))}"
    return " ".join([words.get(kind, kind), *_bounds(spec)])


def _bounds(spec: dict[str, Any]) -> list[str]:
    signs = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    return [f"{sign} {spec[key]:g}" for key, sign in signs.items() if key in spec]


def _unindent(text: str) -> str:
    import inspect

    return inspect.cleandoc(text)
