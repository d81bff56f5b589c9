"""The last output of a recurrent node is its last state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import dimensions
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import made_by

SEQUENCE_LENGTHS = 4  # an input with which the outputs of shorter sequences end in zeros
STATE = 1  # the output Y_h: [directions, batch, hidden], where Y is [sequence, directions, batch, hidden]
AXES_ARE_AN_INPUT = 13  # of Squeeze, from this opset on
LAST = {"forward": -1, "reverse": 0}  # which step is computed last


@dataclass(frozen=True)
class Found:
    """The Gather, and the recurrent node whose outputs it looks at."""

    gather: ir.Node
    recurrent: ir.Node


class LastState(Rule[Found]):
    """Read the state that a recurrent node ends with instead of looking for it among its outputs.

    Gather(Squeeze(Y, directions), -1) -> Squeeze(Y_h, directions)     (Y, Y_h = LSTM, GRU or RNN of one direction)

    As PyTorch's exporter writes ``output[:, -1]``; nothing but the last output need be stored then.
    """

    name = "last-state"
    roots = frozenset({"Gather"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        squeeze, index = made_by(node.inputs[0], "Squeeze"), edit.constant(node.inputs[1])
        if squeeze is None or index is None or index.ndim or node.attributes.get_int("axis", 0) % 3:
            return None
        recurrent = made_by(squeeze.inputs[0], "LSTM", "GRU", "RNN")
        if recurrent is None or not _drops_directions(squeeze, graph) or recurrent.attributes.get_int("layout", 0) != 0:
            return None
        last = LAST.get(recurrent.attributes.get_string("direction", "forward"))
        size = (dimensions(recurrent.outputs[0]) or (None,))[0]
        steps = {last, size - 1 if last else -size} if isinstance(size, int) else {last}
        return Found(node, recurrent) if last is not None and int(index) in steps else None

    def check(self, found: Found, graph: Editor) -> str | None:
        lengths = found.recurrent.inputs[SEQUENCE_LENGTHS : SEQUENCE_LENGTHS + 1]
        return "sequences have lengths of their own" if any(value is not None for value in lengths) else None

    def rewrite(self, found: Found, graph: Editor) -> None:
        output, result = found.recurrent.outputs[0], found.gather.outputs[0]
        inputs: list[ir.Value | None] = [_state(found.recurrent, graph)]
        attributes: dict[str, object] = {}
        if graph.opset < AXES_ARE_AN_INPUT:
            attributes["axes"] = [0]
        else:
            inputs.append(graph.weight(np.array([0], np.int64), f"{output.name}_directions"))
        graph.replace(result, graph.add("Squeeze", inputs, like=result, before=found.gather, attributes=attributes))
        if not output.uses() and not output.is_graph_output():
            output.name = ""  # so that the runtime need not store every step


def _drops_directions(squeeze: ir.Node, graph: Editor) -> bool:
    given = graph.shapes.numbers(squeeze.inputs[1]) if len(squeeze.inputs) > 1 else None
    axes = given if given is not None else squeeze.attributes.get_ints("axes", ())
    return tuple(axis % 4 for axis in axes) == (1,)


def _state(recurrent: ir.Node, graph: Editor) -> ir.Value:
    """The output Y_h, which is there when something else reads it already."""
    output = recurrent.outputs[0]
    if len(recurrent.outputs) <= STATE:
        recurrent.resize_outputs(STATE + 1)
    state = recurrent.outputs[STATE]
    if not state.name:
        state.name = edit.fresh_name(graph.graph, f"{output.name}_state")
        state.type = output.type
        state.shape = None if output.shape is None else ir.Shape(list(output.shape)[1:])
    return state
