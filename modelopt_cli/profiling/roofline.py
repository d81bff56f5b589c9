"""How near a node comes to what the machine can do: operations and bytes against measured peaks.

The model is that of Williams, Waterman and Patterson (2009), "Roofline: an insightful visual performance model".
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.profiling.macs import node_macs
from modelopt_cli.profiling.session import open_session, run
from modelopt_cli.profiling.trace import NodeRun

SIDE = 512  # of the square products: large enough for full speed, 3 ms at 100 GFLOP/s
COPIED_BYTES = 64 << 20  # several times any last-level cache share of one core
REPEATS = 7
_MOVES = frozenset(
    {
        "Concat", "Expand", "Flatten", "Gather", "Identity", "MemcpyFromHost", "MemcpyToHost", "ReorderInput",
        "ReorderOutput", "Reshape", "Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Peak:
    """What the machine reaches with the threads that are measured with.

    Attributes:
        float_ops: Floating-point operations per second of a large matrix product.
        integer_ops: The same for 8-bit integers.
        bytes: Bytes per second, read and written, of an operation that does next to nothing with them.
    """

    float_ops: float
    integer_ops: float
    bytes: float

    def share(self, operations: float, data_bytes: float, ms: float, *, integer: bool) -> float | None:
        """Share of what the roofline allows that a node reached; None where there is nothing to count."""
        if ms <= 0 or (operations <= 0 and data_bytes <= 0):
            return None
        top = self.integer_ops if integer else self.float_ops
        return max(operations / top, data_bytes / self.bytes) / (ms / 1e3)


def measure_peak(provider: str = "cpu", threads: int = 1) -> Peak:
    """The machine's peaks, each the best of a few runs: about a quarter of a second.

    Raises:
        ProviderError: The provider is not available.
    """
    rng = np.random.default_rng(0)
    operations = 2.0 * SIDE**3
    weight = rng.standard_normal((SIDE, SIDE), dtype=np.float32)
    floats = _best_s("MatMul", weight, weight, np.float32, provider, threads)
    integers = floats
    if provider == "cpu":  # elsewhere integer products would fall back to it
        a, b = rng.integers(0, 255, weight.shape, np.uint8), rng.integers(-127, 127, weight.shape, np.int8)
        integers = _best_s("MatMulInteger", a, b, np.int32, provider, threads)
    moved = _best_s("Neg", np.zeros(COPIED_BYTES // 4, np.float32), None, np.float32, provider, threads)
    return Peak(operations / floats, operations / integers, 2 * COPIED_BYTES / moved)


def node_operations(node: NodeRun, equation: str = "") -> int:
    """Arithmetic of one run: two for each multiply-accumulate; one for each element where there are none."""
    macs = node_macs(node.op_type, node.inputs, node.outputs, equation=equation)
    if macs:
        return 2 * macs
    if node.op_type in _MOVES:
        return 0
    return max((math.prod(shape) for shape in (*node.inputs, *node.outputs)), default=0)


def _best_s(
    op_type: str, fed: np.ndarray, weight: np.ndarray | None, result: type, provider: str, threads: int
) -> float:
    """Seconds of the fastest run of a model of one node; on one CPU thread by its own clock, as models are timed."""
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.from_numpy(fed.dtype)), shape=ir.Shape(fed.shape))
    inputs, weights = [x], []
    if weight is not None:
        tensor = ir.tensor(weight, name="w")
        w = ir.Value(name="w", type=ir.TensorType(tensor.dtype), shape=ir.Shape(weight.shape), const_value=tensor)
        inputs, weights = [x, w], [w]
    node = ir.node(op_type, inputs, name="peak")
    y = node.outputs[0]
    y.name, y.type = "y", ir.TensorType(ir.DataType.from_numpy(np.dtype(result)))
    y.shape = ir.Shape(fed.shape)
    graph = ir.Graph([x], [y], nodes=[node], initializers=weights, opset_imports={"": 17}, name="peak")
    session = open_session(ir.Model(graph, ir_version=8), provider=provider, threads=threads)
    clock = time.thread_time if provider == "cpu" and threads == 1 else time.perf_counter
    run(session, {"x": fed})
    times = []
    for _ in range(REPEATS):
        start = clock()
        session.run(None, {"x": fed})
        times.append(clock() - start)
    return min(times)
