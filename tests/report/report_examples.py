"""Parts of reports with round numbers."""

from __future__ import annotations

from dataclasses import replace

from modelopt_cli.profiling.per_op import Section
from modelopt_cli.profiling.statistics import Histogram
from modelopt_cli.report.inside import Kernel, Kernels, Layer, TypeTime
from modelopt_cli.report.model import Latency, LatencyComparison, ModelStats, RunReport


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


def inside(report: RunReport) -> RunReport:
    """The report with layers, kernels and the distribution of run times."""
    layers = (
        Layer("/conv/Conv", "Conv", "int8", 2304, 0.25, 44.95),
        Layer("/packed/MatMul", "MatMul", "uint8", None, None, 31.5),
        Layer("/head/Gemm", "Gemm", "float", 640, 0.0, None),
    )
    types = (TypeTime("Conv", 0.108, 0.004, 9, 1), TypeTime("QLinearConv", 0.0, 0.058, 0, 8))
    graph = (
        Kernel("c", "Conv", "float", 0.004, ("/stem/Conv",), ()),
        Kernel("q", "QuantizeLinear", "conversion", 0.002, (), (0,)),
        Kernel("k", "QLinearConv", "integer", 0.012, ("/conv/Conv", "/conv/Conv.q"), (1,)),
        Kernel("a", "QLinearAdd", "integer", 0.003, ("/Add",), (1, 2)),
    )
    sections = (Section(("/conv/Conv",), ("QLinearConv",), 0.012, 0.03), Section(("/new",), ("Cast",), 0.001, 0.0))
    histogram = Histogram(9.5, 10.9, (5, 20, 7, 0, 1))
    first = report.latency[0]
    timed = replace(first, original=replace(first.original, histogram=histogram))
    return replace(report, layers=layers, kernels=Kernels("cpu", 10, types, sections, graph), latency=(timed,))
