"""Channels followed through a graph: each operator says how the channels of its inputs become those of its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.arithmetic import ShapeArithmetic
from modelopt_cli.graph.edit import add_weight, constant, replace_weight
from modelopt_cli.graph.shapes import Elements, dimensions, infer_shapes
from modelopt_cli.passes.prune.structured.channels import Axes, Axis, Channels

Use = tuple[ir.Node, int]


class Refuse(Exception):
    """A rule cannot tell how channels pass through a node; all that come in stay."""


@dataclass(frozen=True)
class Kept:
    """Which channels stay: one bool per channel."""

    channels: np.ndarray

    def mask(self, axis: Axis) -> np.ndarray:
        """Bool for each position of an axis; all True where it has no channels."""
        if axis.ids is None:
            return np.ones(axis.size or 0, bool)
        found: np.ndarray = self.channels[axis.ids]
        return found

    def count(self, axis: Axis) -> int:
        """Length of the axis afterwards."""
        return int(self.mask(axis).sum())

    def changes(self, axis: Axis) -> bool:
        """Whether some position goes."""
        return axis.ids is not None and not self.mask(axis).all()


Rewrite = Callable[[Kept], None]


@dataclass(frozen=True)
class Product:
    """A weighted sum over channels: what reads them linearly, and so what can absorb the loss of some.

    Attributes:
        node: Conv, ConvTranspose, Gemm, MatMul or a recurrent operator.
        weight: Input index of the weight.
        columns: The channels that are summed over, one axis of the weight.
        rows: The channels that come out.
    """

    node: ir.Node
    weight: int
    columns: Axis
    rows: Axis


@dataclass(eq=False)
class Flow:
    """The state of the walk through one graph; rules read inputs from it and tell it what they couple.

    Attributes:
        channels: All of them.
        values: Axes of every computed value whose rank is known, and of graph inputs.
        weights: Axes of constants, by value, or by value and reader for vectors, which are cheap to copy.
        products: Every weighted sum.
        rewrites: Edits besides weights that follow from a choice of channels.
        heads: Axes that count attention heads.
        units: Axes that count units of recurrent operators.
    """

    shapes: dict[str, Elements]
    channels: Channels = field(default_factory=Channels)
    values: dict[ir.Value, list[Axis]] = field(default_factory=dict)
    weights: dict[tuple[ir.Value, Use | None], list[Axis]] = field(default_factory=dict)
    products: list[Product] = field(default_factory=list)
    rewrites: list[Rewrite] = field(default_factory=list)
    heads: list[Axis] = field(default_factory=list)
    units: list[Axis] = field(default_factory=list)
    arithmetic: ShapeArithmetic = field(default_factory=ShapeArithmetic)

    def has(self, node: ir.Node, index: int) -> bool:
        """Whether the node has this input."""
        return index < len(node.inputs) and node.inputs[index] is not None

    def axes(self, node: ir.Node, index: int) -> list[Axis]:
        """Axes of an input; a constant gets channels of its own when it is first asked for.

        Raises:
            Refuse: The input is missing, or not even its rank is known.
        """
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None:
            raise Refuse("an input is missing")
        array = constant(value)
        if array is None:
            if value not in self.values:
                raise Refuse(f"the rank of '{value.name}' is not known")
            return self.values[value]
        key = (value, (node, index) if array.ndim <= 1 else None)
        if key not in self.weights:
            self.weights[key] = [self.channels.fresh(size) if size > 1 else Axis(size) for size in array.shape]
        return self.weights[key]

    def array(self, node: ir.Node, index: int) -> np.ndarray | None:
        """The constant behind an input, or None."""
        return constant(node.inputs[index]) if self.has(node, index) else None

    def sizes(self, value: ir.Value) -> Elements | None:
        """The inferred shape of a value."""
        return self.shapes.get(value.name or "")

    def still(self, value: ir.Value, why: str) -> list[Axis] | None:
        """Axes of a value that no channel reaches."""
        sizes = self.sizes(value)
        return None if sizes is None else [Axis(s if isinstance(s, int) else None, None, why) for s in sizes]

    def hold(self, axes: Axes, why: str) -> list[Axis]:
        """Keep all channels of some axes; the axes as they are then."""
        for axis in axes:
            self.channels.block(axis, why)
        return [axis if axis.ids is None else Axis(axis.size, None, why) for axis in axes]

    def broadcast(self, operands: Sequence[Axes]) -> list[Axis]:
        """Axes of an elementwise result: channels meet from the last axis on, and size 1 repeats."""
        rank = max((len(axes) for axes in operands), default=0)
        return [
            self._meet([axes[len(axes) - rank + place] for axes in operands if len(axes) - rank + place >= 0])
            for place in range(rank)
        ]

    def _meet(self, axes: Axes) -> Axis:
        met = [axis for axis in axes if axis.size != 1]
        if not met:
            return axes[0]
        for other in met[1:]:
            self.channels.join(met[0], other)
        return next((axis for axis in met if axis.ids is None), met[0])

    def rewrite_input(self, node: ir.Node, index: int, make: Callable[[Kept], np.ndarray]) -> None:
        """Give a node another constant at an input once channels are chosen; other readers keep theirs."""
        before = self.array(node, index)
        assert before is not None

        def rewrite(kept: Kept) -> None:
            array = make(kept)
            if not np.array_equal(array, before):
                replace_input(node, index, array.astype(before.dtype))

        self.rewrites.append(rewrite)


def replace_input(node: ir.Node, index: int, array: np.ndarray) -> None:
    """A node reads ``array`` from now on; the constant that it read before stays for its other readers."""
    value, graph = node.inputs[index], node.graph
    assert value is not None
    assert isinstance(graph, ir.Graph)
    if value.is_initializer() and len(list(value.uses())) == 1 and not value.is_graph_output():
        replace_weight(value, array)
        return
    node.replace_input_with(index, add_weight(graph, value.name or "weight", array))
    if not value.uses() and not value.is_graph_output() and value.is_initializer():
        del graph.initializers[value.name or ""]


def inferred_shapes(model: ir.Model) -> dict[str, Elements]:
    """Shape of every value of the main graph, by name; the model keeps its own."""
    copy = model.clone()
    infer_shapes(copy)
    values = [*copy.graph.inputs, *(value for node in copy.graph for value in node.outputs)]
    return {value.name: found for value in values if value.name and (found := dimensions(value)) is not None}


def captured(node: ir.Node) -> Iterator[ir.Value]:
    """Values of outer graphs that the subgraphs of a node read."""
    for attribute in node.attributes.values():
        for graph in _graphs(attribute):
            for inner in graph.all_nodes():
                yield from (value for value in inner.inputs if value is not None)
            yield from graph.outputs


def _graphs(attribute: ir.Attr) -> Sequence[ir.Graph]:
    if attribute.type == ir.AttributeType.GRAPH:
        return [attribute.as_graph()]
    return list(attribute.as_graphs()) if attribute.type == ir.AttributeType.GRAPHS else []
