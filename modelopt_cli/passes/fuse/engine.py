"""The rule engine: a table of rewrites is applied until nothing changes, looking again only where something did."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.arithmetic import ShapeArithmetic
from modelopt_cli.passes.base import Skip

M = TypeVar("M")

MAX_EDITS_PER_NODE = 50  # a correct table never comes near: a rule that undoes another one must not hang the tool


class Rule(ABC, Generic[M]):
    """One rewrite. ``match`` finds the shape of it, ``check`` says why it must not be, ``rewrite`` does it.

    Class attributes:
        name: The word of reports, in kebab case.
        roots: Operator types that ``match`` is called with.
    """

    name: ClassVar[str]
    roots: ClassVar[frozenset[str]]

    @abstractmethod
    def match(self, node: ir.Node, graph: Editor) -> M | None:
        """The values and nodes of the pattern that ends in ``node``, or None when it is not there."""

    def check(self, found: M, graph: Editor) -> str | None:
        """Why the matched pattern must stay as it is, in words a person can act on; None when it may go."""
        return None

    @abstractmethod
    def rewrite(self, found: M, graph: Editor) -> None:
        """Replace the pattern, through ``graph`` only: it keeps the list of what to look at again."""


AnyRule = Rule[Any]


@dataclass
class Outcome:
    """What a run of the engine did: rewrites by rule, refusals by node and rule, opsets in which it could do more."""

    applied: Counter[str] = field(default_factory=Counter)
    wishes: set[int] = field(default_factory=set)
    refused: dict[tuple[ir.Node, str], Skip] = field(default_factory=dict)

    @property
    def skips(self) -> tuple[Skip, ...]:
        """The refusals at nodes that are still there, in the order in which they were last seen."""
        return tuple(skip for (node, _), skip in self.refused.items() if node.graph is not None)


class Editor:
    """Edits one graph and remembers the nodes around each edit.

    Attributes:
        graph: The graph under the rules; a subgraph of the model is a graph of its own.
        opset: Version of the standard operators in the model.
        shared: What rules made once for several patterns, under keys of their own.
    """

    def __init__(self, graph: ir.Graph, opset: int) -> None:
        self.graph = graph
        self.opset = opset
        self.touched: list[ir.Node] = []
        self.wishes: set[int] = set()
        self.shared: dict[object, ir.Value] = {}
        self._protected: set[ir.Node] = set()
        self._shapes: ShapeArithmetic | None = None

    @property
    def shapes(self) -> ShapeArithmetic:
        """What is known of shape arithmetic in the present state of the graph."""
        if self._shapes is None:
            self._shapes = ShapeArithmetic()
        return self._shapes

    def add(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        *,
        like: ir.Value,
        before: ir.Node,
        attributes: dict[str, object] | None = None,
        domain: str = "",
    ) -> ir.Value:
        """Insert a node; its output has the type and shape of ``like`` and a name after it."""
        stem = f"{(like.name or op_type).removesuffix('_output_0')}_{op_type}"
        output = edit.add_node(
            self.graph, before, op_type, inputs, stem=stem, attributes=attributes, domain=domain, shape=like.shape
        )
        output.type = like.type
        producer = output.producer()
        assert producer is not None
        self.touch(producer)
        return output

    def weight(self, array: np.ndarray, stem: str) -> ir.Value:
        """A new initializer."""
        return edit.add_weight(self.graph, stem, array)

    def set_input(self, node: ir.Node, index: int, value: ir.Value | None) -> None:
        """Let ``node`` read ``value`` instead; what nobody reads any more goes."""
        old = node.inputs[index] if index < len(node.inputs) else None
        if index >= len(node.inputs):
            node.resize_inputs(index + 1)
        node.replace_input_with(index, value)
        self.touch(node)
        if old is not None:
            self._drop(old)

    def set_attribute(self, node: ir.Node, name: str, value: object) -> None:
        """Set an attribute of a node that stays."""
        node.attributes[name] = ir.convenience.convert_attribute(name, value)
        self.touch(node)

    def drop_attribute(self, node: ir.Node, name: str) -> None:
        """Let an attribute of a node that stays have its default."""
        node.attributes.pop(name, None)
        self.touch(node)

    def replace(self, old: ir.Value, new: ir.Value) -> None:
        """Let all readers of ``old`` read ``new``; the nodes that only made ``old`` go."""
        self.touch(*(usage.node for usage in old.uses()))
        producer = old.producer()
        edit.replace_output(old, new)
        if (made := new.producer()) is not None:
            self.touch(made)
        if producer is not None:
            self._remove([producer])

    def protect(self, nodes: Iterable[ir.Node]) -> None:
        """No rule edits these nodes: together they are a pattern that the runtime recognises."""
        self._protected.update(nodes)

    def is_protected(self, node: ir.Node) -> bool:
        """Whether some rule asked for the node to stay as it is."""
        return node in self._protected

    def wish(self, opset: int) -> None:
        """Say that a newer opset would let some rule do more here."""
        self.wishes.add(opset)

    def touch(self, *nodes: ir.Node) -> None:
        """Look at these nodes, and at those beside them, again."""
        self._shapes = None
        for node in nodes:
            self.touched.append(node)
            self.touched.extend(p for v in node.inputs if v is not None and (p := v.producer()) is not None)
            self.touched.extend(usage.node for out in node.outputs for usage in out.uses())

    def _drop(self, value: ir.Value) -> None:
        producer = value.producer()
        if producer is not None:
            self.touch(producer, *(usage.node for usage in value.uses()))
            self._remove([producer])
        elif not value.uses():
            self._forget(value)

    def _remove(self, nodes: Sequence[ir.Node]) -> None:
        inputs: list[ir.Value] = []
        pending = list(nodes)
        while pending:  # as edit.remove_dead, but the weights that die with a node go too
            node = pending.pop()
            if node.graph is None or any(out.uses() or out.is_graph_output() for out in node.outputs):
                continue
            reads = [value for value in node.inputs if value is not None]
            producers = [p for value in reads if (p := value.producer()) is not None]
            self.touch(*producers)
            node.graph.remove(node, safe=True)
            inputs.extend([*reads, *edit.release(node)])
            pending.extend(producers)
        for value in inputs:
            self._forget(value)

    def _forget(self, value: ir.Value) -> None:
        unused = not value.uses() and not value.is_graph_output() and not value.is_graph_input()
        owner = value.graph
        if unused and owner is not None and value.name is not None and value.name in owner.initializers:
            del owner.initializers[value.name]


def apply_rules(model: ir.Model, stages: Sequence[Sequence[AnyRule]]) -> Outcome:
    """Apply the stages in order, each to its fixpoint, and again from the first to what was edited meanwhile.

    A rule that looks further than one node around what an edit touched may find more in a second call: callers repeat
    until nothing was applied.

    Args:
        model: Edited in place: the main graph and all subgraphs.
        stages: Tables of rules; earlier rules of a table are tried first on a node.
    """
    outcome = Outcome()
    opset = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 1))
    for graph in edit.all_graphs(model):
        editor = Editor(graph, opset)
        nodes = list(graph)  # once: a graph is a linked list, which takes three times as long to go through
        queues = [(table, _Worklist(nodes, table)) for table in map(_by_root, stages) if table]
        edits, limit = 0, MAX_EDITS_PER_NODE * max(len(nodes), 1)
        while edits < limit and any(waiting for _, waiting in queues):
            for table, waiting in queues:
                while waiting and edits < limit:
                    if _apply_first(waiting.pop(), table, editor, outcome):
                        edits += 1
                        for _, each in queues:
                            each.extend(editor.touched)
                        editor.touched.clear()
        outcome.wishes |= editor.wishes
    return outcome


def _by_root(rules: Iterable[AnyRule]) -> dict[str, list[AnyRule]]:
    table: dict[str, list[AnyRule]] = {}
    for rule in rules:
        for op_type in rule.roots:
            table.setdefault(op_type, []).append(rule)
    return table


def _apply_first(node: ir.Node, table: Mapping[str, Sequence[AnyRule]], editor: Editor, outcome: Outcome) -> bool:
    rules = table[node.op_type]
    if node.graph is not editor.graph or node.domain not in ("", "ai.onnx") or editor.is_protected(node):
        return False
    label = node.name or (node.outputs[0].name if node.outputs else "") or node.op_type
    for rule in rules:
        found = rule.match(node, editor)
        outcome.refused.pop((node, rule.name), None)
        if found is None:
            continue
        if (reason := rule.check(found, editor)) is not None:
            outcome.refused[node, rule.name] = Skip(label, f"{rule.name}: {reason}")
            continue
        editor.touch(node)
        rule.rewrite(found, editor)
        outcome.applied[rule.name] += 1
        return True
    return False


class _Worklist:
    """Nodes still to look at, each at most once, and only those of which some rule may be the root."""

    def __init__(self, nodes: Iterable[ir.Node], roots: Container[str]) -> None:
        self._roots = roots
        self._queue: deque[ir.Node] = deque()
        self._waiting: set[ir.Node] = set()
        self.extend(nodes)

    def __bool__(self) -> bool:
        return bool(self._queue)

    def extend(self, nodes: Iterable[ir.Node]) -> None:
        waiting, roots = self._waiting, self._roots
        for node in nodes:
            if node not in waiting and node.op_type in roots:
                waiting.add(node)
                self._queue.append(node)

    def pop(self) -> ir.Node:
        node = self._queue.popleft()
        self._waiting.discard(node)
        return node
