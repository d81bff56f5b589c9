"""``--locked``: a run reproduces its plan to the byte, or says what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelopt_cli.errors import GateError
from modelopt_cli.pipeline.plan import RunPlan

_INPUTS = {"model": "the model", "recipe": "the recipe", "calibration": "the calibration data"}
_VERSIONS = ("modelopt", "onnx", "numpy", "runtime")


def check_inputs(plan: RunPlan, hashes: Mapping[str, str], environment: Mapping[str, Any]) -> None:
    """Compare what a run would be made from, before it starts.

    Args:
        plan: Of the run to reproduce.
        hashes: sha256 of this run's model, recipe and calibration data.
        environment: This run's versions.

    Raises:
        GateError: With everything that differs.
    """
    found = list(_differences(plan, hashes, environment))
    if found:
        raise GateError("; ".join(found), where="--locked", hint="without --locked the plan is replayed all the same")


def check_result(plan: RunPlan, hashes: Mapping[str, str]) -> None:
    """Compare the bytes that came out.

    Raises:
        GateError: They are others.
    """
    wanted, got = plan.hashes.get("result"), hashes.get("result")
    if wanted != got:
        message = f"the result is another: sha256 {_short(got)}, and the plan's is {_short(wanted)}"
        raise GateError(message, where="--locked", hint="inputs and versions are the same: report it as a bug")


def _differences(plan: RunPlan, hashes: Mapping[str, str], environment: Mapping[str, Any]) -> Iterator[str]:
    for key, label in _INPUTS.items():
        wanted, got = plan.hashes.get(key), hashes.get(key)
        if wanted != got:
            yield f"{label} is another: sha256 {_short(got)}, and the plan's is {_short(wanted)}"
    for key in _VERSIONS:
        wanted, got = plan.environment.get(key), environment.get(key)
        if wanted != got:
            yield f"{key} is {_version(got)}, and the plan's was {_version(wanted)}"


def _short(digest: str | None) -> str:
    return "none" if digest is None else f"{digest[:12]}..."


def _version(value: Any) -> str:
    return ", ".join(f"{name} {version}" for name, version in value.items()) if isinstance(value, dict) else str(value)
