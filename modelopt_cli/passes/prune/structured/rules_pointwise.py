"""How channels pass through operators that treat each alone: arithmetic, activations, pooling, normalisation."""

from __future__ import annotations

import onnx_ir as ir

from modelopt_cli.passes.prune.structured.channels import Axis
from modelopt_cli.passes.prune.structured.flow import Flow, Refuse

Outputs = list[list[Axis] | None]

UNARY = frozenset(
    [
        "Abs",
        "Acos",
        "Acosh",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "BitwiseNot",
        "Cast",
        "Ceil",
        "Celu",
        "Clip",
        "Cos",
        "Cosh",
        "Dropout",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "IsInf",
        "IsNaN",
        "LeakyRelu",
        "Log",
        "Mish",
        "Neg",
        "Not",
        "QuickGelu",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Shrink",
        "Sigmoid",
        "Sign",
        "Sin",
        "Sinh",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Swish",
        "Tan",
        "Tanh",
        "ThresholdedRelu",
    ]
)
ELEMENTWISE = frozenset(
    [
        "Add",
        "And",
        "BitwiseAnd",
        "BitwiseOr",
        "BitwiseXor",
        "Div",
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "Max",
        "Mean",
        "Min",
        "Mod",
        "Mul",
        "Or",
        "PRelu",
        "Pow",
        "Sub",
        "Sum",
        "Where",
        "Xor",
    ]
)
POOLING = frozenset({"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "AveragePool", "MaxPool", "LpPool"})
NORMALISED_TOGETHER = frozenset(
    {
        "LayerNormalization",
        "RMSNormalization",
        "GroupNormalization",
        "LRN",
        "LpNormalization",
    }
)
REDUCTIONS = frozenset(
    [
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
    ]
)
ALONG_AXIS = {"Softmax": -1, "LogSoftmax": -1, "Hardmax": -1, "CumSum": 0, "ArgMax": 0, "ArgMin": 0, "TopK": -1}


def unary(flow: Flow, node: ir.Node) -> Outputs:
    """Each element by itself; bounds and ratios are scalars."""
    return [flow.axes(node, 0), *[None] * (len(node.outputs) - 1)]


def elementwise(flow: Flow, node: ir.Node) -> Outputs:
    """Operands broadcast from the last axis on."""
    return [flow.broadcast([flow.axes(node, index) for index in range(len(node.inputs))])]


def batch_norm(flow: Flow, node: ir.Node) -> Outputs:
    """Scale, shift and statistics by channel; InstanceNormalization has no statistics."""
    if node.attributes.get_int("training_mode", 0):
        raise Refuse("BatchNormalization in training mode")
    data = flow.axes(node, 0)
    for index in range(1, len(node.inputs)):
        flow.channels.join(data[1], flow.axes(node, index)[0])
    return [data, *[None] * (len(node.outputs) - 1)]


def pool(flow: Flow, node: ir.Node) -> Outputs:
    """Each channel by itself, over space."""
    data = flow.axes(node, 0)
    sizes = flow.sizes(node.outputs[0]) or (None,) * len(data)
    out = [*data[:2], *(Axis(size if isinstance(size, int) else None) for size in sizes[2:])]
    return [out] * len(node.outputs)


def normalised_together(flow: Flow, node: ir.Node) -> Outputs:
    """Statistics run over channels, so that each of them matters to all: they stay."""
    data, why = flow.axes(node, 0), f"{node.op_type} '{node.name}' normalises its channels together"
    if node.op_type in ("LRN", "GroupNormalization"):
        held = range(1, 2)
    elif node.op_type == "LpNormalization":
        held = range(
            node.attributes.get_int("axis", -1) % len(data), node.attributes.get_int("axis", -1) % len(data) + 1
        )
    else:
        held = range(node.attributes.get_int("axis", -1) % len(data), len(data))
    still = flow.hold([data[axis] for axis in held], why)
    out = [*data[: held.start], *still, *data[held.stop :]]
    for index in range(1, len(node.inputs)):
        if flow.has(node, index):
            flow.hold(flow.axes(node, index), why)
    return [out, *[None] * (len(node.outputs) - 1)]


def along_axis(flow: Flow, node: ir.Node) -> Outputs:
    """Softmax and the like: the axis that is summed or searched stays; others pass."""
    data = flow.axes(node, 0)
    axis = ALONG_AXIS[node.op_type]
    if node.op_type == "CumSum":
        given = flow.array(node, 1)
        if given is None:
            raise Refuse("the axis is computed by the graph")
        axis = int(given.reshape(-1)[0])
    else:
        version = node.graph.opset_imports.get("", 13) if isinstance(node.graph, ir.Graph) else 13
        flattening = node.op_type in ("Softmax", "LogSoftmax", "Hardmax") and version < 13
        axis = node.attributes.get_int("axis", 1 if flattening else axis)
        if flattening:
            start = axis % len(data)
            return [[*data[:start], *flow.hold(data[start:], f"it goes into {node.op_type} '{node.name}'")]]
    place = axis % len(data)
    out = [
        *data[:place],
        *flow.hold(data[place : place + 1], f"it goes into {node.op_type} '{node.name}'"),
        *data[place + 1 :],
    ]
    if node.op_type in ("ArgMax", "ArgMin"):
        keep = node.attributes.get_int("keepdims", 1)
        out = [*out[:place], *([Axis(1)] if keep else []), *out[place + 1 :]]
    if node.op_type == "TopK":
        out = [*out[:place], Axis(None), *out[place + 1 :]]
    return [out] * len(node.outputs)


def reduction(flow: Flow, node: ir.Node) -> Outputs:
    """Axes that are reduced over stay; the others pass."""
    data = flow.axes(node, 0)
    given = flow.array(node, 1) if flow.has(node, 1) else None
    if flow.has(node, 1) and given is None:
        raise Refuse("the axes are computed by the graph")
    axes = node.attributes.get_ints("axes", []) if given is None else given.reshape(-1).tolist()
    if not axes and not node.attributes.get_int("noop_with_empty_axes", 0):
        axes = range(len(data))
    reduced = {axis % len(data) for axis in axes}
    flow.hold([data[axis] for axis in sorted(reduced)], f"{node.op_type} '{node.name}' takes it together with others")
    keep = node.attributes.get_int("keepdims", 1)
    return [[Axis(1) if i in reduced else axis for i, axis in enumerate(data) if keep or i not in reduced]]


def quantize(flow: Flow, node: ir.Node) -> Outputs:
    """QuantizeLinear and DequantizeLinear: a scale and a zero point for the tensor, or for each position of an axis."""
    if node.attributes.get_int("block_size", 0):
        raise Refuse("it is quantized by block")
    data = flow.axes(node, 0)
    for index in range(1, len(node.inputs)):
        if flow.has(node, index):
            parameters = flow.axes(node, index)
            if len(parameters) == 1 and parameters[0].size != 1:
                flow.channels.join(data[node.attributes.get_int("axis", 1) % len(data)], parameters[0])
    return [data]
