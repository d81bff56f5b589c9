"""The states of recurrent layers, for pruning: `fuse` leaves all out but the last where the last alone is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx_ir as ir

from modelopt_cli.graph.edit import fresh_name

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}  # rows of the weights for each unit


@contextmanager
def all_states(model: ir.Model) -> Iterator[list[str]]:
    """Let recurrent layers hand out the states of every step inside of the block: layers are known and fitted by them.

    Yields:
        The names that they got, for `drop_states` on clones.
    """
    names = []
    for node in model.graph:
        if node.op_type in GATES and len(node.outputs) > 1 and not node.outputs[0].name:
            states = node.outputs[0]
            states.name, states.type = fresh_name(model.graph, f"{node.outputs[1].name}_all"), node.outputs[1].type
            names.append(states.name)
    try:
        yield names
    finally:
        drop_states(model, names)


def drop_states(model: ir.Model, names: list[str]) -> None:
    """Leave them out again: a runtime need not store every state where the last one is read."""
    for node in model.graph if names else ():
        if node.op_type in GATES and node.outputs[0].name in names:
            states = node.outputs[0]
            states.name, states.type, states.shape = "", None, None
