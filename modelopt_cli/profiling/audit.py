"""Which quantized operators became integer kernels on the target, read off what the runtime really ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import all_nodes
from modelopt_cli.profiling.macs import node_macs
from modelopt_cli.profiling.session import Model
from modelopt_cli.profiling.trace import NodeRun, trace
from modelopt_cli.targets.target import Target

# Operators of onnxruntime and ONNX that compute on 8-bit integers; the rest of the names starts with "QLinear".
INTEGER_KERNELS = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulInteger16",
        "MatMulIntegerToFloat",
        "QAttention",
        "QGemm",
        "QMoE",
    }
)
_QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})
_NODE_BY_NODE = ("CPUExecutionProvider", "CUDAExecutionProvider")  # others compile their part and run it as one node


@dataclass(frozen=True)
class Audit:
    """What the target really runs of the result.

    Attributes:
        integer_mac_share: Share of the result's multiply-accumulates that run in integer kernels.
        integer_ops: Integer kernels by type.
        float_ops: Operators with multiply-accumulates that stayed float (Conv, MatMul, Gemm, ...), by type.
        leftover_qdq: QuantizeLinear and DequantizeLinear nodes that still run.
        macs_original: Multiply-accumulates of the original, for the inputs that were fed.
        macs_result: Those of the result: fewer after structured pruning.
    """

    integer_mac_share: float
    integer_ops: dict[str, int]
    float_ops: dict[str, int]
    leftover_qdq: int
    macs_original: int = 0
    macs_result: int = 0


def audit(model: Model, original: Model, feeds: Mapping[str, np.ndarray], target: Target) -> Audit | None:
    """Run both models once under the profiler and say where the result's multiply-accumulates went.

    Args:
        model: The result.
        original: What it was made from.
        feeds: One batch of inputs by name; multiply-accumulates are counted for its shapes.
        target: Provider to ask; its instruction set is that of this machine.

    Returns:
        None for a provider that compiles what it takes: which kernels it chose is not told.

    Raises:
        ModelError: The runtime cannot load or run one of them.
        ProviderError: The target's provider is not available here.
    """
    # What fuses is decided before these two settings take effect; they keep weights in the layout that MACs are
    # counted from: packed weights lose their shape, and blocked (NCHWc) ones are padded.
    plain = {"session.disable_prepacking": "1", "optimization.disable_specified_optimizers": "NchwcTransformer"}
    ran = trace(model, feeds, provider=target.provider, config=plain)
    if any(run.provider and run.provider not in _NODE_BY_NODE for run in ran):
        return None
    before = trace(original, feeds, config=plain, optimize="off")
    equations = _equations(original)
    macs_original = sum(_macs(run, equations) for run in before)
    integer: Counter[str] = Counter()
    costly: Counter[str] = Counter()
    macs: Counter[bool] = Counter()
    for run in _distinct(ran):
        if is_integer_kernel(run.op_type):
            integer[run.op_type] += 1
        elif _macs(run, equations):
            costly[run.op_type] += 1
    for run in ran:
        macs[is_integer_kernel(run.op_type)] += _macs(run, equations)
    return Audit(
        integer_mac_share=macs[True] / macs.total() if macs.total() else 0.0,
        integer_ops=dict(integer.most_common()),
        float_ops=dict(costly.most_common()),
        leftover_qdq=sum(run.op_type in _QDQ for run in _distinct(ran)),
        macs_original=macs_original,
        macs_result=macs.total(),
    )


def is_integer_kernel(op_type: str) -> bool:
    """Whether the runtime's operator of this name computes on 8-bit integers."""
    return op_type.startswith("QLinear") or op_type in INTEGER_KERNELS


def _distinct(ran: list[NodeRun]) -> list[NodeRun]:
    """Each node once: a node in a loop body runs many times."""
    return list({run.name: run for run in ran}.values())


def _macs(run: NodeRun, equations: Mapping[str, str]) -> int:
    return node_macs(run.op_type, run.inputs, run.outputs, equation=equations.get(run.name, ""))


def _equations(model: Model) -> dict[str, str]:
    if not isinstance(model, ir.Model):
        return {}
    return {
        node.name: node.attributes.get_string("equation", "")
        for node in all_nodes(model)
        if node.op_type == "Einsum" and node.name
    }
