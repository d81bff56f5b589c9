"""What `modelopt profile` measured, as data: one entry for each model, provider and shape."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from modelopt_cli.profiling.conditions import Conditions, Finding
from modelopt_cli.profiling.memory import Footprint
from modelopt_cli.profiling.per_op import OpTime, Section
from modelopt_cli.profiling.placement import Placement
from modelopt_cli.profiling.roofline import Peak
from modelopt_cli.profiling.statistics import Latency
from modelopt_cli.profiling.throughput import Throughput

PROFILE_SCHEMA = "modelopt.profile/1"


@dataclass(frozen=True)
class Ratio:
    """Time as a share of the baseline's, with the 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves 1 out."""
        return not self.low <= 1.0 <= self.high


@dataclass(frozen=True)
class PerOp:
    """Time by operator type and by node, and what of the roofline each node reaches.

    Attributes:
        types: Summed by operator type, slowest first.
        nodes: Slowest first.
        roofline: Share of the measured peak by node name; None where there is nothing to count.
        sections: Beside the baseline's; empty without one.
        peak: What the machine reaches.
    """

    types: tuple[OpTime, ...]
    nodes: tuple[OpTime, ...]
    roofline: dict[str, float | None]
    sections: tuple[Section, ...]
    peak: Peak


@dataclass(frozen=True)
class ProfileEntry:
    """One model on one provider at one shape.

    Attributes:
        model: As the user named it.
        provider: As the user named it, with options.
        batch: First dimension of the first input.
        shapes: What was fed, by input.
        latency: With the copies between host and device.
        ratio: Against the baseline; None without one and for the baseline itself.
        bound: Without the copies; None on the CPU, where there are none.
        footprint: Memory and loading; the first shape only.
        throughput: For each number of streams asked for.
        placement: Who runs what; None on the CPU provider, which runs everything.
        per_op: When asked for.
    """

    model: str
    provider: str
    batch: int
    shapes: dict[str, list[int]]
    latency: Latency
    ratio: Ratio | None = None
    bound: Latency | None = None
    footprint: Footprint | None = None
    throughput: tuple[Throughput, ...] = ()
    placement: Placement | None = None
    per_op: PerOp | None = None

    @property
    def significant(self) -> bool | None:
        """Whether it differs from the baseline; None without one."""
        return None if self.ratio is None else self.ratio.significant


@dataclass(frozen=True)
class ProfiledModel:
    """One file under test."""

    model: str
    sha256: str
    file_bytes: int


@dataclass(frozen=True)
class ProfileReport:
    """Everything one `profile` run measured.

    Attributes:
        models: In the order given; the baseline first where there is one.
        baseline: Its name, or None.
        entries: Provider by provider, shape by shape, model by model.
        threads: Threads inside an operator.
        config: Session configuration entries that were set.
        assumed: Dimensions that nothing told the size of.
        conditions: What the machine did, by measurement.
        findings: What makes figures doubtful, each once.
        environment: Versions and machine.
    """

    models: tuple[ProfiledModel, ...]
    baseline: str | None
    entries: tuple[ProfileEntry, ...]
    threads: int
    environment: dict[str, Any]
    config: dict[str, str] = field(default_factory=dict)
    assumed: dict[str, int] = field(default_factory=dict)
    conditions: tuple[Conditions, ...] = ()
    findings: tuple[Finding, ...] = ()
    kind: Literal["profile"] = "profile"
    schema: str = PROFILE_SCHEMA


def profile_json(report: ProfileReport) -> dict[str, Any]:
    """JSON types; each entry says for those who only read whether it differs from the baseline."""
    content = asdict(report)
    for entry, found in zip(content["entries"], report.entries, strict=True):
        entry["significant"] = found.significant
    return content
