"""Where a result comes from: hashes and versions for the report, and a stamp without time in the model."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import onnx_ir as ir

from modelopt_cli import __version__
from modelopt_cli.profiling.conditions import affinity
from modelopt_cli.recipe.schema import Recipe
from modelopt_cli.targets.detect import detect_isa, processor_name, vector_flags
from modelopt_cli.targets.target import Target

_SOURCES = ("model", "recipe", "calibration")
_DECIDING = ("modelopt", "onnx", "numpy", "runtime", "machine", "isa", "cpu_flags", "target")
# Of the stamp, what says most of a file first: small files keep as many as fit.
FIELDS = ("version", "sha256", "recipe", "plan", "environment")
RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")


def environment(target: Target | None = None) -> dict[str, Any]:
    """Versions and machine facts that a figure depends on; JSON types only."""
    facts: dict[str, Any] = {
        "modelopt": __version__,
        "python": platform.python_version(),
        "onnx": _version("onnx"),
        "numpy": _version("numpy"),
        "runtime": {name: found for name in RUNTIMES if (found := _version(name))},
        "platform": platform.platform(terse=True),
        "machine": platform.machine(),
        "processor": processor_name(),
        "isa": detect_isa(),
        "cpu_flags": vector_flags(),
        "cpus": len(affinity()),
    }
    if target is not None:
        facts["target"] = {"provider": target.provider, "isa": target.isa, "dialect": target.dialect}
    return facts


def stamp(model: ir.Model, recipe: Recipe, plan: str, hashes: Mapping[str, str], decided_on: Mapping[str, Any]) -> None:
    """Write where a model comes from into its metadata; no time and no path, so equal runs give equal bytes.

    Args:
        model: It is edited.
        recipe: What was asked for.
        plan: What was decided.
        hashes: sha256 of what it was made from.
        decided_on: `environment` of the machine that decided: of a replay that of its plan, whatever machine replays.
    """
    model.metadata_props["modelopt.version"] = __version__
    model.metadata_props["modelopt.sha256"] = _line({key: hashes[key] for key in _SOURCES if key in hashes})
    resolved = recipe.resolved()  # without the data section: it holds the user's paths
    content = {key: resolved[key] for key in ("version", "name", "seed", "target", "steps")}
    model.metadata_props["modelopt.recipe"] = _line(content)
    model.metadata_props["modelopt.plan"] = plan
    model.metadata_props["modelopt.environment"] = _line(
        {key: decided_on[key] for key in _DECIDING if key in decided_on}
    )


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
