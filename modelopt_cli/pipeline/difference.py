"""How two models differ: what they are made of, and what they compute from the same inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.data.dataset import Sample
from modelopt_cli.evaluation.equivalence import Drift, check_equivalence
from modelopt_cli.graph.io import SourceModel, weight_bytes
from modelopt_cli.graph.stats import model_stats
from modelopt_cli.profiling.trial import runnable_feeds


@dataclass(frozen=True)
class Difference:
    """What `diff_models` found; each pair is the first model's figure and the second's.

    Attributes:
        nodes: Nodes of the main graph and of all subgraphs; Constant nodes count.
        initializers: Of all graphs.
        weight_bytes: Bytes of the initializers.
        file_bytes: Bytes on disk, external data included.
        opset: Version of the standard operators.
        ops: Operator type -> count in both, where the counts differ; the largest difference first.
        outputs: How far each output moved, of the first model's range; outputs that only the second has are missing
            in the first and counted as infinitely far.
    """

    nodes: tuple[int, int]
    initializers: tuple[int, int]
    weight_bytes: tuple[int, int]
    file_bytes: tuple[int, int]
    opset: tuple[int, int]
    ops: dict[str, tuple[int, int]]
    outputs: tuple[Drift, ...]

    @property
    def same_outputs(self) -> bool:
        """Whether every output is within the tolerance."""
        return all(drift.within for drift in self.outputs)


def diff_models(
    first: SourceModel,
    second: SourceModel,
    sample: Sample | None = None,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    rtol: float = 1e-4,
) -> Difference:
    """Hold two models against each other.

    Args:
        first: The reference.
        second: What is compared with it.
        sample: One batch of inputs; seeded random ones where it is None.
        shapes: Whole shapes of inputs with dynamic dimensions.
        rtol: Tolerated share of an output's largest magnitude.

    Raises:
        ModelError: The runtime cannot load or run the first model.
        UsageError: ``shapes`` do not fit the inputs.
    """
    feeds = runnable_feeds(first.path or first.model, first.model, sample, shapes=shapes)
    outputs = check_equivalence(first.model, second.model, [feeds.arrays], rtol=rtol)
    known = {drift.output for drift in outputs}
    extra = [value.name or "" for value in second.model.graph.outputs if value.name not in known]
    missing = [Drift(name, float("inf"), float("inf"), within=False) for name in extra]
    a, b = (model_stats(each.model, each.file_bytes) for each in (first, second))
    ops = {op: (a.ops.get(op, 0), b.ops.get(op, 0)) for op in {**a.ops, **b.ops}}
    changed = sorted((item for item in ops.items() if item[1][0] != item[1][1]), key=_by_distance)
    return Difference(
        nodes=(a.nodes, b.nodes),
        initializers=(_initializers(first.model), _initializers(second.model)),
        weight_bytes=(weight_bytes(first.model), weight_bytes(second.model)),
        file_bytes=(a.file_bytes, b.file_bytes),
        opset=(a.opset, b.opset),
        ops=dict(changed),
        outputs=(*outputs, *missing),
    )


def _by_distance(item: tuple[str, tuple[int, int]]) -> tuple[int, str]:
    op, (before, after) = item
    return -abs(before - after), op


def _initializers(model: ir.Model) -> int:
    return sum(len(graph.initializers) for graph in model.graphs())
