"""Find a recipe, read it, and report everything that is wrong with it at once."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from modelopt_cli.errors import RecipeError, UsageError
from modelopt_cli.recipe.builtin import builtin_recipes
from modelopt_cli.recipe.expand import expand_includes, substitute_variables
from modelopt_cli.recipe.mistakes import Mistake, mistakes_of, render_path
from modelopt_cli.recipe.overrides import OverrideError, apply_override
from modelopt_cli.recipe.schema import Recipe
from modelopt_cli.recipe.steps import try_pass
from modelopt_cli.recipe.yaml_text import Document, Path, read_yaml, write_yaml

_AFTER_THE_FILE = (1 << 30, 0)


def load_recipe(name_or_path: str, *, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and check it, options of its passes included.

    Args:
        name_or_path: A file, or the name of a built-in; a word without suffix or slash is a built-in unless such a
            file exists.
        overrides: ``KEY=VALUE`` each, as after ``--set``.

    Raises:
        RecipeError: All mistakes, each ``file:line:column: path: what``; or no such built-in.
        UsageError: The file is missing or cannot be read.
    """
    path = FilePath(name_or_path)
    if not path.is_file() and not path.suffix and "/" not in name_or_path:
        known = builtin_recipes()
        if name_or_path not in known:
            raise RecipeError([_unknown_recipe(name_or_path, list(known))])
        path = known[name_or_path].path
    return parse_recipe(_read(path), str(path), folder=path.parent, overrides=overrides)


def parse_recipe(
    text: str, label: str = "<recipe>", *, folder: FilePath | None = None, overrides: Sequence[str] = ()
) -> Recipe:
    """A recipe from its text.

    Args:
        text: YAML.
        label: What mistakes call the text.
        folder: What its data paths are relative to; the working directory when None.
        overrides: ``KEY=VALUE`` each.

    Raises:
        RecipeError: All mistakes, each ``label:line:column: path: what``.
    """
    reader = _Reader(label, read_yaml(text))
    recipe = reader.read(overrides)
    if recipe is None:
        raise RecipeError(reader.lines())
    recipe._folder = folder or FilePath()
    return recipe


def recipe_text(recipe: Recipe) -> str:
    """YAML that `parse_recipe` reads as the same recipe; defaults are left out."""
    return write_yaml(recipe.written())


class _Reader:
    """One recipe on its way from text to `Recipe`, with the mistakes met so far."""

    def __init__(self, label: str, document: Document) -> None:
        self._label = label
        self._document = document
        self._overridden: dict[Path, str] = {}
        self._found: list[tuple[tuple[int, int], str]] = []
        self._bad_paths: set[Path] = set()
        for problem in document.problems:
            self._add(
                f"{label}:{problem.line}:{problem.column}",
                (problem.line, problem.column),
                problem.path,
                problem.message,
            )

    def lines(self) -> list[str]:
        """Mistakes in the order of the file, those of overrides last."""
        return [line for _, line in sorted(self._found, key=lambda found: found[0])]

    def read(self, overrides: Sequence[str]) -> Recipe | None:
        """The recipe, or None when there are mistakes."""
        data = self._document.data
        if not isinstance(data, dict):
            if not self._found:
                what = "is empty" if data is None else "must be a mapping"
                self._add(f"{self._label}:1:1", (1, 1), (), f"{what}; a recipe begins with 'version: 1'")
            return None
        # Included steps can be overridden, and so can variables before they are used.
        expand_includes(self._document, self._mistake)
        self._override(data, overrides)
        for mistake in substitute_variables(data):
            self._mistake(mistake)
        recipe = self._validate(data)
        for mistake in self._step_mistakes(data):
            self._mistake(mistake)
        return None if self._found else recipe

    def _override(self, data: dict[str, Any], overrides: Sequence[str]) -> None:
        for override in overrides:
            try:
                for path in apply_override(data, override):
                    self._overridden[path] = override
            except OverrideError as error:
                self._add(f"--set {override}", _AFTER_THE_FILE, (), str(error))

    def _validate(self, data: dict[str, Any]) -> Recipe | None:
        try:
            # as JSON: strict (the text "1" is no number) but with lists for tuples
            return Recipe.model_validate_json(json.dumps(data), strict=True)
        except ValidationError as error:
            for mistake in mistakes_of(error, Recipe):
                self._mistake(mistake)
            return None

    def _step_mistakes(self, data: dict[str, Any]) -> Iterator[Mistake]:
        steps = data.get("steps")
        for index, step in enumerate(steps if isinstance(steps, list) else []):
            if not isinstance(step, dict):
                continue
            name, options = step.get("pass"), step.get("with", {})
            if isinstance(name, str) and name and isinstance(options, dict):
                yield from try_pass(index, name, options)[1]

    def _mistake(self, mistake: Mistake) -> None:
        if mistake.path in self._bad_paths:  # the text itself is wrong there, and that is already said
            return
        override = self._override_at(mistake.path)
        if override is not None:
            self._add(f"--set {override}", _AFTER_THE_FILE, mistake.path, mistake.message)
            return
        place = self._place(mistake)
        self._add(f"{self._label}:{place[0]}:{place[1]}", place, mistake.path, mistake.message)

    def _override_at(self, path: Path) -> str | None:
        """The override that wrote the value at ``path``, or a section around or in it that the file does not have."""
        for upper in _upwards(path):
            if upper in self._overridden:
                return self._overridden[upper]
        if path in self._document.values:
            return None
        return next((text for written, text in self._overridden.items() if written[: len(path)] == path), None)

    def _place(self, mistake: Mistake) -> tuple[int, int]:
        if mistake.at_key and mistake.path in self._document.keys:
            return self._document.keys[mistake.path]
        return next((self._document.values[p] for p in _upwards(mistake.path) if p in self._document.values), (1, 1))

    def _add(self, where: str, place: tuple[int, int], path: Path, message: str) -> None:
        self._bad_paths.add(path)
        shown = render_path(self._known(path))
        self._found.append((place, f"{where}: {shown}: {message}" if shown else f"{where}: {message}"))

    def _known(self, path: Path) -> Path:
        # pydantic adds the names of union members to a location: nothing that the person wrote
        if path[:-1] in self._document.values or path in self._document.values or path in self._overridden:
            return path
        return next((p for p in _upwards(path) if p in self._document.values), path)


def _upwards(path: Path) -> Iterator[Path]:
    return (path[:length] for length in range(len(path), -1, -1))


def _unknown_recipe(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    meant = f"; did you mean '{near[0]}'?" if near else ""
    return f"--recipe: there is no recipe '{name}'{meant} (built-in: {', '.join(known)}; a file: ./{name}.yaml)"


def _read(path: FilePath) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        names = ", ".join(builtin_recipes())
        raise UsageError("no such recipe file", where=str(path), hint=f"built-in recipes: {names}") from None
    except OSError as error:
        raise UsageError(f"the recipe cannot be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError:
        raise UsageError("is not a recipe: it is not UTF-8 text", where=str(path)) from None
