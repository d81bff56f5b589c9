"""Attention as one float operator, or as its float parts: a search times both between integer products.

    Attention(q, k, v, mask)                                                what fusion makes: the table's choice
    MatMul(Softmax(MatMul(heads(q), heads(k)^T) * scale + mask), heads(v))  the same in six kinds of operators

On x86 the operator takes 0.3 to 0.96 of the parts' time for 1 to 512 tokens (`python -m benchmarks attention`); where
another machine or runtime says otherwise, the search finds it out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import add_node, add_weight, remove_dead, replace_output

TO_HEADS = (0, 2, 1, 3)
KEYS_TURNED = (0, 2, 3, 1)
_KNOWN = frozenset({"q_num_heads", "kv_num_heads", "scale", "is_causal", "qk_matmul_output_mode", "softcap"})


@dataclass(frozen=True)
class Spelled:
    """An Attention whose parts are known.

    Attributes:
        node: The operator: queries, keys and values of shape (batch, tokens, heads * size), perhaps a mask.
        heads: How many.
        sizes: Of a head of keys (and queries), and of values.
        scale: What scores are multiplied with.
        mask: A float tensor that is added to them.
    """

    node: ir.Node
    heads: int
    sizes: tuple[int, int]
    scale: float
    mask: ir.Value | None


def spelled(node: ir.Node) -> Spelled | None:
    """The parts of an Attention in float32 with as many heads of keys as of queries, without past; None otherwise."""
    if node.op_type != "Attention" or node.domain not in ("", "ai.onnx") or set(node.attributes) - _KNOWN:
        return None
    if any(node.attributes.get_int(name, 0) for name in ("is_causal", "qk_matmul_output_mode")):
        return None
    heads = node.attributes.get_int("q_num_heads", 0)
    read = list(node.inputs)
    only_one = len(read) <= 4 or all(value is None for value in read[4:])
    sole = all(not out.uses() and not out.is_graph_output() for out in node.outputs[1:])
    if not heads or heads != node.attributes.get_int("kv_num_heads", 0) or not only_one or not sole:
        return None
    widths = [_width(value) for value in read[:3]]
    if node.attributes.get_float("softcap", 0.0) or node.outputs[0].dtype != ir.DataType.FLOAT or None in widths:
        return None
    query, key, value = (width // heads for width in widths if width is not None)
    mask = read[3] if len(read) > 3 else None
    if query != key or (mask is not None and mask.dtype != ir.DataType.FLOAT):
        return None
    return Spelled(node, heads, (key, value), node.attributes.get_float("scale", key**-0.5), mask)


def write_attention_parts(graph: ir.Graph) -> int:
    """Spell out each Attention of the main graph whose parts are known; returns how many there were."""
    found = [each for node in graph if (each := spelled(node)) is not None]
    for each in found:
        _write(graph, each)
    return len(found)


def _write(graph: ir.Graph, found: Spelled) -> None:
    node, out = found.node, found.node.outputs[0]
    stem = node.name or str(out.name)

    def add(
        op_type: str, inputs: list[ir.Value | None], shape: ir.Shape | None = None, **attributes: object
    ) -> ir.Value:
        return add_node(graph, node, op_type, inputs, stem=stem, attributes=attributes, dtype=out.dtype, shape=shape)

    def to_heads(value: ir.Value | None, size: int, order: tuple[int, ...]) -> ir.Value:
        target = add_weight(graph, f"{stem}_heads", np.array([0, 0, found.heads, size], np.int64))
        return add("Transpose", [add("Reshape", [value, target])], perm=order)

    size, of_values = found.sizes
    query, keys = to_heads(node.inputs[0], size, TO_HEADS), to_heads(node.inputs[1], size, KEYS_TURNED)
    scores = add("MatMul", [query, keys])
    if found.scale != 1.0:
        scores = add("Mul", [scores, add_weight(graph, f"{stem}_scale", np.array(found.scale, np.float32))])
    if found.mask is not None:
        scores = add("Add", [scores, found.mask])
    mixed = add("MatMul", [add("Softmax", [scores], axis=-1), to_heads(node.inputs[2], of_values, TO_HEADS)])
    joined = add_weight(graph, f"{stem}_joined", np.array([0, 0, found.heads * of_values], np.int64))
    result = add("Reshape", [add("Transpose", [mixed], perm=TO_HEADS), joined], out.shape)
    replace_output(out, result)
    remove_dead(graph, [node])


def _width(value: ir.Value | None) -> int | None:
    """The last of three dimensions, where that is known."""
    if value is None or value.shape is None or len(value.shape) != 3:
        return None
    last = value.shape[2]
    return last if isinstance(last, int) else None
