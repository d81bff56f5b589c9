"""Values that may be smaller than they are, because whoever reads them broadcasts them anyway."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from modelopt_cli.graph.shapes import Elements, broadcast, dimensions

BROADCASTING = frozenset(
    {"Add", "Sub", "Mul", "Div", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Where"}
)
PASSING = frozenset({"Cast", "Not"})
MAX_STEPS = 4  # between a mask and the scores it is added to


def refusal_to_shrink(value: ir.Value, steps: int = MAX_STEPS) -> str | None:
    """Why ``value`` must keep its shape, or None when every result that counts has the same shape without it."""
    if value.is_graph_output() or not value.uses():
        return "it is an output"
    for usage in value.uses():
        node = usage.node
        if node.domain not in ("", "ai.onnx") or node.op_type not in BROADCASTING | PASSING or steps == 0:
            return "what reads it does not broadcast"
        others = [other for other in node.inputs if other is not value]
        if any(_covers(other, value) for other in others):
            continue
        if refusal_to_shrink(node.outputs[0], steps - 1) is not None:
            return "the other operand of what reads it may be smaller"
    return None


def replace_smaller(old: ir.Value, new: ir.Value) -> None:
    """Correct the shapes of what reads ``old`` for the time when it reads ``new``, which broadcasts to it."""
    changed = {old: dimensions(new)}
    for node in _readers(old):
        out = node.outputs[0]
        shapes = [changed.get(value, dimensions(value)) for value in node.inputs if value is not None]
        dims = broadcast(shapes)
        if dims is None or dims == dimensions(out):
            continue
        changed[out] = dims
        out.shape = ir.Shape(list(dims))


def _readers(value: ir.Value) -> Iterator[ir.Node]:
    """The nodes that `refusal_to_shrink` looked through, readers after what they read."""
    for usage in value.uses():
        node = usage.node
        if any(_covers(other, value) for other in node.inputs if other is not value):
            continue
        yield node
        yield from _readers(node.outputs[0])


def _covers(other: ir.Value | None, expanded: ir.Value) -> bool:
    """Whether ``other`` surely has every dimension that ``expanded`` has, so that broadcasting gives the same."""
    have, need = dimensions(other), dimensions(expanded)
    if have is None or need is None or len(have) < len(need):
        return False
    aligned: Elements = have[len(have) - len(need) :]
    return all(n == 1 or (n is not None and n == h) for h, n in zip(aligned, need, strict=True))
