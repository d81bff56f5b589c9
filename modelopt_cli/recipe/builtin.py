"""The recipes that come with the program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_PACKAGED = Path(__file__).parent / "builtin"  # in the wheel
_CHECKOUT = Path(__file__).parents[2] / "recipes"  # in an editable install


@dataclass(frozen=True)
class BuiltinRecipe:
    """A recipe of ours; ``description`` is the first line of its leading comment."""

    name: str
    description: str
    path: Path


def builtin_recipes() -> dict[str, BuiltinRecipe]:
    """Name -> recipe, by name."""
    folder = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
    paths = sorted(folder.glob("*.yaml"), key=lambda path: path.stem)
    return {path.stem: BuiltinRecipe(path.stem, _description(path), path) for path in paths}


def _description(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()
