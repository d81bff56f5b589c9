"""An initial state of zeros is what a recurrent node starts from anyway."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import made_by

FIRST_STATE = 5  # inputs 5 (initial_h) and, for LSTM, 6 (initial_c)


@dataclass(frozen=True)
class Found:
    """The recurrent node and the positions of its initial states that are zeros."""

    node: ir.Node
    indices: tuple[int, ...]


class DropZeroState(Rule[Found]):
    """LSTM(x, W, R, B, _, ConstantOfShape(..) = 0, ..) -> LSTM(x, W, R, B), and so for GRU and RNN."""

    name = "drop-zero-state"
    roots = frozenset({"LSTM", "GRU", "RNN"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        states = list(node.inputs)[FIRST_STATE : FIRST_STATE + 2]
        zeros = tuple(FIRST_STATE + i for i, value in enumerate(states) if value is not None and _is_zero(value))
        return Found(node, zeros) if zeros else None

    def rewrite(self, found: Found, graph: Editor) -> None:
        for index in found.indices:
            graph.set_input(found.node, index, None)


def _is_zero(value: ir.Value) -> bool:
    array = edit.constant(value)
    if array is not None:
        return not np.any(array)
    node = made_by(value, "Expand")
    if node is not None and edit.scalar(node.inputs[0]) == 0.0:
        return True
    filled = made_by(value, "ConstantOfShape")
    if filled is None:
        return False
    fill = filled.attributes.get_tensor("value", None)
    return fill is None or not np.any(fill.numpy())
