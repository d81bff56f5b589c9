"""Which passes exist: an explicit table for ours, an entry-point group for everybody else's."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from modelopt_cli.errors import UsageError
from modelopt_cli.passes.base import Pass

GROUP = "modelopt_cli.passes"

BUILTIN: dict[str, str] = {
    "pin-inputs": "modelopt_cli.passes.fuse.pin_inputs:PinInputs",
    "name-dims": "modelopt_cli.passes.fuse.name_dims:NameDims",
    "simplify": "modelopt_cli.passes.fuse.simplify:Simplify",
    "fuse": "modelopt_cli.passes.fuse.fuse:Fuse",
    "prune": "modelopt_cli.passes.prune.prune:Prune",
    "prune-magnitude": "modelopt_cli.passes.prune.prune_magnitude:PruneMagnitude",
    "pack-sparse": "modelopt_cli.passes.prune.pack_sparse:PackSparse",
    "prune-channels": "modelopt_cli.passes.prune.structured.prune_channels:PruneChannels",
    "prune-heads": "modelopt_cli.passes.prune.structured.prune_heads:PruneHeads",
    "quantize-static": "modelopt_cli.passes.quantize.quantize_static:QuantizeStatic",
    "quantize-dynamic": "modelopt_cli.passes.quantize.quantize_dynamic:QuantizeDynamic",
    "quantize": "modelopt_cli.passes.quantize.quantize:Quantize",
    "quantize-weights": "modelopt_cli.passes.quantize.lowbit.quantize_weights:QuantizeWeights",
    "codebook": "modelopt_cli.passes.quantize.lowbit.codebook:Codebook",
    "convert-float16": "modelopt_cli.passes.quantize.lowbit.convert_float16:ConvertFloat16",
}


@dataclass(frozen=True)
class BrokenPlugin:
    """A plug-in pass that is installed but cannot be imported; it stays listed with the reason."""

    name: str
    reason: str


def pass_names() -> list[str]:
    """Every name a recipe may use, ours first."""
    return [*BUILTIN, *(name for name in _plugins() if name not in BUILTIN)]


def get_pass(name: str) -> type[Pass]:
    """The pass class called ``name``, imported now.

    Raises:
        UsageError: A plug-in takes the name of a built-in, or cannot be imported.
        KeyError: Nothing is called so; the caller knows where the name was written.
    """
    plugins = _plugins()
    if name in BUILTIN:
        if name in plugins:
            raise UsageError(f"the plug-in {plugins[name].value} takes the name of a built-in pass", where=name)
        module, _, attribute = BUILTIN[name].partition(":")
        found: type[Pass] = getattr(importlib.import_module(module), attribute)
        return found
    entry = plugins[name]
    try:
        loaded: type[Pass] = entry.load()
    except Exception as error:  # whatever a stranger's module raises on import
        raise UsageError(f"the plug-in pass cannot be imported: {error}", where=name, hint=entry.value) from error
    return loaded


def all_passes() -> Iterator[type[Pass] | BrokenPlugin]:
    """Every registered pass, imported; a plug-in that fails to import comes as `BrokenPlugin`."""
    for name in pass_names():
        try:
            yield get_pass(name)
        except UsageError as error:
            yield BrokenPlugin(name, error.message)


@cache
def _plugins() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
