"""Transpositions around what does not care about the order of axes cancel each other."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.layout import Perm, Step, inverse, plain_step
from modelopt_cli.passes.fuse.pattern import made_by

MAX_REGION = 400  # nodes


@dataclass
class Region:
    """What is computed from transposed values and may as well be computed from the plain ones.

    Attributes:
        perm: By which the values are transposed.
        plain: The transposed values, and the plain ones where they exist already.
        steps: The nodes over them, and what each is over plain values.
        ends: Transpose nodes that read a transposed value.
        leaving: Transposed values that something else reads, or that leave the model: they will need a Transpose.
        starts: Transpose nodes that go.
    """

    perm: Perm
    plain: dict[ir.Value, ir.Value | None] = field(default_factory=dict)
    steps: dict[ir.Node, Step] = field(default_factory=dict)
    ends: dict[ir.Node, None] = field(default_factory=dict)
    leaving: dict[ir.Value, None] = field(default_factory=dict)
    starts: dict[ir.Node, None] = field(default_factory=dict)

    def gain(self) -> int:
        """By how many nodes the graph shrinks."""
        gone = [node for node in self.ends if inverse(_perm(node) or ()) == self.perm]
        left = [start for start in self.starts if start.outputs[0] in self.leaving]
        # a swap of two axes is its own inverse: what makes a value transposed may make another one plain, and stays
        needed = [start for start in self.starts if start not in left and start.outputs[0] in self.plain.values()]
        return len(self.starts) - len(left) - len(needed) + len(gone) - (len(self.leaving) - len(left))


class CancelTransposes(Rule[Region]):
    """Compute in the order of axes that convolutions need, as exporters of TensorFlow and JAX models do not.

    Transpose(Relu(Transpose(x, p)), inverse of p) -> Relu(x)
    Transpose(MatMul(Transpose(x, 0 2 3 1), W) + b, 0 3 1 2) -> Conv(x, W [1 x 1]) + b

    Also through arithmetic, concats, paddings and means, over as many nodes and branches as it takes, and only
    where fewer Transpose nodes are left than before.
    """

    name = "cancel-transposes"
    roots = frozenset({"Transpose"})

    def match(self, node: ir.Node, graph: Editor) -> Region | None:
        perm = _perm(node)
        readers = [usage.node for usage in node.outputs[0].uses()]
        if perm is None or node.inputs[0] is None or not readers or all(r.op_type == "Transpose" for r in readers):
            return None
        region = _grow(node, perm, graph)
        return region if region.steps and (region.ends or region.gain() > 0) else None

    def check(self, found: Region, graph: Editor) -> str | None:
        return None if found.gain() > 0 else "as many would be needed elsewhere"

    def rewrite(self, found: Region, graph: Editor) -> None:
        plain = {value: known for value, known in found.plain.items() if known is not None}
        ordered = [node for node in graph.graph if node in found.steps]
        replaced: list[tuple[ir.Value, ir.Value]] = []
        for node in ordered:
            step, out = found.steps[node], node.outputs[0]
            result = _over_plain(node, step, plain, found.perm, graph)
            if step.keeps_order:
                plain[out] = result
            else:
                replaced.append((out, result))
        for end in found.ends:
            source, perm = end.inputs[0], _perm(end)
            assert source is not None and perm is not None
            both = tuple(found.perm[axis] for axis in perm)
            if both == tuple(range(len(both))):
                replaced.append((end.outputs[0], plain[source]))
            else:
                graph.set_attribute(end, "perm", both)
                graph.set_input(end, 0, plain[source])
        for value in found.leaving:
            producer = value.producer()
            assert producer is not None
            if producer in found.steps:
                attributes: dict[str, object] = {"perm": list(found.perm)}
                new = graph.add("Transpose", [plain[value]], like=value, before=producer, attributes=attributes)
                replaced.append((value, new))
        for old, new in replaced:
            graph.replace(old, new)
        graph.graph.sort()  # a Transpose back that was joined may have stood behind what now reads it


def _grow(start: ir.Node, perm: Perm, graph: Editor) -> Region:
    """All that may be computed from plain values, from one Transpose on, with the others of the same order it meets."""
    region = Region(perm)
    _add_start(region, start)
    blocked: dict[ir.Node, None] = {}
    pending = [usage.node for usage in start.outputs[0].uses()]
    while pending and len(region.steps) < MAX_REGION:
        node = pending.pop(0)
        if node in region.steps or node.graph is not graph.graph:
            continue
        if _perm(node) is not None:
            continue
        step = plain_step(node, perm, lambda value: value in region.plain or _joins(region, value, graph), graph)
        if step is None:
            blocked[node] = None
            continue
        for value in node.inputs:
            if value is not None and value not in region.plain and _joins(region, value, graph):
                pending.extend(_join(region, value))
        region.steps[node] = step
        if step.keeps_order:
            region.plain[node.outputs[0]] = None
            pending.extend(usage.node for usage in node.outputs[0].uses())
            pending.extend(blocked)
            blocked.clear()
    for value in region.plain:
        readers = [usage.node for usage in value.uses()]
        ends = (reader for reader in readers if _is_end(reader, graph) and reader not in region.starts)
        region.ends.update(dict.fromkeys(ends))
        own = all(reader in region.steps or reader in region.ends for reader in readers)
        if (not own or value.is_graph_output()) and _is_transposed(region, value):
            region.leaving[value] = None
    return region


def _is_end(node: ir.Node, graph: Editor) -> bool:
    return node.op_type == "Transpose" and _perm(node) is not None and node.graph is graph.graph


def _is_transposed(region: Region, value: ir.Value) -> bool:
    """Whether the value goes with the region: it is computed in it, or by one of the Transpose nodes that go."""
    producer = value.producer()
    return producer is not None and (producer in region.steps or producer in region.starts)


def _joins(region: Region, value: ir.Value, graph: Editor) -> bool:
    """Whether the plain value exists: behind another Transpose of the same order, or in a Transpose back."""
    other = made_by(value, "Transpose")
    if other is not None and other.graph is graph.graph and _perm(other) == region.perm:
        return True
    return _back(region, value) is not None


def _back(region: Region, value: ir.Value) -> ir.Value | None:
    for usage in value.uses():
        if usage.node.op_type == "Transpose" and inverse(_perm(usage.node) or ()) == region.perm:
            return usage.node.outputs[0]
    return None


def _join(region: Region, value: ir.Value) -> list[ir.Node]:
    """Take a value into the region; the nodes that are to be looked at for it."""
    other = made_by(value, "Transpose")
    if other is not None and _perm(other) == region.perm:
        _add_start(region, other)
        return [usage.node for usage in value.uses()]
    region.plain[value] = _back(region, value)
    return []


def _add_start(region: Region, node: ir.Node) -> None:
    region.starts[node] = None
    region.plain[node.outputs[0]] = node.inputs[0]


def _perm(node: ir.Node) -> Perm | None:
    if node.op_type != "Transpose":
        return None
    return tuple(node.attributes.get_ints("perm", ())) or None


def _over_plain(node: ir.Node, step: Step, plain: dict[ir.Value, ir.Value], perm: Perm, graph: Editor) -> ir.Value:
    out = node.outputs[0]
    inputs: list[ir.Value | None] = []
    for each in step.inputs:
        if isinstance(each, np.ndarray):
            inputs.append(graph.weight(each, f"{out.name}_constant"))
        else:
            value = None if each is None else node.inputs[each]
            inputs.append(None if value is None else plain[value])
    result = graph.add(step.op_type, inputs, like=out, before=node, attributes=step.attributes)
    if step.keeps_order and out.shape is not None and len(out.shape) == len(perm):
        result.shape = ir.Shape([out.shape[axis] for axis in inverse(perm)])
    return result
