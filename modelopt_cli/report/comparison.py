"""What `modelopt compare` found, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from modelopt_cli.graph.stats import ModelStats
from modelopt_cli.profiling.statistics import LatencyComparison
from modelopt_cli.report.model import Fidelity

COMPARE_SCHEMA = "modelopt.compare/1"


@dataclass(frozen=True)
class TensorAgreement:
    """How one tensor inside of the candidate follows the original's of the same name.

    Attributes:
        tensor: Its name.
        node: The original's node that writes it.
        op_type: Of that node.
        sqnr_db: Signal to noise over all samples; see `OutputAgreement`.
    """

    tensor: str
    node: str
    op_type: str
    sqnr_db: float


@dataclass(frozen=True)
class Divergence:
    """Where two models part.

    Attributes:
        below_db: The limit asked for.
        samples: How many were looked at.
        tensors: All that both models have, in the original's order.
        first: The first below the limit from which on the noise goes further; None when there is none.
        largest_loss: The tensor whose noise grew most against the nearest ones before it and stays, and by how many dB.
    """

    below_db: float
    samples: int
    tensors: tuple[TensorAgreement, ...]
    first: TensorAgreement | None
    largest_loss: tuple[TensorAgreement, float] | None


@dataclass(frozen=True)
class CompareReport:
    """Two models held against each other.

    Attributes:
        original: File name.
        candidate: File name.
        original_stats: Size and counts.
        candidate_stats: Likewise.
        latency: One for each provider.
        fidelity: Agreement and accuracy; None without data.
        divergence: None without data, or where the models share no inner tensor.
        environment: Versions and machine.
        hashes: Of models and data.
    """

    original: str
    candidate: str
    original_stats: ModelStats
    candidate_stats: ModelStats
    latency: tuple[LatencyComparison, ...]
    fidelity: Fidelity | None
    divergence: Divergence | None
    environment: dict[str, Any]
    hashes: dict[str, str] = field(default_factory=dict)
    kind: Literal["compare"] = "compare"
    schema: str = COMPARE_SCHEMA
