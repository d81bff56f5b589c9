"""``--set KEY=VALUE``: change single values of a recipe before it is checked."""

from __future__ import annotations

import re
from pathlib import Path as FilePath
from typing import Any

from modelopt_cli.recipe.mistakes import render_path, suggest
from modelopt_cli.recipe.yaml_text import Path, read_yaml

_INDEX = re.compile(r"(?P<word>[^\[\]]*)\[(?P<index>[0-9]+)\]")


class OverrideError(ValueError):
    """An override that cannot be read or matches nothing."""


def apply_override(data: dict[str, Any], override: str) -> list[Path]:
    """Write one ``KEY=VALUE`` into the plain data of a recipe; the value is YAML.

    ``steps.NAME.OPTION`` means all steps of that pass, ``steps[1].OPTION`` one of them; ``.with`` may be written.

    Returns:
        The paths that were written.

    Raises:
        OverrideError: No ``=``, a value that is not YAML, or nothing in the recipe is called so.
    """
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise OverrideError("expected KEY=VALUE")
    document = read_yaml(text)
    if document.problems:
        raise OverrideError(document.problems[0].message)
    paths = _paths(data, _split(key.strip()))
    for path in paths:
        _write(data, path, _from_here(path, document.data))
    return paths


def _split(key: str) -> Path:
    parts: list[str | int] = []
    for part in key.split("."):
        indexed = _INDEX.fullmatch(part)
        parts += [indexed["word"], int(indexed["index"])] if indexed else [part]
    return tuple(parts)


def _paths(data: dict[str, Any], key: Path) -> list[Path]:
    if key[0] != "steps":
        if any(isinstance(part, int) for part in key):
            raise OverrideError("only steps are counted; write the whole list: KEY=[1, 8]")
        return [key]
    steps = data.get("steps")
    names = [step.get("pass") if isinstance(step, dict) else None for step in steps] if isinstance(steps, list) else []
    option = key[3:] if key[2:3] == ("with",) else key[2:]
    if not option:
        raise OverrideError("expected steps.PASS.OPTION=VALUE or steps[INDEX].OPTION=VALUE")
    if isinstance(key[1], int):
        if key[1] >= len(names):
            raise OverrideError(f"the last step of the recipe is steps[{len(names) - 1}]")
        return [("steps", key[1], "with", *option)]
    found: list[Path] = [("steps", index, "with", *option) for index, name in enumerate(names) if name == key[1]]
    if not found:
        raise OverrideError(
            f"the recipe has no step '{key[1]}'{suggest(key[1], [str(name) for name in names if name])}"
        )
    return found


def _from_here(path: Path, value: Any) -> Any:
    # a path typed into a shell is seen from the working directory; one in the file from the file's folder
    is_data_path = path[0] == "data" and path[-1] == "path"
    return str(FilePath.cwd() / value) if is_data_path and isinstance(value, str) else value


def _write(data: Any, path: Path, value: Any) -> None:
    for key in path[:-1]:
        if isinstance(data, dict) and data.get(key) is None:
            data[key] = {}
        data = data[key]
        if not isinstance(data, dict | list):
            raise OverrideError(f"{render_path((key,))} is a value, not a section")
    data[path[-1]] = value
