"""Where a result comes from: hashes and versions for the report, and a stamp without time in the model."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import onnx_ir as ir

from modelopt_cli import __version__
from modelopt_cli.graph.io import SourceModel
from modelopt_cli.profiling.conditions import affinity
from modelopt_cli.recipe.schema import Recipe
from modelopt_cli.targets.detect import detect_isa, processor_name
from modelopt_cli.targets.target import Target

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
        "cpus": len(affinity()),
    }
    if target is not None:
        facts["target"] = {"provider": target.provider, "isa": target.isa, "dialect": target.dialect}
    return facts


def stamp(model: ir.Model, source: SourceModel, recipe: Recipe, plan: str) -> None:
    """Write tool, recipe, plan and source hash into the metadata; no time stamp, so equal runs give equal bytes."""
    model.metadata_props["modelopt.version"] = __version__
    model.metadata_props["modelopt.source_sha256"] = source.sha256
    resolved = recipe.resolved()  # without the data section: it holds the user's paths
    content = {key: resolved[key] for key in ("version", "name", "seed", "target", "steps")}
    model.metadata_props["modelopt.recipe"] = json.dumps(content, sort_keys=True, separators=(",", ":"))
    model.metadata_props["modelopt.plan"] = plan


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
