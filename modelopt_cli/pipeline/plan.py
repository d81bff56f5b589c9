"""A plan: what a run decided, so that another one decides the same without measuring.

A measurement differs from one minute to the next, and with it what a search may decide. The plan keeps the decisions
of each step beside what they depend on; `replay` hands them back to the passes, and the result is the same to the byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from modelopt_cli.errors import UsageError
from modelopt_cli.graph.io import write_atomically
from modelopt_cli.passes.base import Pass
from modelopt_cli.recipe.schema import Recipe
from modelopt_cli.report.model import SCHEMA as REPORT_SCHEMA
from modelopt_cli.report.model import RunReport, StepReport
from modelopt_cli.report.serialize import from_json
from modelopt_cli.targets.target import Dialect, Isa, Provider, Target

PLAN_SCHEMA = "modelopt.plan/1"


@dataclass(frozen=True)
class PlannedStep:
    """One step and what it decided; ``plan`` is None for passes that have nothing to decide."""

    name: str
    plan: dict[str, Any] | None


@dataclass(frozen=True)
class PlannedTarget:
    """What the result is meant for, with nothing left to detect."""

    provider: Provider
    isa: Isa
    dialect: Dialect


@dataclass(frozen=True)
class RunPlan:
    """The decisions of one run, and what they depend on.

    Attributes:
        recipe: Its name.
        target: What was planned for.
        steps: In order.
        hashes: sha256 of model, recipe, calibration data and result.
        environment: Versions and machine.
    """

    recipe: str
    target: PlannedTarget
    steps: tuple[PlannedStep, ...]
    hashes: dict[str, str]
    environment: dict[str, Any]
    schema: str = PLAN_SCHEMA


def plan_of(report: RunReport) -> RunPlan:
    """The plan of a run that is done."""
    target = report.environment["target"]
    return RunPlan(
        str(report.recipe.get("name", "")),
        PlannedTarget(target["provider"], target["isa"], target["dialect"]),
        tuple(PlannedStep(step.name, step.details.get("plan")) for step in report.steps),
        dict(report.hashes),
        dict(report.environment),
    )


def write_plan(plan: RunPlan, path: Path) -> None:
    """As JSON, keys in order: equal plans are equal files.

    Raises:
        OutputError: The file cannot be written.
    """
    write_atomically(path, (json.dumps(asdict(plan), indent=2, sort_keys=True) + "\n").encode())


def read_plan(path: Path) -> RunPlan:
    """Read what `write_plan` wrote, or the plan that a report in JSON holds.

    Raises:
        UsageError: Not a plan of this version, and not the report of a run.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"is not a plan: {error}", where=str(path), hint="--plan-out writes one") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema == REPORT_SCHEMA:
        return plan_of(from_json(json.dumps(content), where=str(path)))
    if schema != PLAN_SCHEMA:
        hint = "--plan-out writes one, and --report FILE.json holds one"
        raise UsageError(f"is not a plan of schema {PLAN_SCHEMA}", where=str(path), hint=hint)
    try:
        return TypeAdapter(RunPlan).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"is not a plan: {place}: {first['msg']}", where=str(path)) from error


def replay(plan: RunPlan, passes: Sequence[Pass]) -> list[Pass]:
    """The passes, each with the decisions of the plan.

    Raises:
        UsageError: The plan is of other steps.
    """
    names = [step.name for step in plan.steps]
    if names != [step.name for step in passes]:
        ours = ", ".join(step.name for step in passes)
        raise UsageError(f"the plan is for steps {', '.join(names)}, and the recipe has {ours}", where="--plan")
    return [
        step.model_copy(update={"plan": planned.plan})
        if planned.plan is not None and "plan" in type(step).model_fields
        else step
        for planned, step in zip(plan.steps, passes, strict=True)
    ]


def target_of(plan: RunPlan, max_opset: int | None) -> Target:
    """The target that was planned for, whatever this machine is."""
    return Target(plan.target.provider, plan.target.isa, plan.target.dialect, max_opset)


def decisions(steps: Sequence[StepReport]) -> str:
    """The plans of all steps as one line of JSON, for the model's metadata: no times, no paths."""
    plans = [{"pass": step.name, "plan": step.details["plan"]} for step in steps if step.details.get("plan")]
    return json.dumps(plans, sort_keys=True, separators=(",", ":"))


def recipe_digest(recipe: Recipe) -> str:
    """sha256 of what a recipe decides about the result: without paths, measuring and requirements."""
    resolved = recipe.resolved()
    content = {key: resolved[key] for key in ("version", "seed", "target", "steps")}
    content["samples"] = resolved["data"]["calibration"]["samples"]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
