"""Which ranks a value may have, by what computes it, and which one it must have, by what reads it."""

from __future__ import annotations

import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import rank
from modelopt_cli.passes.fuse.pattern import STANDARD

MAX_DEPTH = 16

SAME_RANK = frozenset(
    {"Identity", "Cast", "Relu", "Sigmoid", "Tanh", "LeakyRelu", "Clip", "Neg", "Dropout", "Softmax", "LogSoftmax"}
)
RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
STATES = (5, 6)


def possible_ranks(value: ir.Value | None, depth: int = 0) -> frozenset[int] | None:
    """The ranks that ``value`` may have when the model runs; None when nothing is known."""
    known = rank(value)
    if known is not None:
        return frozenset({known})
    node = None if value is None else value.producer()
    if value is None or node is None or node.domain not in STANDARD or depth > MAX_DEPTH:
        return None
    if node.op_type == "If":
        position = list(node.outputs).index(value)
        ends = [node.attributes[name].as_graph().outputs[position] for name in ("then_branch", "else_branch")]
        one, other = (possible_ranks(end, depth + 1) for end in ends)
        return None if one is None or other is None else one | other
    step = _rank_step(node)
    ranks = None if step is None else possible_ranks(node.inputs[0], depth + 1)
    return None if ranks is None or step is None else frozenset(number + step for number in ranks)


def needed_rank(value: ir.Value, depth: int = 0) -> int | None:
    """The rank without which some reader of ``value`` that always runs fails, or None when all would do."""
    if value.is_graph_output() and rank(value) is not None:
        return rank(value)
    if depth > MAX_DEPTH:
        return None
    producer = value.producer()
    for usage in value.uses():
        if producer is None or usage.node.graph is producer.graph:  # a branch that reads it may not run
            needed = _needed_by(usage.node, usage.idx, depth)
            if needed is not None:
                return needed
    return None


def _needed_by(node: ir.Node, index: int, depth: int) -> int | None:
    if node.domain not in STANDARD:
        return None
    if node.op_type in RECURRENT and index in (0, *STATES):
        return 3
    if node.op_type == "Gemm" and index < 2:
        return 2
    if node.op_type in ("Conv", "ConvTranspose") and index == 0:
        return rank(node.inputs[1])
    if index != 0 or not node.outputs:
        return None
    step = _rank_step(node)
    after = None if step is None else needed_rank(node.outputs[0], depth + 1)
    return None if after is None or step is None else after - step


def _rank_step(node: ir.Node) -> int | None:
    """By how much the rank of the first output is larger than that of the first input."""
    if node.op_type in SAME_RANK:
        return 0
    if node.op_type not in ("Squeeze", "Unsqueeze"):
        return None
    given = edit.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    count = given.size if given is not None else len(node.attributes.get_ints("axes", ()))
    if not count:
        return None
    return count if node.op_type == "Unsqueeze" else -count
