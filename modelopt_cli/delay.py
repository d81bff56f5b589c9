"""Modules that others import at their top and hardly ever use: loaded when something is first read from them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

# onnx_ir imports sympy (0.2 s of processor time, 600 modules) for arithmetic with symbolic dimensions, which nothing
# here does: names are compared, not computed with. The second module reads from sympy while it is imported.
RARELY_USED = ("sympy", "onnx_ir._symbolic_shapes")


def delay_imports(names: Sequence[str] = RARELY_USED) -> None:
    """Let later imports of these modules return at once, and load each when an attribute of it is first read.

    For programs, not for libraries: it changes how this whole process imports.
    """
    if not any(isinstance(finder, _Delaying) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Delaying(frozenset(names)))


class _Delaying(MetaPathFinder):
    """Finds what the usual finder finds, with the loader that the standard library has for this purpose."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._names:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec
