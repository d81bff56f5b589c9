"""Shapes: inference that is never fatal, and what is known of the integers that flow through shape arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from modelopt_cli.graph.edit import all_graphs, constant

SMALL_TENSOR_BYTES = 1024  # shape arithmetic; larger initializers need not be serialized to infer shapes

MADE_UP_PREFIX = "unk__"  # what onnx's inference calls dimensions that it knows nothing of

TIMES = " * "  # between the factors of a dimension that is a product; not as others write it, so names stay apart

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


def product(elements: Iterable[Element]) -> Element:
    """A number, or a name like ``2 * batch`` made of the factors' names; unknown where one of them is."""
    number, names = 1, []
    for element in elements:
        if element is None or (isinstance(element, str) and element.isdigit()):
            return None  # a name that looks like a number could not be told from one
        factor, inside = _factors(element)
        number *= factor
        names += inside
    return _named(number, names)


def quotient(whole: Element, part: Element) -> Element:
    """What times ``part`` makes ``whole``, where names and numbers say that; else unknown."""
    if whole is None or part is None:
        return None
    (number, names), (divisor, others) = _factors(whole), _factors(part)
    for name in others:
        if name not in names:
            return None
        names.remove(name)
    return _named(number // divisor, names) if divisor > 0 and number % divisor == 0 else None


def _factors(element: int | str) -> tuple[int, list[str]]:
    if isinstance(element, int):
        return element, []
    parts = element.split(TIMES)
    if len(parts) == 1:
        return 1, parts  # a name of the model's own, whatever it looks like
    return math.prod(int(part) for part in parts if part.isdigit()), [part for part in parts if not part.isdigit()]


def _named(number: int, names: Sequence[str]) -> Element:
    if not names or number == 0:
        return number
    if number < 0:
        return None  # -1 stands for what has to be found out, and is no size
    return TIMES.join([*([str(number)] if number != 1 else []), *sorted(names)])


class ShapeArithmetic:
    """Elements of integer tensors of rank 0 or 1, followed back through Shape, Gather, Concat and the like.

    One object serves one state of the graph: answers are kept.
    """

    def __init__(self) -> None:
        self._known: dict[ir.Value, Elements | None] = {}

    def elements(self, value: ir.Value | None) -> Elements | None:
        """What is known of each element, or None when not even their number is."""
        if value is None:
            return None
        if value not in self._known:
            self._known[value] = None  # a cycle cannot be: this only guards the recursion
            self._known[value] = self._find(value)
        return self._known[value]

    def numbers(self, value: ir.Value | None) -> tuple[int, ...] | None:
        """The elements when all of them are numbers."""
        found = self.elements(value)
        if found is None or not all(isinstance(e, int) for e in found):
            return None
        return tuple(e for e in found if isinstance(e, int))

    def _find(self, value: ir.Value) -> Elements | None:
        array = constant(value)
        if array is not None:
            if array.dtype.kind not in "iub" or array.ndim > 1 or array.size > 64:
                return None
            return tuple(int(e) for e in array.reshape(-1))
        node = value.producer()
        if node is None or node.domain not in ("", "ai.onnx"):
            return None
        follow = _FOLLOW.get(node.op_type)
        return None if follow is None else follow(self, node)


def _shape(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    dims = dimensions(node.inputs[0])
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", 2**31)
    return None if dims is None else dims[start:end]


def _size(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    shape = static_shape(node.inputs[0])
    return None if shape is None else (math.prod(shape),)


def _same(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    return known.elements(node.inputs[0])


def _cast(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    to = ir.DataType(node.attributes.get_int("to", 0))
    return known.elements(node.inputs[0]) if to in (ir.DataType.INT64, ir.DataType.INT32) else None


def _resized(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    # Squeeze, Unsqueeze and Reshape between rank 0 and rank 1 keep the elements; anything above rank 1 is not followed.
    result = rank(node.outputs[0])
    return known.elements(node.inputs[0]) if result is not None and result <= 1 else None


def _gather(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    data, indices = known.elements(node.inputs[0]), known.numbers(node.inputs[1])
    if data is None or indices is None or any(not -len(data) <= i < len(data) for i in indices):
        return None
    return tuple(data[i] for i in indices)


def _concat(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    parts = [known.elements(value) for value in node.inputs]
    return None if any(p is None for p in parts) else tuple(e for p in parts if p is not None for e in p)


def _slice(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    data = known.elements(node.inputs[0])
    bounds = [known.numbers(value) for value in node.inputs[1:]]
    if data is None or len(bounds) < 2 or any(b is None or len(b) != 1 for b in bounds):
        return None
    start, end = (b[0] for b in bounds[:2] if b is not None)
    step = bounds[3][0] if len(bounds) > 3 and bounds[3] is not None else 1
    if step < 1:
        return None
    return data[slice(start, end, step)]


def _multiplied(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    found = _aligned([known.elements(value) for value in node.inputs])
    return None if found is None else tuple(product(row) for row in found)


def _extreme(choose: Callable[[list[int]], int]) -> Callable[[ShapeArithmetic, ir.Node], Elements | None]:
    def of(row: Elements) -> Element:
        numbers = [element for element in row if isinstance(element, int)]
        return choose(numbers) if len(numbers) == len(row) else row[0] if len(set(row)) == 1 else None

    def follow(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
        found = _aligned([known.elements(value) for value in node.inputs])
        return None if found is None else tuple(of(row) for row in found)

    return follow


def _aligned(parts: Sequence[Elements | None]) -> list[Elements] | None:
    """The elements that meet each other, by position; None where the lengths do not fit or are not known."""
    found = [part for part in parts if part is not None]
    if len(found) != len(parts) or not found:
        return None
    size = max(len(part) for part in found) if all(found) else 0
    if any(len(part) not in (1, size) for part in found):
        return None
    return list(zip(*(_spread(part, size) for part in found), strict=True))


def _product_of_all(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    """ReduceProd of a vector, which has one axis to go."""
    whole = known.elements(node.inputs[0])
    axes = node.inputs[1] if len(node.inputs) > 1 else None
    if whole is None or rank(node.inputs[0]) != 1 or (axes is not None and known.numbers(axes) not in ((0,), (-1,))):
        return None
    if axes is None and node.attributes.get_int("noop_with_empty_axes", 0) != 0:
        return None
    return (product(whole),)


def _arithmetic(compute: Callable[[int, int], int]) -> Callable[[ShapeArithmetic, ir.Node], Elements | None]:
    def follow(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
        a, b = known.elements(node.inputs[0]), known.elements(node.inputs[1])
        if a is None or b is None or (len(a) != len(b) and 1 not in (len(a), len(b))):
            return None
        size = max(len(a), len(b)) if a and b else 0
        pairs = zip(_spread(a, size), _spread(b, size), strict=True)
        return tuple(compute(x, y) if isinstance(x, int) and isinstance(y, int) else None for x, y in pairs)

    return follow


def _spread(elements: Elements, size: int) -> Elements:
    return elements * size if len(elements) == 1 else elements


def _equal(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    """1 and 0 for true and false; a dimension is never negative, whatever its name stands for."""
    a, b = known.elements(node.inputs[0]), known.elements(node.inputs[1])
    if a is None or b is None or (len(a) != len(b) and 1 not in (len(a), len(b))):
        return None
    size = max(len(a), len(b)) if a and b else 0
    return tuple(_is_equal(x, y) for x, y in zip(_spread(a, size), _spread(b, size), strict=True))


def _is_equal(a: Element, b: Element) -> int | None:
    if isinstance(a, int) and isinstance(b, int):
        return int(a == b)
    number = a if isinstance(a, int) else b
    named = isinstance(a, str) or isinstance(b, str)
    return 0 if named and isinstance(number, int) and number < 0 else None


def _where(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    found = _aligned([known.elements(value) for value in node.inputs])
    if found is None:
        return None
    return tuple((yes if chosen else no) if isinstance(chosen, int) else None for chosen, yes, no in found)


def _divide(a: int, b: int) -> int:
    return int(np.trunc(a / b)) if b else 0  # ONNX integer division truncates


_FOLLOW: dict[str, Callable[[ShapeArithmetic, ir.Node], Elements | None]] = {
    "Shape": _shape,
    "Size": _size,
    "Identity": _same,
    "Cast": _cast,
    "Squeeze": _resized,
    "Unsqueeze": _resized,
    "Reshape": _resized,
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    "Add": _arithmetic(lambda a, b: a + b),
    "Sub": _arithmetic(lambda a, b: a - b),
    "Mul": _multiplied,
    "Max": _extreme(max),
    "Min": _extreme(min),
    "ReduceProd": _product_of_all,
    "Div": _arithmetic(_divide),
    "Equal": _equal,
    "Where": _where,
}


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
