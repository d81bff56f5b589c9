"""LSTM with int8 weights: the runtime quantizes its input and hidden state at each step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import add_weight, constant, fresh_name, replace_output
from modelopt_cli.passes.base import Skip
from modelopt_cli.passes.quantize.dynamic_matmul import MICROSOFT, Edits
from modelopt_cli.passes.quantize.weights import quantize_weight
from modelopt_cli.targets.schemes import scheme_for
from modelopt_cli.targets.target import Target

NAMED = {"activations", "activation_alpha", "activation_beta", "clip", "direction", "hidden_size", "input_forget"}


def quantize_lstm(model: ir.Model, nodes: Sequence[ir.Node], target: Target, *, per_channel: bool = True) -> Edits:
    """Turn LSTM nodes into onnxruntime's DynamicQuantizeLSTM.

        LSTM(x, W [d, 4h, in], R [d, 4h, h], ...)   before
        DynamicQuantizeLSTM(x, W int8 [d, in, 4h], R int8 [d, h, 4h], ..., scales and zero points)   after

    There is no standard operator for it: with dialect ``onnx`` every LSTM is a skip.
    """
    edits = Edits()
    for node in nodes:
        reason = _refusal(node, target)
        if reason is not None:
            edits.skipped.append(Skip(node.name or "LSTM", reason))
            continue
        _rewrite(model, node, per_channel, scheme_for(target).reduce_range)
        edits.changed.append(node.name or "LSTM")
    return edits


def _refusal(node: ir.Node, target: Target) -> str | None:
    if target.dialect != "onnxruntime":
        return "only onnxruntime's own dialect has an integer LSTM"
    layout = node.attributes.get("layout")
    if layout is not None and layout.as_int() != 0:
        return "its layout puts the batch first, which the integer LSTM does not know"
    for value in node.inputs[1:3]:
        array = constant(value)
        if array is None:
            return "its weights are computed at run time"
        if array.dtype != np.float32:
            return f"its weights are {array.dtype}, not float32"
    return None


def _rewrite(model: ir.Model, node: ir.Node, per_channel: bool, reduce_range: bool) -> None:
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    model.graph.opset_imports.setdefault(MICROSOFT, 1)
    old = list(node.inputs[1:3])
    packed = [_pack(model, value, per_channel, reduce_range) for value in old]
    inputs = [*node.inputs, *[None] * (8 - len(node.inputs))]
    inputs[1], inputs[2] = packed[0][0], packed[1][0]
    inputs += [packed[0][1], packed[0][2], packed[1][1], packed[1][2]]
    attributes = [attribute for name, attribute in node.attributes.items() if name in NAMED]
    new = ir.Node(
        MICROSOFT,
        "DynamicQuantizeLSTM",
        inputs,
        attributes,
        num_outputs=len(node.outputs),
        name=fresh_name(model.graph, f"{node.name or 'LSTM'}_int8"),
    )
    graph.insert_before(node, new)
    for before, after in zip(node.outputs, new.outputs, strict=True):
        after.name = fresh_name(model.graph, f"{before.name}_int8") if before.name else ""
        after.type, after.shape = before.type, before.shape
        replace_output(before, after)
    graph.remove(node, safe=True)
    for value in old:
        if value is not None and value.is_initializer() and not value.uses() and isinstance(value.graph, ir.Graph):
            value.graph.initializers.pop(value.name or "", None)


def _pack(
    model: ir.Model, value: ir.Value | None, per_channel: bool, reduce_range: bool
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Values, scale and zero point: the runtime wants each direction as [inputs, 4 * hidden]."""
    array = constant(value)
    assert array is not None and value is not None
    axis = 0 if per_channel else None
    parts = [quantize_weight(part, axis=axis, reduce_range=reduce_range) for part in array]
    values = np.stack([part.values.T for part in parts])
    scale = np.stack([part.scale for part in parts])
    return (
        add_weight(model.graph, f"{value.name}_int8", values),
        add_weight(model.graph, f"{value.name}_scale", scale),
        add_weight(model.graph, f"{value.name}_zero", np.zeros(scale.shape, np.int8)),
    )
