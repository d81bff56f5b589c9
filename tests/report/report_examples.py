"""Parts of reports with round numbers."""

from __future__ import annotations

from modelopt_cli.report.model import Latency, LatencyComparison, ModelStats


def latency(ratio: float, spread: float = 0.02, provider: str = "cpu") -> LatencyComparison:
    """A comparison of 10 ms with ``ratio`` times that."""
    original = Latency(10.0, 10.2, 9.5, 0.4, 10.6, 10.9, 12.0, 400)
    result = Latency(10.0 * ratio, 10.2 * ratio, 9.5 * ratio, 0.3, 10.6 * ratio, 10.9 * ratio, 12.0 * ratio, 400)
    shapes = {"x": [1, 3, 224, 224]}
    return LatencyComparison(
        provider, 1, 1, shapes, original, result, ratio, ratio * (1 - spread), ratio * (1 + spread), rebuilds=8
    )


def stats(file_bytes: int, parameters: int = 4_652_008, zeros: int = 0, nodes: int = 115) -> ModelStats:
    """A model of that size."""
    sizes = {"float32": parameters * 4}
    return ModelStats(file_bytes, parameters, parameters - zeros, nodes, {"Conv": nodes}, 13, 8, sizes)
