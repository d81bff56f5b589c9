"""What a factor and a summand may pass, and the edits that let weights and constants take them over.

A move is planned over all paths before anything is edited: either every path can take the constant, or it stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.arithmetic import ShapeArithmetic
from modelopt_cli.passes.fuse.affine import as_float, rounded
from modelopt_cli.passes.fuse.axes import ONE, ZERO, Refusal, Vector, after
from modelopt_cli.passes.fuse.engine import Editor
from modelopt_cli.passes.fuse.linear import Linear, fits, read_linear, refusal, write
from modelopt_cli.passes.fuse.pattern import STANDARD

MAX_STEPS = 64  # nodes visited by one plan

# f(s x) = s f(x) for s > 0, elementwise or per channel
HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "PRelu", "MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin"})
# f(s x) = s f(x) for every s that is constant over what f joins
LINEAR_POOLS = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "Resize", "Pad"})
# f only moves, drops or repeats elements
MOVES = frozenset(
    {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Expand", "Tile", "Slice", "Split"}
) | {"Gather", "DepthToSpace", "SpaceToDepth"}
# f(x + o) = f(x) + o beside `MOVES`, where `passes_offset` finds no zeros mixed in
SHIFTED = (HOMOGENEOUS - {"Relu", "LeakyRelu", "PRelu"}) | (LINEAR_POOLS - {"ReduceSum"})


@dataclass(frozen=True)
class Change:
    """What a value is multiplied with, and what is then added to it."""

    scale: Vector = ONE
    offset: Vector = ZERO

    @property
    def is_neutral(self) -> bool:
        """Whether nothing changes."""
        return self.is_offset and self.offset.is_all(0.0)

    @property
    def is_offset(self) -> bool:
        """Whether it is a sum alone."""
        return self.scale.is_all(1.0)

    def after(self, node: ir.Node, out: ir.Value, known: ShapeArithmetic) -> Change:
        """The change of ``out`` that one of the node's input 0 is; as `axes.after`."""
        return Change(after(node, self.scale, out, known), after(node, self.offset, out, known))

    def each(self, move: Callable[[Vector, float], Vector]) -> Change:
        """The change with both parts moved; ``move`` is told which number leaves an element as it is."""
        return Change(move(self.scale, 1.0), move(self.offset, 0.0))


@dataclass
class Plan:
    """The edits of a move, made together or not at all.

    Attributes:
        graph: What is edited.
        edits: In order.
        steps: Nodes visited so far.
        changed: The nodes whose weights or constants the edits replace.
    """

    graph: Editor
    edits: list[Callable[[], None]] = field(default_factory=list)
    steps: int = 0
    changed: set[ir.Node] = field(default_factory=set)

    def commit(self) -> None:
        """Make the edits."""
        for make in self.edits:
            make()

    def visit(self, node: ir.Node) -> str:
        """Count a node that the change reaches; its operator, "" when it is not a standard one.

        Raises:
            Refusal: It must stay as it is.
        """
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise Refusal("too many nodes are between it and the weights")
        if self.graph.is_protected(node):
            raise Refusal(f"{node.op_type} is part of a pattern that the runtime recognises")
        if node.graph is not self.graph.graph:
            raise Refusal("a branch of the graph reads it")
        return node.op_type if node.domain in STANDARD else ""

    def linear(self, node: ir.Node, change: Change) -> Linear:
        """The weights of a node, when the change may be written into them.

        Raises:
            Refusal: They are computed, or shared, or changed already.
        """
        linear = read_linear(node)
        if linear is None:
            raise Refusal(f"{node.op_type} has no constant weight")
        if not change.is_offset and (reason := refusal(linear)) is not None:
            raise Refusal(f"{node.op_type}: {reason}")
        self._mark(node)
        return linear

    def write(self, linear: Linear, weight: np.ndarray | None, bias: np.ndarray | None) -> None:
        """Plan new weights."""
        if not fits(linear, weight, bias):
            raise Refusal("the folded weight does not fit its type")
        self.edits.append(partial(write, linear, self.graph, weight, bias))

    def set_constant(self, node: ir.Node, index: int, array: np.ndarray) -> None:
        """Plan a new constant beside a value that is not changed in shape by it."""
        old, other = edit.constant(node.inputs[index]), node.inputs[1 - index]
        assert old is not None
        if (new := rounded(array, old.dtype)) is None:
            raise Refusal("the new constant does not fit its type")
        if new.size > 1 and new.shape != old.shape and (other is None or other.shape is None):
            raise Refusal("the shape of the other operand is not known")
        self._mark(node)
        value = node.inputs[index]
        name = value.name if value is not None and value.name else "constant"
        self.edits.append(lambda: self.graph.set_input(node, index, self.graph.weight(new, name)))

    def _mark(self, node: ir.Node) -> None:
        if node in self.changed:
            raise Refusal(f"{node.op_type} would be changed twice")
        self.changed.add(node)


