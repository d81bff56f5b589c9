"""What a run found inside of the models: layers, and the kernels that the runtime made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modelopt_cli.profiling.per_op import Section

Kind = Literal["integer", "float", "conversion"]


@dataclass(frozen=True)
class Layer:
    """A node of the result that has weights.

    Attributes:
        node: Its name.
        op_type: Operator.
        weights: Type that its weights are stored in.
        parameters: How many weights it has; None where they are packed.
        sparsity: Share of them that is zero; None where they are packed.
        sqnr_db: Signal to noise of what it computes in the result, all errors before it included; None without data,
            or where the original has no tensor of that name.
    """

    node: str
    op_type: str
    weights: str
    parameters: int | None
    sparsity: float | None
    sqnr_db: float | None


@dataclass(frozen=True)
class Kernel:
    """A node of the graph that the runtime really runs of the result.

    Attributes:
        name: What the runtime calls it.
        op_type: The runtime's operator.
        kind: ``integer`` (computes on 8-bit integers), ``conversion`` (between them and floats, or of the layout in
            memory), or ``float`` (everything else).
        ms: Milliseconds for each run of the model, under the profiler.
        nodes: The nodes of the result's file that it stands for.
        reads: Kernels whose outputs it reads, by their place in the list.
    """

    name: str
    op_type: str
    kind: Kind
    ms: float
    nodes: tuple[str, ...]
    reads: tuple[int, ...]


@dataclass(frozen=True)
class TypeTime:
    """All kernels of one type, before and after.

    Attributes:
        op_type: The runtime's operator.
        original_ms: Milliseconds for each run of the original; 0 where it has none of the type.
        result_ms: Of the result.
        original_count: How many the original has.
        result_count: How many the result has.
    """

    op_type: str
    original_ms: float
    result_ms: float
    original_count: int
    result_count: int


@dataclass(frozen=True)
class Kernels:
    """Where the time goes, before and after. Sums are larger than latencies: the profiler takes its share.

    Attributes:
        provider: As the user named it.
        runs: Runs of each model; a time is the lower quartile over them.
        types: Slowest of either first.
        sections: Parts of the network that both have; ``baseline_ms`` is of the original.
        graph: What runs of the result, in order.
    """

    provider: str
    runs: int
    types: tuple[TypeTime, ...]
    sections: tuple[Section, ...]
    graph: tuple[Kernel, ...]
