"""Raise a model to a newer opset in place, keeping names, weights and dynamic dimensions.

Operators whose definition only grew stay as they are; those that changed are adapted here; what is left goes to
onnx's own version converter (https://onnx.ai/onnx/api/version_converter.html), without the weights, which it would
copy several times and refuses above 2 GB.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from modelopt_cli.errors import ModelError
from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import rank, without_weights

STANDARD = ("", "ai.onnx")


def raise_opset(model: ir.Model, minimum: int) -> int:
    """Edit ``model`` so that it declares at least opset ``minimum``.

    Returns:
        The opset it has now: its own when that is not older.

    Raises:
        ModelError: An operator's meaning changed in a way that cannot be expressed in the newer opset.
    """
    domain = "ai.onnx" if "ai.onnx" in model.opset_imports else ""
    current = model.opset_imports.get(domain, 1)
    if current >= minimum:
        return current
    edit.forget_names(model)
    if model.functions:
        common.InlinePass()(model)
    blocked = [reason for node in edit.all_nodes(model) if (reason := _blocked(node, current, minimum)) is not None]
    if blocked:
        _convert(model, domain, minimum, blocked[0])
    else:
        _adapt(model, current, minimum)
    model.opset_imports[domain] = minimum
    needed = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", minimum)])
    model.ir_version = max(model.ir_version, needed)
    edit.forget_names(model)
    return minimum


def _adapt(model: ir.Model, current: int, minimum: int) -> None:
    for version in sorted({version for _, version in _ADAPTERS if current < version <= minimum}):
        for node in list(edit.all_nodes(model)):
            adapter = _ADAPTERS.get((node.op_type, version)) if node.domain in STANDARD else None
            if adapter is not None:
                adapter(node)


def _blocked(node: ir.Node, current: int, minimum: int) -> str | None:
    """Why this node cannot be kept or adapted, or None."""
    if node.domain not in STANDARD:
        return None
    op = node.op_type
    for version in range(current + 1, minimum + 1):
        schema, previous = _schema(op, version), _schema(op, version - 1)
        if previous is None:
            return f"operator '{op}' is not in opset {version - 1}"
        if schema is not None and schema.since_version != version and not schema.deprecated:
            continue
        if (op, version) in _ADAPTERS:
            if not _can_adapt(node, version):
                return f"{op} '{node.name}' needs a computed value that opset {version} wants as something else"
            op = _RENAMED.get((op, version), op)
            continue
        if schema is None or schema.deprecated:
            return f"opset {version} has no operator '{op}'"
        if (op, version) in _CHANGED_MEANING or not _only_grew(previous, schema):
            return f"opset {version} changed operator '{op}'"
    return None


@functools.cache
def _schema(op: str, version: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op, version, "")
    except onnx.defs.SchemaError:
        return None


def _only_grew(old: onnx.defs.OpSchema, new: onnx.defs.OpSchema) -> bool:
    """Same attributes with the same defaults, same inputs in the same order; what was added is optional."""
    for name, attribute in old.attributes.items():
        other = new.attributes.get(name)
        if other is None or other.type != attribute.type or other.default_value != attribute.default_value:
            return False
    added = [attribute for name, attribute in new.attributes.items() if name not in old.attributes]
    if any(attribute.required for attribute in added):
        return False
    pairs = zip(old.inputs, new.inputs, strict=False)
    return len(new.inputs) >= len(old.inputs) and all(a.option == b.option or _is_optional(b) for a, b in pairs)


def _is_optional(parameter: onnx.defs.OpSchema.FormalParameter) -> bool:
    return bool(parameter.option == onnx.defs.OpSchema.FormalParameterOption.Optional)


def _can_adapt(node: ir.Node, version: int) -> bool:
    if node.op_type == "Upsample" and len(node.inputs) < 2:
        return False
    return not (node.op_type == "Scan" and version == 9)


def _attribute_to_input(name: str, index: int, dtype: type[np.generic] | None = None) -> Callable[[ir.Node], None]:
    """An adapter that moves an attribute to an input; without ``dtype`` the input has the type of input 0."""

    def adapt(node: ir.Node) -> None:
        attribute = node.attributes.pop(name, None)
        if attribute is None or node.graph is None:
            return
        kind = dtype if dtype is not None else _dtype_of(node)
        array = np.array(attribute.value, dtype=kind)
        weight = edit.add_weight(_graph(node), f"{node.outputs[0].name}_{name}", array)
        if len(node.inputs) <= index:
            node.resize_inputs(index + 1)
        node.replace_input_with(index, weight)

    return adapt


def _top_k(node: ir.Node) -> None:
    node.attributes["k"] = ir.AttrInt64s("k", [node.attributes.get_int("k", 1)])  # a number became a list of one
    _attribute_to_input("k", 1, np.int64)(node)


def _clip(node: ir.Node) -> None:
    _attribute_to_input("min", 1)(node)
    _attribute_to_input("max", 2)(node)


def _pad(node: ir.Node) -> None:
    _attribute_to_input("pads", 1, np.int64)(node)
    _attribute_to_input("value", 2)(node)


def _slice(node: ir.Node) -> None:
    _attribute_to_input("starts", 1, np.int64)(node)
    _attribute_to_input("ends", 2, np.int64)(node)
    _attribute_to_input("axes", 3, np.int64)(node)


def _dropout(node: ir.Node) -> None:
    _attribute_to_input("ratio", 1, np.float32)(node)


def _split_outputs(node: ir.Node) -> None:
    if len(node.inputs) < 2:
        node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))


def _softmax(node: ir.Node) -> None:
    """Before 13 the trailing dimensions were flattened into one: softmax over ``axis`` and all that follow."""
    source, out = node.inputs[0], node.outputs[0]
    assert source is not None
    axis, dims = node.attributes.get_int("axis", 1), rank(source)
    if axis == -1 or (dims is not None and axis in (dims - 1, -1)):
        node.attributes["axis"] = ir.AttrInt64("axis", -1)
        return
    graph, stem = _graph(node), node.name or out.name or node.op_type
    shape = edit.add_node(graph, node, "Shape", [source], stem=f"{stem}_Shape", dtype=ir.DataType.INT64)
    flat = edit.add_node(graph, node, "Flatten", [source], stem=f"{stem}_Flatten", attributes={"axis": axis})
    flat.type = source.type
    soft = edit.add_node(graph, node, node.op_type, [flat], stem=f"{stem}_rows", attributes={"axis": -1})
    soft.type = source.type
    back = edit.add_node(graph, node, "Reshape", [soft, shape], stem=f"{stem}_Reshape", shape=out.shape)
    back.type = out.type
    edit.replace_output(out, back)
    graph.remove(node, safe=True)


def _resize(node: ir.Node) -> None:
    """Opset 10 knew scales only, and its coordinates are what 11 calls asymmetric."""
    scales = node.inputs[1]
    node.resize_inputs(3)
    node.replace_input_with(1, edit.add_weight(_graph(node), f"{node.outputs[0].name}_roi", np.zeros(0, np.float32)))
    node.replace_input_with(2, scales)
    node.attributes["coordinate_transformation_mode"] = ir.AttrString("coordinate_transformation_mode", "asymmetric")
    if node.attributes.get_string("mode", "nearest") == "nearest":
        node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", "floor")


def _upsample(node: ir.Node) -> None:
    node.op_type = "Resize"


def _keep(node: ir.Node) -> None:
    """The definition's text changed; what a model of inference means by it did not."""


