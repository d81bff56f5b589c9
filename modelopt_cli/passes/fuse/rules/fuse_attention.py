"""Attention that is spelled out, as the one operator that onnxruntime's CPU has for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import dimensions
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.heads import TO_HEADS, Heads, Projection, read_heads, read_projection
from modelopt_cli.passes.fuse.key_mask import KeyMask, mask_channel, read_key_mask
from modelopt_cli.passes.fuse.pattern import linear_in, made_by, only_made_for, operands

MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Found:
    """Softmax(q k^T * scale + mask) v, as far as it is there.

    Attributes:
        softmax: The node in its middle.
        last: The Reshape that joins the heads again; None where there is none.
        query: Heads, and None for what is no split projection; likewise key and value.
        scale: What the scores are multiplied with.
        mask: What is added to the scores.
        key_mask: The same, when it depends on the key alone.
    """

    softmax: ir.Node
    last: ir.Node | None
    query: Heads | None
    key: Heads | None
    value: Heads | None
    scale: float
    mask: ir.Value | None
    key_mask: KeyMask | None


class FuseAttention(Rule[Found]):
    """MultiHeadAttention of onnxruntime, in the form that its CPU computes block by block (https://arxiv.org/abs/2205.14135).

    q, k, v = split(x Wq), split(y Wk), split(y Wv)
    merge(Softmax(q k^T * s + mask) v)   =>   MultiHeadAttention(x Wq', y Wk' + m, y Wv)

    The kernel takes its fast way only without a mask. A mask that depends on the key alone is therefore carried by one
    more channel of each head, in which queries are 1 and keys are the mask: it comes out of the product as it went in.
    A bias of the keys adds the same to all scores of a query, which a Softmax does not see: it goes.
    """

    name = "fuse-attention"
    roots = frozenset({"Softmax"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        mix = edit.only_reader(node.outputs[0])
        if mix is None or mix.op_type != "MatMul" or mix.inputs[0] is not node.outputs[0]:
            return None
        product, scale, mask = _scores(node)
        if product is None:
            return None
        key, value = read_heads(product.inputs[1], transposed=True), read_heads(mix.inputs[1])
        key_mask = None if mask is None or key is None else read_key_mask(mask, key.length)
        return Found(node, _join(mix), read_heads(product.inputs[0]), key, value, scale, mask, key_mask)

    def check(self, found: Found, graph: Editor) -> str | None:
        if found.last is None:
            return "its heads are not joined by a Transpose and a Reshape of known shape"
        for what, heads in (("queries", found.query), ("keys", found.key), ("values", found.value)):
            if heads is None:
                return f"its {what} are not a projection split into heads, or their shape is not known"
        if found.softmax.outputs[0].dtype != ir.DataType.FLOAT:
            return "it is not float32"
        return _mismatch(found) or _unmade(found)

    def rewrite(self, found: Found, graph: Editor) -> None:
        query, key, value, last = found.query, found.key, found.value, found.last
        assert query is not None and key is not None and value is not None and last is not None
        inputs = [
            _queries(graph, last, query, found.scale, found.key_mask is not None),
            _keys(graph, last, key, found.key_mask),
            _columns(graph, last, value),
        ]
        scale = 1.0 if found.key_mask is not None else found.scale
        attributes: dict[str, object] = {"num_heads": query.heads, "scale": scale}
        result = graph.add(
            "MultiHeadAttention", inputs, like=last.outputs[0], before=last, attributes=attributes, domain=MICROSOFT
        )
        result.shape = ir.Shape([*_leading(query.source), value.heads * value.size])
        if _same_shape(result, last.outputs[0]):
            graph.replace(last.outputs[0], result)
        else:
            graph.set_input(last, 0, result)


def _scores(softmax: ir.Node) -> tuple[ir.Node | None, float, ir.Value | None]:
    """The product of queries and keys behind a Softmax over keys, what it is multiplied with and what is added."""
    if softmax.attributes.get_int("axis", -1) not in (-1, 3):
        return None, 1.0, None
    candidates: list[tuple[ir.Value | None, ir.Node, ir.Value | None]] = [(softmax.inputs[0], softmax, None)]
    add = only_made_for(softmax.inputs[0], softmax, "Add", "Sum")
    if add is not None and len(add.inputs) == 2:
        candidates += [(scores, add, mask) for scores, mask in operands(add)]
    for scores, reader, mask in candidates:
        source, scale, offset = linear_in(scores, reader)
        product = made_by(source, "MatMul")
        if product is not None and offset == 0 and scale > 0:
            return product, scale, mask
    return None, 1.0, None


def _join(mix: ir.Node) -> ir.Node | None:
    """The Reshape of the transposed result, which puts the heads of a token side by side."""
    transpose = edit.only_reader(mix.outputs[0])
    if transpose is None or transpose.op_type != "Transpose":
        return None
    reshape = edit.only_reader(transpose.outputs[0])
    if tuple(transpose.attributes.get_ints("perm", ())) != TO_HEADS or reshape is None or reshape.op_type != "Reshape":
        return None
    target = edit.constant(reshape.inputs[1])
    if target is None or 0 in target[2:] or reshape.inputs[0] is not transpose.outputs[0]:
        return None  # a 0 further on would mean the heads, which the fused operator's result has not
    return reshape


def _mismatch(found: Found) -> str | None:
    query, key, value = found.query, found.key, found.value
    assert query is not None and key is not None and value is not None
    if len({query.heads, key.heads, value.heads}) != 1 or query.size != key.size or key.length != value.length:
        return "queries, keys and values have different heads or lengths"
    if len({_leading(each.source)[0] for each in (query, key, value)}) != 1:
        return "queries, keys and values have different batches"
    return None


def _unmade(found: Found) -> str | None:
    """Why the inputs of the operator cannot be had from what is there."""
    query, key, value = found.query, found.key, found.value
    assert query is not None and key is not None and value is not None
    if found.mask is not None and found.key_mask is None:
        return "its mask differs between queries: onnxruntime's operator is no faster with such a mask"
    edited = [each for each in (query, key, value) if not each.whole]
    if found.key_mask is not None:
        edited += [query, key]
    if any(read_projection(each.source) is None for each in edited):
        return "its queries or keys are not products with constant weights, which could carry the mask"
    return None


def _queries(graph: Editor, before: ir.Node, heads: Heads, scale: float, masked: bool) -> ir.Value:
    if not masked:
        return _columns(graph, before, heads)
    made = _projection(heads)
    made = Projection(made.x, made.weight * scale, made.bias * scale, True, made.dtype, made.stem)
    return _write(graph, before, _widened(made, heads, 1.0), heads)


def _keys(graph: Editor, before: ir.Node, heads: Heads, mask: KeyMask | None) -> ir.Value:
    if mask is None:
        made = read_projection(heads.source)
        return _columns(graph, before, heads) if made is None else _write(graph, before, _own(made, heads), heads)
    product = _write(graph, before, _widened(_own(_projection(heads), heads), heads, 0.0), heads)
    channel = mask_channel(graph, mask, heads)
    return graph.add("Add", [product, channel], like=product, before=before)


def _own(made: Projection, heads: Heads) -> Projection:
    """The columns of the heads, without a bias."""
    part = made.columns(heads.first, heads.heads * heads.size) if not heads.whole else made
    return Projection(part.x, part.weight, np.zeros_like(part.bias), False, part.dtype, part.stem)


def _projection(heads: Heads) -> Projection:
    made = read_projection(heads.source)
    assert made is not None
    return made.columns(heads.first, heads.heads * heads.size)


def _columns(graph: Editor, before: ir.Node, heads: Heads) -> ir.Value:
    """The tensor whose columns are these heads and nothing else."""
    return heads.source if heads.whole else _write(graph, before, _projection(heads), heads)


def _widened(made: Projection, heads: Heads, bias: float) -> Projection:
    """One more channel in each head, that is ``bias`` everywhere."""
    rows = len(made.weight)
    weight = np.pad(made.weight.reshape(rows, heads.heads, heads.size), ((0, 0), (0, 0), (0, 1))).reshape(rows, -1)
    wide = np.pad(made.bias.reshape(heads.heads, heads.size), ((0, 0), (0, 1)), constant_values=bias).reshape(-1)
    return Projection(made.x, weight, wide, made.has_bias, made.dtype, made.stem)


def _write(graph: Editor, before: ir.Node, made: Projection, heads: Heads) -> ir.Value:
    """The nodes of a projection."""
    inputs = [made.x, graph.weight(made.weight.astype(made.dtype), made.stem)]
    result = graph.add("MatMul", inputs, like=heads.source, before=before)
    result.shape = ir.Shape([*_leading(heads.source), made.weight.shape[1]])
    if made.has_bias:
        bias = graph.weight(made.bias.astype(made.dtype), f"{made.stem}_bias")
        result = graph.add("Add", [result, bias], like=result, before=before)
    return result


def _leading(source: ir.Value) -> list[int | str | None]:
    dims = dimensions(source)
    assert dims is not None
    return list(dims[:2])


def _same_shape(a: ir.Value, b: ir.Value) -> bool:
    dims = dimensions(b)
    return dims is not None and dims == dimensions(a)
