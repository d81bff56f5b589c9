"""Shapes: inference that is never fatal, and small questions about what it found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx
import onnx_ir as ir

from modelopt_cli.graph.edit import all_graphs

SMALL_TENSOR_BYTES = 1024  # shape arithmetic; larger initializers need not be serialized to infer shapes

MADE_UP_PREFIX = "unk__"  # what onnx's inference calls dimensions that it knows nothing of

Element = int | str | None  # a number, the name of a symbolic dimension (or of a product of some), or unknown
Elements = tuple[Element, ...]


def infer_shapes(model: ir.Model) -> bool:
    """Add inferred types and shapes to the values of ``model``; what is declared more precisely stays.

    Inputs and outputs keep what they declare. A model that onnx cannot infer is left as it is: shapes are a help, not
    a need. Large weights are not serialized.

    Returns:
        Whether dimensions were named from which onnx may infer more when it is asked again.
    """
    from modelopt_cli.graph.symbols import follow_symbols  # it asks this module for its arithmetic

    try:
        inferred = onnx.shape_inference.infer_shapes(_light_proto(model), data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return False
    _take(model.graph, inferred.graph, _declared_names(model.graph))
    named = [follow_symbols(graph, _refine_dims) for graph in all_graphs(model)]
    return any(named)


def knows_all_shapes(model: ir.Model) -> bool:
    """Whether every value that a node computes has a type and a shape without unknown dimensions."""
    return all(
        value.type is not None and (dims := dimensions(value)) is not None and None not in dims
        for graph in all_graphs(model)
        for node in graph
        for value in node.outputs
        if value.name
    )


def _light_proto(model: ir.Model) -> onnx.ModelProto:
    """As `without_weights`, serialized, and without a clone: the weights are taken out for a moment."""
    graph = model.graph
    weights = dict(graph.initializers)
    large = [name for name, value in weights.items() if _is_large(value)]
    try:
        for name in large:
            del graph.initializers[name]
        proto = ir.to_proto(model)
    finally:
        graph.initializers.clear()
        graph.initializers.update(weights)  # all of them, so that their order stays
    inputs = {info.name for info in proto.graph.input}
    for name in large:
        tensor = weights[name].const_value
        if tensor is not None and name not in inputs:
            info = onnx.helper.make_tensor_value_info(name, int(tensor.dtype), tensor.shape.numpy())
            proto.graph.input.append(info)
    return proto


def _is_large(value: ir.Value) -> bool:
    return value.const_value is not None and value.const_value.nbytes > SMALL_TENSOR_BYTES


def _declared_names(graph: ir.Graph) -> frozenset[str]:
    """Names of dimensions that look made up and are the model's own: tf2onnx declares its inputs by them."""
    declared = (dimensions(value) for value in graph.inputs)
    return frozenset(dim for dims in declared if dims is not None for dim in dims if isinstance(dim, str))


def _take(graph: ir.Graph, inferred: onnx.GraphProto, declared: frozenset[str]) -> None:
    """Read what was inferred, of those values only that it can say something of, in a graph and its subgraphs."""
    known = {info.name: info for info in inferred.value_info}
    for node, proto in zip(graph, inferred.node, strict=True):
        for value in node.outputs:
            info = known.get(value.name or "")
            if info is not None and not value.is_graph_output() and (value.type is None or static_shape(value) is None):
                _read(value, info, declared)
        for attribute in proto.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _take(node.attributes[attribute.name].as_graph(), attribute.g, declared)


def _read(value: ir.Value, info: onnx.ValueInfoProto, declared: frozenset[str]) -> None:
    """What onnx says of a value more than is known; its type is read only where there is none."""
    if not info.type.HasField("tensor_type"):
        answer = ir.serde.deserialize_value_info_proto(info, None)
        if value.type is None and answer.type is not None:
            value.type = answer.type
        dims = dimensions(answer)
    else:
        tensor = info.type.tensor_type
        if value.type is None and tensor.elem_type:
            value.type = ir.TensorType(ir.DataType(tensor.elem_type))
        listed = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim]
        dims = tuple(listed) if tensor.HasField("shape") else None
    if dims is not None:
        _refine_dims(value, [None if _is_made_up(dim) and dim not in declared else dim for dim in dims])


def _is_made_up(dim: Element) -> bool:
    """Whether inference made up the name: it would keep a real one from taking its place."""
    return isinstance(dim, str) and dim.startswith(MADE_UP_PREFIX)


def without_weights(model: ir.Model) -> ir.Model:
    """A clone in which weights above `SMALL_TENSOR_BYTES` are inputs without data: cheap to hand to onnx's C++ side."""
    light = model.clone()
    for value in list(light.graph.initializers.values()):
        tensor = value.const_value
        if tensor is not None and _is_large(value):
            del light.graph.initializers[value.name or ""]
            value.shape, value.type = ir.Shape(tensor.shape.numpy()), ir.TensorType(tensor.dtype)
            if not value.is_graph_input():
                light.graph.inputs.append(value)
    return light


def rank(value: ir.Value | None) -> int | None:
    """Number of dimensions, or None when it is not known."""
    return None if value is None or value.shape is None else len(value.shape)


def dimensions(value: ir.Value | None) -> Elements | None:
    """The shape as numbers, symbol names and None for unknown; None when not even the rank is known."""
    if value is None or value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else d.value for d in value.shape)


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape when every dimension is a number."""
    known = dimensions(value)
    if known is None or not all(isinstance(d, int) for d in known):
        return None
    return tuple(int(d) for d in known if d is not None)


def broadcast(shapes: Iterable[Elements | None]) -> Elements | None:
    """The shape that tensors of these shapes have together; None when one is not known at all."""
    result: Elements = ()
    for shape in shapes:
        if shape is None:
            return None
        size = max(len(shape), len(result))
        pairs = zip(_padded(result, size), _padded(shape, size), strict=True)
        result = tuple(_wider(a, b) for a, b in pairs)
    return result


def _padded(shape: Elements, size: int) -> Elements:
    return (1,) * (size - len(shape)) + shape


def _wider(a: Element, b: Element) -> Element:
    """The dimension of two that are broadcast; unknown where one is, for the known one may be repeated."""
    if a == 1:
        return b
    if b == 1 or a == b:
        return a
    numbers = [size for size in (a, b) if isinstance(size, int)]
    return numbers[0] if numbers else None  # a number above 1 stands, whatever the other is


def _refine_dims(value: ir.Value, dims: Sequence[Element]) -> bool:
    """Give the value what ``dims`` say more than its shape; whether that is anything."""
    before = dimensions(value)
    known = before if before is not None and len(before) == len(dims) else (None,) * len(dims)
    finer = tuple(_finer(old, new) for old, new in zip(known, dims, strict=True))
    if finer == before:
        return False
    value.shape = ir.Shape(finer)
    return True


def _finer(old: Element, new: Element) -> Element:
    """The dimension that says more."""
    return old if isinstance(old, int) or new is None or (old and not isinstance(new, int)) else new