def _dtype_of(node: ir.Node) -> np.dtype:
    source = node.inputs[0]
    dtype = source.dtype if source is not None and source.dtype is not None else ir.DataType.FLOAT
    return np.dtype(dtype.numpy())


def _graph(node: ir.Node) -> ir.Graph:
    assert isinstance(node.graph, ir.Graph)
    return node.graph


_axes_1 = _attribute_to_input("axes", 1, np.int64)
_ADAPTERS: dict[tuple[str, int], Callable[[ir.Node], None]] = {
    ("BatchNormalization", 9): _keep,
    ("BatchNormalization", 14): _keep,
    ("Clip", 11): _clip,
    ("Dropout", 12): _dropout,
    ("Hardmax", 13): _softmax,
    ("LogSoftmax", 13): _softmax,
    ("Pad", 11): _pad,
    ("ReduceSum", 13): _axes_1,
    ("Resize", 11): _resize,
    ("Slice", 10): _slice,
    ("Softmax", 13): _softmax,
    ("Split", 13): _attribute_to_input("split", 1, np.int64),
    ("Split", 18): _split_outputs,
    ("Squeeze", 13): _axes_1,
    ("TopK", 10): _top_k,
    ("Unsqueeze", 13): _axes_1,
    ("Upsample", 10): _upsample,
} | {
    (op, 18): _axes_1
    for op in (
        *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
        *("ReduceProd", "ReduceSumSquare"),
    )
}
_RENAMED = {("Upsample", 10): "Resize"}
# The schema looks the same and the numbers differ.
_CHANGED_MEANING = frozenset({("RoiAlign", 16), ("GroupNormalization", 21), ("GridSample", 20), ("Scan", 9)})


def _convert(model: ir.Model, domain: str, minimum: int, reason: str) -> None:
    """Let onnx convert the graph without its weights, and put them back by name."""
    light = without_weights(model)
    refusal = ModelError(
        f"cannot be raised from opset {model.opset_imports[domain]} to {minimum}: {reason}",
        hint="export the model again with a newer opset",
    )
    try:
        converted = ir.from_proto(onnx.version_converter.convert_version(ir.to_proto(light), minimum))
    except Exception as error:  # the converter raises whatever its C++ assertions do
        raise refusal from error
    graph = converted.graph
    inputs = {value.name for value in model.graph.inputs}
    if not _keeps_shapes(model.graph, graph):  # of Scan of opset 8, which had a batch, it makes another operator
        raise refusal
    for value in [value for value in graph.inputs if value.name not in inputs]:
        graph.inputs.remove(value)
    for name, weight in model.graph.initializers.items():
        known = next((v for v in (*graph.inputs, *_read(graph)) if v.name == name), None)
        if known is not None and name not in graph.initializers:
            known.const_value = weight.const_value
            graph.register_initializer(known)
    model.graph = graph


def _keeps_shapes(old: ir.Graph, new: ir.Graph) -> bool:
    """Whether the inputs and outputs of a graph are those of another, but for weights that became inputs."""
    known = {value.name: value.shape for value in (*new.inputs, *new.outputs)}
    return all(value.name in known and known[value.name] == value.shape for value in (*old.inputs, *old.outputs))


def _read(graph: ir.Graph) -> list[ir.Value]:
    return [value for node in graph.all_nodes() for value in node.inputs if value is not None]
