"""What is computed of each token, and read of one, is computed of that one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import dimensions
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.narrowing import PRODUCTS, Axes, narrowed_inputs, reshaped
from modelopt_cli.passes.fuse.rules.merge_slices import slice_cuts

MAX_SHARE = 0.5  # of the entries: a selection of more saves less than it costs to make in several places


@dataclass(frozen=True)
class Selection:
    """Entries along one axis: one index, or a start, an end and a step."""

    axis: int
    count: int
    numbers: tuple[int, ...]

    def of(self, value: ir.Value, axis: int, before: ir.Node, graph: Editor) -> ir.Value:
        """These entries of another value, the axis kept."""
        array, out = edit.constant(value), f"{value.name}_selected"
        if array is not None:
            return graph.weight(self._of_array(array, axis), out)
        words = ("starts", "ends", "axes", "steps")
        if len(self.numbers) == 1:
            index = graph.weight(np.array(self.numbers, np.int64), f"{out}_index")
            result = graph.add("Gather", [value, index], like=value, before=before, attributes={"axis": axis})
        else:
            start, end, step = self.numbers
            each = zip(words, (start, end, axis, step), strict=True)
            parts = [graph.weight(np.array([number], np.int64), f"{out}_{word}") for word, number in each]
            result = graph.add("Slice", [value, *parts], like=value, before=before)
        result.shape = self.shape(value, axis)
        return result

    def shape(self, value: ir.Value, axis: int) -> ir.Shape | None:
        """The shape of ``value`` with these entries alone."""
        dims = dimensions(value)
        return None if dims is None else ir.Shape([*dims[:axis], self.count, *dims[axis + 1 :]])

    def _of_array(self, array: np.ndarray, axis: int) -> np.ndarray:
        if len(self.numbers) == 1:
            return np.take(array, list(self.numbers), axis=axis)
        return array[(*(slice(None),) * axis, slice(*self.numbers))]


@dataclass
class Region:
    """What is computed for the selected entries only.

    Attributes:
        seed: The Gather or Slice that selects.
        selection: What it selects.
        nodes: Each node with the inputs that are to hold fewer entries.
        wanted: Each value that is to hold fewer entries, with the axis.
        ends: Those of them of which the selection is taken; the others are computed by ``nodes``.
    """

    seed: ir.Node
    selection: Selection
    nodes: dict[ir.Node, Axes] = field(default_factory=dict)
    wanted: dict[ir.Value, int] = field(default_factory=dict)
    ends: dict[ir.Value, None] = field(default_factory=dict)

    def products(self) -> int:
        """How many matrix products have fewer rows."""
        return sum(node.op_type in PRODUCTS for node in self.nodes)

    def selections(self) -> int:
        """How many nodes that select there are to be."""
        return sum(edit.constant(value) is None for value in self.ends)


class SelectFirst(Rule[Region]):
    """Compute for the tokens that are read, and not for all of them.

    Gather(Gelu(Norm(x) W + b), 0, axis 1) -> Gather(Gelu(Norm(Gather(x, [0], axis 1)) W + b), 0, axis 1)

    As far back as each token is computed by itself: through products, norms, sums with what came before and, on the
    side of the queries, attention. Of a classifier that reads the first token the last layer then computes keys and
    values for all tokens, and the rest for one: ViT-S/16 takes 0.91 of its time where it took 0.98.
    """

    name = "select-first"
    roots = frozenset({"Gather", "Slice"})

    def match(self, node: ir.Node, graph: Editor) -> Region | None:
        selection = _selection(node, graph)
        if selection is None:
            return None
        region = _grow(node, selection, graph)
        return region if region.products() else None

    def check(self, found: Region, graph: Editor) -> str | None:
        few = found.selections() <= 2 * found.products()
        return None if few else "it would have to be selected in more places than there are products to save"

    def rewrite(self, found: Region, graph: Editor) -> None:
        selection, seed = found.selection, found.seed
        chosen: dict[ir.Value, ir.Value] = {}
        for node in [node for node in graph.graph if node in found.nodes]:
            for position, axis in found.nodes[node].items():
                value = node.inputs[position]
                assert value is not None
                if value in found.ends:
                    if value not in chosen:
                        chosen[value] = selection.of(value, axis, node, graph)
                    graph.set_input(node, position, chosen[value])
            out = node.outputs[0]
            if node.op_type == "Reshape" and (numbers := reshaped(node, found.wanted[out], selection.count)):
                graph.set_input(node, 1, graph.weight(np.array(numbers, np.int64), f"{out.name}_shape"))
            out.shape = selection.shape(out, found.wanted[out])
            graph.touch(node)
        _take_all(seed, graph)


def _take_all(seed: ir.Node, graph: Editor) -> None:
    """Let the node that selected take what is there: it may have to drop the axis still."""
    value, index = seed.inputs[0], edit.constant(seed.inputs[1])
    assert value is not None and index is not None
    if seed.op_type == "Gather" and not index.ndim:
        graph.set_input(seed, 1, graph.weight(np.array(0, np.int64), f"{seed.outputs[0].name}_index"))
    else:
        graph.replace(seed.outputs[0], value)


def _selection(node: ir.Node, graph: Editor) -> Selection | None:
    """What a Gather or a Slice selects, where that is a small part of what there is."""
    dims, kept = dimensions(node.inputs[0]), dimensions(node.outputs[0])
    if dims is None or kept is None:
        return None
    if node.op_type == "Gather":
        index = edit.constant(node.inputs[1])
        axis = node.attributes.get_int("axis", 0) % max(len(dims), 1)
        if index is None or index.size != 1 or index.ndim > 1:
            return None
        selection = Selection(axis, 1, (int(index.reshape(())),))
    else:
        cuts = slice_cuts(node, graph)
        if cuts is None or len(cuts) != 1 or edit.constant(node.inputs[1]) is None:
            return None
        ((axis, cut),) = cuts.items()
        count = kept[axis]
        if not isinstance(count, int):
            return None
        selection = Selection(axis, count, cut)
    size = dims[axis]
    small = size is None or isinstance(size, str) or selection.count <= MAX_SHARE * size
    return selection if small else None


def _grow(seed: ir.Node, selection: Selection, graph: Editor) -> Region:
    """All nodes whose outputs are read for the selected entries only, and the values in front of them."""
    region = Region(seed, selection)
    assert seed.inputs[0] is not None
    region.wanted[seed.inputs[0]] = selection.axis
    waiting = [seed.inputs[0]]
    while waiting:
        ready = next((value for value in waiting if _is_ready(value, region)), None)
        if ready is None:
            break  # something else reads each of these
        waiting.remove(ready)
        inputs = _inputs(ready, region, graph)
        if inputs is None:
            region.ends[ready] = None
            continue
        producer = ready.producer()
        assert producer is not None
        region.nodes[producer] = inputs
        for value, axis in _wanted(producer, inputs):
            if value not in region.wanted:
                region.wanted[value] = axis
                waiting.append(value)
    region.ends.update(dict.fromkeys(waiting))
    return region


def _inputs(value: ir.Value, region: Region, graph: Editor) -> Axes | None:
    """What the producer needs for the selected entries of ``value``; None when all of ``value`` has to be computed."""
    node = value.producer()
    if node is None or node.graph is not graph.graph or graph.is_protected(node) or node.outputs[0] is not value:
        return None
    inputs = narrowed_inputs(node, region.wanted[value], graph.opset)
    if inputs is None or any(region.wanted.get(each, axis) != axis for each, axis in _wanted(node, inputs)):
        return None
    return inputs


def _wanted(node: ir.Node, inputs: Axes) -> Iterator[tuple[ir.Value, int]]:
    for position, axis in inputs.items():
        value = node.inputs[position]
        if value is not None:
            yield value, axis


def _is_ready(value: ir.Value, region: Region) -> bool:
    """Whether all that reads the value reads the selected entries alone."""
    if value.is_graph_output():
        return False
    return all(
        (usage.node is region.seed and usage.idx == 0) or usage.idx in region.nodes.get(usage.node, ())
        for usage in value.uses()
    )
