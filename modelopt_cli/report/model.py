"""The report as data: measured once, rendered many times. Shares are fractions here and percent only in print."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA = "modelopt.report/1"


@dataclass(frozen=True)
class ModelStats:
    """Size and shape of one model.

    Attributes:
        file_bytes: Bytes on disk, external data included.
        parameters: Elements of all float and quantized weight initializers (scales and zero points left out).
        nonzero_parameters: Those that are not zero (for a quantized weight: not its zero point).
        nodes: Nodes of the main graph and of all subgraphs; Constant nodes count.
        ops: Count by operator type, most frequent first.
        opset: Version of the default domain.
        weight_bytes_by_dtype: ``{"float32": ..., "int8": ...}``.
    """

    file_bytes: int
    parameters: int
    nonzero_parameters: int
    nodes: int
    ops: dict[str, int]
    opset: int
    ir_version: int
    weight_bytes_by_dtype: dict[str, int]

    @property
    def sparsity(self) -> float:
        """Share of parameters that are zero."""
        return 1 - self.nonzero_parameters / self.parameters if self.parameters else 0.0


@dataclass(frozen=True)
class Latency:
    """Run time of one model, milliseconds per run."""

    median_ms: float
    mean_ms: float
    min_ms: float
    stdev_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    runs: int


@dataclass(frozen=True)
class LatencyComparison:
    """Two models timed in alternation on one provider.

    Attributes:
        ratio: Result's time as a share of the original's, from per-round ratios.
        ratio_low: Lower end of the 95 % interval of ``ratio``.
        ratio_high: Upper end.
        significant: Whether the interval excludes 1.
    """

    provider: str
    threads: int
    batch: int
    shapes: dict[str, list[int]]
    original: Latency
    result: Latency
    ratio: float
    ratio_low: float
    ratio_high: float

    @property
    def significant(self) -> bool:
        """Whether 1.0 lies outside of the interval."""
        return not self.ratio_low <= 1.0 <= self.ratio_high


@dataclass(frozen=True)
class OutputAgreement:
    """How one output of the result follows the original's on the same inputs.

    Attributes:
        sqnr_db: Signal to quantization noise, 10 log10(sum ref^2 / sum (ref-got)^2), all samples together.
        cosine: Mean cosine similarity over samples.
        top1: Share of rows with the same arg-max over the last axis; None where the output is no score vector.
        max_abs_error: Largest absolute difference.
    """

    output: str
    sqnr_db: float
    cosine: float
    max_abs_error: float
    top1: float | None = None


@dataclass(frozen=True)
class Accuracy:
    """A metric with labels, on original and result."""

    metric: str
    original: float
    result: float
    samples: int

    @property
    def drop(self) -> float:
        """Original minus result, as a fraction."""
        return self.original - self.result


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
class Audit:
    """What the target really runs of the result, read off the graph that the runtime optimized.

    Attributes:
        integer_mac_share: Share of multiply-accumulates in integer kernels, of all MACs of the original.
        integer_ops: Integer kernels by type.
        float_ops: The costly operators that stayed float (Conv, MatMul, Gemm, ...), by type.
        leftover_qdq: QuantizeLinear and DequantizeLinear nodes that still run.
    """

    integer_mac_share: float
    integer_ops: dict[str, int]
    float_ops: dict[str, int]
    leftover_qdq: int


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
    seconds: float = 0.0
    kind: Literal["compress"] = "compress"
    schema: str = SCHEMA

    @property
    def gates_met(self) -> bool:
        """Whether every requirement holds (also when there is none)."""
        return all(gate.met for gate in self.gates)
