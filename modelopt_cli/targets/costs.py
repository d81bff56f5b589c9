"""What an operator costs in float and in integers: the table a plan starts from, before anything is measured.

Nanoseconds per element, onnxruntime 1.32, one thread of an AVX512-VNNI machine, tensors of 400,000 elements that stay
in cache. Only ratios matter to the planner; they are alike on AVX2 and ARM.
"""

from __future__ import annotations

from typing import NamedTuple


class Cost(NamedTuple):
    """Nanoseconds per output element (per input element for reductions)."""

    float_ns: float
    integer_ns: float


QUANTIZE_NS = 0.2
DEQUANTIZE_NS = 0.2
# A node costs this much whatever its size: dispatch, output allocation, and layout changes around it.
NODE_NS = 3000.0
# Nanoseconds per multiply-accumulate, where the kernels are compute bound (112 GFLOP/s against 424 GOP/s).
FLOAT_MAC_NS = 0.018
INTEGER_MAC_NS = 0.0047

_COSTS: dict[str, Cost] = {
    "Add": Cost(0.31, 0.20),
    "Mul": Cost(0.31, 0.26),
    "Sigmoid": Cost(0.34, 0.29),
    "LeakyRelu": Cost(0.27, 0.29),
    "HardSwish": Cost(0.45, 0.35),
    "HardSigmoid": Cost(0.26, 0.10),
    "GlobalAveragePool": Cost(0.55, 0.08),
    "AveragePool": Cost(0.8, 2.4),
    "Concat": Cost(0.15, 0.25),
    "Resize": Cost(0.6, 0.6),
    "MaxPool": Cost(0.8, 0.5),
    "Reshape": Cost(0.0, 0.0),
    "Flatten": Cost(0.0, 0.0),
    "Squeeze": Cost(0.0, 0.0),
    "Unsqueeze": Cost(0.0, 0.0),
    "Transpose": Cost(0.65, 0.20),
}
_UNKNOWN = Cost(0.3, 0.2)


def cost_of(op_type: str) -> Cost:
    """The cost of an operator that only passes over its elements."""
    return _COSTS.get(op_type, _UNKNOWN)