def constant_operand(node: ir.Node) -> tuple[int, np.ndarray] | None:
    """Position and numbers of the float constant of an arithmetic node with one, or None."""
    for index in (1, 0):
        array = as_float(edit.constant(node.inputs[index]))
        if array is not None:
            return index, array
    return None


def check_passes(node: ir.Node, op: str, change: Change) -> None:
    """Whether the node, of one input and of `HOMOGENEOUS`, `LINEAR_POOLS` or `MOVES`, passes a change on.

    Raises:
        Refusal: It does not.
    """
    if op not in HOMOGENEOUS | LINEAR_POOLS | MOVES:
        raise Refusal(f"{node.op_type} does not pass a factor on")
    if op in HOMOGENEOUS and not np.all(change.scale.values > 0):
        raise Refusal(f"only a positive factor passes {op}")
    if op != "Split" and any(out.uses() or out.is_graph_output() for out in node.outputs[1:]):
        raise Refusal(f"{op} gives indices too")
    if op == "Resize" and _extrapolates(node):
        raise Refusal("Resize extrapolates with a number of its own")
    if op == "Pad" and not _fills_with_zero(node):
        raise Refusal("Pad fills with a number of its own")
    if not change.offset.is_all(0.0):
        if op not in SHIFTED | MOVES:
            raise Refusal(f"{op} does not pass a summand on")
        if _mixes_zeros(node, op):
            raise Refusal(f"{op} pads with zeros, which the offset would not reach")


def aligned(vector: Vector, value: ir.Value | None, other: ir.Value | None) -> Vector:
    """Numbers along an axis of ``value`` as numbers along one of ``other``, which broadcasting aligns at the end.

    Raises:
        Refusal: The ranks are not known, or there is no such axis.
    """
    if vector.is_scalar:
        return vector
    if value is None or other is None or value.shape is None or other.shape is None:
        raise Refusal("the ranks of a product are not known")
    axis = vector.axis + len(other.shape) - len(value.shape)
    if axis < 0 or other.shape[axis] != vector.values.size:
        raise Refusal("an operand is repeated along the axis along which the constant varies")
    return vector.on(axis, len(other.shape))


def _extrapolates(node: ir.Node) -> bool:
    return node.attributes.get_string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"


def _fills_with_zero(node: ir.Node) -> bool:
    if node.attributes.get_string("mode", "constant") != "constant":
        return True  # with elements of its input
    value = node.inputs[2] if len(node.inputs) > 2 else None
    return (node.attributes.get_float("value", 0.0) if value is None else edit.scalar(value)) == 0.0


def _mixes_zeros(node: ir.Node, op: str) -> bool:
    if op == "Pad":
        return node.attributes.get_string("mode", "constant") == "constant"
    padded = any(node.attributes.get_ints("pads", ())) or node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET"
    return op == "AveragePool" and padded and node.attributes.get_int("count_include_pad", 0) == 1
