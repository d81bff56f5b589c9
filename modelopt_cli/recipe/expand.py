"""Shorthand of a recipe's text: steps of a built-in by ``include``, and values by ``$variable``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from modelopt_cli.recipe.builtin import builtin_recipes
from modelopt_cli.recipe.mistakes import Mistake, suggest
from modelopt_cli.recipe.yaml_text import Document, Path, read_yaml

_VARIABLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_-]*)")
_ESCAPED = re.compile(r"\$(\$+[A-Za-z_][A-Za-z0-9_-]*)")


def expand_includes(document: Document, report: Callable[[Mistake], None]) -> None:
    """Put the steps of built-in recipes where ``- include: NAME`` stands; positions move along with their steps.

    Args:
        document: Edited in place.
        report: Told what is wrong, before anything moves; such a step is left out and the others are still checked.
    """
    data = document.data
    steps = data.get("steps") if isinstance(data, dict) else None
    if not isinstance(steps, list) or not any(isinstance(step, dict) and "include" in step for step in steps):
        return
    expanded: list[Any] = []
    moved: dict[int, list[int]] = {}  # old index -> new ones
    for index, step in enumerate(steps):
        included = [step]
        if isinstance(step, dict) and "include" in step:
            included = _included(step, index, report)
        moved[index] = list(range(len(expanded), len(expanded) + len(included)))
        expanded += included
    data["steps"] = expanded
    for positions in (document.values, document.keys):
        _move(positions, moved)


def substitute_variables(data: dict[str, Any]) -> list[Mistake]:
    """Replace each text ``$name`` by the value of ``vars.name``, and take ``vars`` away; ``$$name`` is that text.

    Returns:
        What is wrong.
    """
    variables = data.pop("vars", {})
    if not isinstance(variables, dict):
        return [Mistake(("vars",), "must be a mapping")]
    bad = [name for name, value in variables.items() if isinstance(value, dict | list) or _is_variable(value)]
    mistakes = [Mistake(("vars", name), "must be a number, text, true or false") for name in bad]
    for key in data:
        data[key] = _substituted(data[key], (key,), variables, mistakes)
    return mistakes


def escape_variables(value: Any) -> Any:
    """The value in which no text is a variable: what `substitute_variables` makes the value of again."""
    if isinstance(value, dict):
        return {key: escape_variables(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escape_variables(item) for item in value]
    return f"${value}" if _is_variable(value) or (isinstance(value, str) and _ESCAPED.fullmatch(value)) else value


def _included(step: dict[str, Any], index: int, report: Callable[[Mistake], None]) -> list[Any]:
    name, known = step["include"], builtin_recipes()
    others = [key for key in step if key != "include"]
    if others:
        message = "include stands alone: change the included steps with --set, or write them out"
        report(Mistake(("steps", index, others[0]), message, at_key=True))
        return []
    if name not in known:
        message = f"there is no built-in recipe '{name}'{suggest(name, known)}"
        report(Mistake(("steps", index, "include"), message))
        return []
    return list(read_yaml(known[name].path.read_text(encoding="utf-8")).data["steps"])


def _move(positions: dict[Path, tuple[int, int]], moved: dict[int, list[int]]) -> None:
    for path, place in [(path, place) for path, place in positions.items() if path[:1] == ("steps",) and path[1:]]:
        del positions[path]
        index = path[1]
        assert isinstance(index, int)
        targets = moved[index]
        for target in targets if len(path) == 2 else targets[:1]:
            positions[("steps", target, *path[2:])] = place


def _is_variable(value: Any) -> bool:
    return isinstance(value, str) and _VARIABLE.fullmatch(value) is not None


def _substituted(value: Any, path: Path, variables: dict[str, Any], mistakes: list[Mistake]) -> Any:
    if isinstance(value, dict):
        return {key: _substituted(item, (*path, key), variables, mistakes) for key, item in value.items()}
    if isinstance(value, list):
        return [_substituted(item, (*path, index), variables, mistakes) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    if escaped := _ESCAPED.fullmatch(value):
        return escaped[1]
    match = _VARIABLE.fullmatch(value)
    if match is None:
        return value
    if match[1] not in variables:
        mistakes.append(Mistake(path, f"there is no variable '{match[1]}'{suggest(match[1], variables)}"))
        return value
    return variables[match[1]]
