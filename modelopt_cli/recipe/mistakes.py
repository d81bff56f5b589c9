"""pydantic's errors as sentences for the person who wrote the recipe."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from modelopt_cli.recipe.yaml_text import Path

_SENTENCES = {
    "missing": "is required",
    "extra_forbidden": "unknown key",
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "set_type": "must be a list",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "finite_number": "must be a finite number",
}
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Mistake:
    """What is wrong at a path of the recipe; ``at_key`` when the key itself is, and not its value."""

    path: Path
    message: str
    at_key: bool = False


def suggest(word: object, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the nearest known word, or the list of them when none is near."""
    words = list(known)
    lowered = {name.lower(): name for name in words}
    near = difflib.get_close_matches(str(word).lower(), lowered, n=1)
    if near:
        return f"; did you mean '{lowered[near[0]]}'?"
    return f"; known: {', '.join(words)}" if words else ""


def render_path(path: Path) -> str:
    """``steps[1].with.sparsity``."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")


def mistakes_of(error: ValidationError, model: type[BaseModel], prefix: Path = ()) -> list[Mistake]:
    """Each distinct error of ``model``'s validation as a mistake under ``prefix``."""
    return list(dict.fromkeys(_mistakes(error, model, prefix)))


def _mistakes(error: ValidationError, model: type[BaseModel], prefix: Path) -> Iterator[Mistake]:
    details = error.errors(include_url=False)
    parents = {other["loc"][:depth] for other in details for depth in range(len(other["loc"]))}
    for detail in details:
        kind, location = detail["type"], detail["loc"]
        if kind == "too_short" and location in parents:  # it counts the good items only: the bad ones are reported
            continue
        if kind == "extra_forbidden":
            known = _keys_at(model, location[:-1])
            yield Mistake((*prefix, *location), f"unknown key{suggest(location[-1], known)}", at_key=True)
        elif kind == "missing":
            yield Mistake((*prefix, *location), _SENTENCES[kind])
        else:
            expected = detail.get("ctx", {}).get("expected", "")
            message = _SENTENCES.get(kind) or _sentence(detail["msg"])
            advice = _advice((*prefix, *location), detail["input"], expected)
            yield Mistake((*prefix, *location), f"{message} (got {_shown(detail['input'])}){advice}")


def _sentence(message: str) -> str:
    return re.sub(
        r"^(Value error, )?((Input|String|Tuple|List|Value) should )?", lambda m: "must " if m[2] else "", message
    )


def _advice(path: Path, value: Any, expected: str) -> str:
    choices = re.findall(r"'([^']*)'", str(expected))
    if choices and isinstance(value, str):
        near = difflib.get_close_matches(value.lower(), choices, n=1)
        return f"; did you mean '{near[0]}'?" if near else ""
    if path == ("version",):
        return (
            "; a newer modelopt wrote it: pip install -U modelopt-cli" if isinstance(value, int) and value > 1 else ""
        )
    is_share = path and path[-1] in ("max_accuracy_drop", "min_agreement", "sparsity")
    if is_share and isinstance(value, int | float) and 1 <= value <= 100:
        return f"; shares are fractions: {value} % is {value / 100:g}"
    return ""


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _keys_at(model: type[BaseModel], location: Path) -> list[str]:
    """The keys that the mapping at ``location`` may have."""
    current: type[BaseModel] | None = model
    for key in location:
        if current is None:
            return []
        if isinstance(key, int):
            continue
        fields = {field.alias or name: field for name, field in current.model_fields.items()}
        current = _model_in(fields[key].annotation) if key in fields else None
    return [field.alias or name for name, field in current.model_fields.items()] if current else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner)) is not None), None)
