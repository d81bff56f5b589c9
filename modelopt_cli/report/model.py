"""The report as data: measured once, rendered many times. Shares are fractions here and percent only in print."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from modelopt_cli.evaluation.agreement import OutputAgreement
from modelopt_cli.evaluation.compare import Accuracy
from modelopt_cli.graph.stats import ModelStats
from modelopt_cli.profiling.audit import Audit
from modelopt_cli.profiling.statistics import Latency, LatencyComparison
from modelopt_cli.report.inside import Kernels, Layer
from modelopt_cli.report.usage import Usage

__all__ = [
    "SCHEMA",
    "Accuracy",
    "Audit",
    "Fidelity",
    "Gate",
    "Latency",
    "LatencyComparison",
    "ModelStats",
    "Notice",
    "OutputAgreement",
    "RunReport",
    "SkipReport",
    "StepReport",
    "Usage",
]

SCHEMA = "modelopt.report/1"


@dataclass(frozen=True)
class Fidelity:
    """What the result still says, against the original: agreement always, accuracy only with labels."""

    source: str
    samples: int
    agreement: tuple[OutputAgreement, ...]
    accuracy: Accuracy | None = None
    random_inputs: bool = False


@dataclass(frozen=True)
class SkipReport:
    """A refusal of a pass, and how often it occurred."""

    reason: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class StepReport:
    """One pass of the recipe, as it went."""

    name: str
    options: dict[str, Any]
    changed: int
    skipped: tuple[SkipReport, ...]
    seconds: float
    nodes_before: int
    nodes_after: int
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Notice:
    """Something the reader must know, with advice: ``code`` is stable for machines."""

    code: str
    message: str
    advice: str = ""


@dataclass(frozen=True)
class Gate:
    """One requirement of the recipe and whether it was met."""

    name: str
    limit: float
    value: float | None
    met: bool
    note: str = ""


@dataclass(frozen=True)
class RunReport:
    """Everything a run measured and decided."""

    model: str
    output: str | None
    recipe: dict[str, Any]
    steps: tuple[StepReport, ...]
    original: ModelStats
    result: ModelStats
    environment: dict[str, Any]
    hashes: dict[str, str]
    latency: tuple[LatencyComparison, ...] = ()
    fidelity: Fidelity | None = None
    audit: Audit | None = None
    gates: tuple[Gate, ...] = ()
    notices: tuple[Notice, ...] = ()
    usage: Usage | None = None
    layers: tuple[Layer, ...] = ()
    kernels: Kernels | None = None
    seconds: float = 0.0
    kind: Literal["compress"] = "compress"
    schema: str = SCHEMA

    @property
    def gates_met(self) -> bool:
        """Whether every requirement holds (also when there is none)."""
        return all(gate.met for gate in self.gates)
