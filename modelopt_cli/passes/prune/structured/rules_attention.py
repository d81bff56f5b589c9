"""How channels pass through attention that is one operator: heads go as a whole."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelopt_cli.passes.prune.structured.channels import Axis
from modelopt_cli.passes.prune.structured.flow import Flow, Refuse

Outputs = list[list[Axis] | None]

MASK = 3
CACHE = (4, 5)


def attention(flow: Flow, node: ir.Node) -> Outputs:
    """Q [N, S, heads * size] or [N, heads, S, size], likewise K and V, and a mask [..., heads, S, keys].

    Where several heads of queries share keys and values, they go together (Ainslie et al. 2023,
    https://arxiv.org/abs/2305.13245).
    """
    if any(flow.has(node, index) for index in CACHE) or any(value.name for value in node.outputs[1:]):
        raise Refuse(f"Attention '{node.name}' keeps keys and values for later")
    query, key, value = (flow.axes(node, index) for index in range(3))
    ranks = {len(query), len(key), len(value)}
    if ranks not in ({3}, {4}):
        raise Refuse(f"the ranks of what goes into Attention '{node.name}' differ")
    place = 2 if ranks == {3} else 1
    heads, shared = _heads(node, query, place), _heads(node, key, place, "kv_num_heads")
    if not heads or not shared or heads % shared or any(axes[place].size is None for axes in (query, key, value)):
        raise Refuse(f"the heads of Attention '{node.name}' are not known")
    group = flow.channels.fresh(shared)
    assert group.ids is not None
    each = Axis(heads, np.repeat(group.ids, heads // shared))
    for axes, parts in ((query, each), (key, group), (value, group)):
        flow.channels.join(axes[place], _spread(parts, axes[place].size or 0))
    _mask(flow, node, each)
    flow.heads.append(group)
    if place == 2:
        flow.rewrites.append(lambda kept: _set_heads(node, kept.count(each), kept.count(group)))
        width = (value[2].size or 0) // shared * heads
        return [[query[0], query[1], _spread(each, width)]]
    return [[query[0], each, query[2], value[3]]]


def _heads(node: ir.Node, axes: list[Axis], place: int, name: str = "q_num_heads") -> int:
    if place == 2:
        return node.attributes.get_int(name, 0)
    return axes[1].size or 0


def _spread(parts: Axis, width: int) -> Axis:
    """Channels of an axis in which every part has as many positions."""
    assert parts.ids is not None
    if width % len(parts.ids):
        raise Refuse("its width is no multiple of its heads")
    return Axis(width, np.repeat(parts.ids, width // len(parts.ids)))


def _mask(flow: Flow, node: ir.Node, heads: Axis) -> None:
    """A mask of its own for each head loses what they lose."""
    if flow.has(node, MASK):
        axes = flow.axes(node, MASK)
        if len(axes) > 2 and axes[-3].size != 1:
            flow.channels.join(axes[-3], heads)


def _set_heads(node: ir.Node, heads: int, shared: int) -> None:
    node.attributes["q_num_heads"] = ir.AttrInt64("q_num_heads", heads)
    node.attributes["kv_num_heads"] = ir.AttrInt64("kv_num_heads", shared)
