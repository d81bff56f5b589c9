"""What is known of the integers that flow through shape arithmetic, and products of dimensions that have names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import constant
from modelopt_cli.graph.shapes import Element, Elements, dimensions, rank, static_shape

TIMES = " * "  # between the factors of a dimension that is a product; not as others write it, so names stay apart


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
