"""Attention that is spelled out, as the one operator that ONNX has for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import dimensions
from modelopt_cli.passes.fuse.affine import as_float
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.finite import is_moderate
from modelopt_cli.passes.fuse.heads import TO_HEADS, Heads, Projection, read_heads, read_projection
from modelopt_cli.passes.fuse.pattern import linear_in, made_by, only_made_for, operands

OPSET = 23
LOW = -1e38  # the kernel gives 0 for a row of nothing but float32's lowest number, where a Softmax spreads over it
NAMES = " (name-dims says which dimensions inputs share)"


@dataclass(frozen=True)
class Found:
    """Softmax(q k^T * scale + mask) v, as far as it is there.

    Attributes:
        softmax: The node in its middle.
        last: The Reshape that joins the heads again; None where there is none.
        query: Heads, and None for what is no projection split into heads; likewise key and value.
        scale: What the scores are multiplied with.
        mask: What is added to the scores.
        unlike: Why it is only nearly attention; what else there is of it is not looked at then.
    """

    softmax: ir.Node
    last: ir.Node | None
    query: Heads | None
    key: Heads | None
    value: Heads | None
    scale: float
    mask: ir.Value | None
    unlike: str | None = None


class FuseAttention(Rule[Found]):
    """Attention of opset 23, for which onnxruntime's CPU takes two thirds of the time of its parts.

    q, k, v = split(x Wq), split(y Wk), split(y Wv)
    merge(Softmax(q k^T * s + mask) v)   =>   Attention(x Wq, y Wk, y Wv, mask)

    A projection that makes all three is taken apart. A bias of the keys adds the same to all scores of a query, which a
    Softmax does not see: it goes; and what it gives values sums to 1, so that a bias of theirs goes on to that of the
    product behind. Masks are repeated for each query, once for all layers: the kernel wants that.
    """

    name = "fuse-attention"
    roots = frozenset({"Softmax"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        mix = edit.only_reader(node.outputs[0])
        if mix is None or mix.op_type != "MatMul" or mix.inputs[0] is not node.outputs[0]:
            unlike = _nearly(node)
            return None if unlike is None else Found(node, None, None, None, None, 1.0, None, unlike)
        product, scale, mask = _scores(node)
        if product is None:
            unlike = "its scores are no product of queries and keys, times a positive number, plus one mask"
            if not _is_over_keys(node):
                unlike = "its Softmax is not over the keys"
            return Found(node, None, None, None, None, 1.0, None, unlike)
        key, value = read_heads(product.inputs[1], transposed=True), read_heads(mix.inputs[1])
        return Found(node, _join(mix), read_heads(product.inputs[0]), key, value, scale, mask)

    def check(self, found: Found, graph: Editor) -> str | None:
        if found.unlike is not None:
            return found.unlike
        if found.last is None:
            return f"its heads are not joined by a Transpose and a Reshape of known shape{NAMES}"
        for what, heads in (("queries", found.query), ("keys", found.key), ("values", found.value)):
            if heads is None:
                return f"its {what} are not a projection split into heads, or their shape is not known"
        if found.softmax.outputs[0].dtype != ir.DataType.FLOAT:
            return "it is not float32"
        if (reason := _mismatch(found) or _unmade(found)) is not None:
            return reason
        if graph.opset < OPSET:
            graph.wish(OPSET)
            return f"Attention is an operator from opset {OPSET} on"
        return None

    def rewrite(self, found: Found, graph: Editor) -> None:
        query, key, value, last = found.query, found.key, found.value, found.last
        assert query is not None and key is not None and value is not None and last is not None
        inputs = [_columns(graph, last, query), _keys(graph, last, key), _values(graph, last, value)]
        if found.mask is not None:
            inputs.append(_mask(graph, found.mask, query))
        attributes: dict[str, object] = {"q_num_heads": query.heads, "kv_num_heads": key.heads, "scale": found.scale}
        result = graph.add("Attention", inputs, like=last.outputs[0], before=last, attributes=attributes)
        result.shape = ir.Shape([*_leading(query.source), value.heads * value.size])
        if _same_shape(result, last.outputs[0]):
            graph.replace(last.outputs[0], result)
        else:
            graph.set_input(last, 0, result)


def _nearly(softmax: ir.Node) -> str | None:
    """What keeps probabilities that a product reads, at once or behind a Reshape or a guard, from being attention."""
    readers = [usage.node for usage in softmax.outputs[0].uses()]
    products = [node for node in readers if node.op_type == "MatMul" and node.inputs[0] is softmax.outputs[0]]
    if products:
        return "its probabilities are read by more than the product with the values"
    behind = edit.only_reader(softmax.outputs[0])
    mix = None if behind is None else edit.only_reader(behind.outputs[0])
    if behind is None or mix is None or mix.op_type != "MatMul" or mix.inputs[0] is not behind.outputs[0]:
        return None
    if behind.op_type == "Reshape":
        return "several heads share its keys and values: products of groups take no longer than the operator"
    return f"a {behind.op_type} lies between its probabilities and the product with the values"


def _is_over_keys(softmax: ir.Node) -> bool:
    return softmax.attributes.get_int("axis", -1) in (-1, 3)


def _scores(softmax: ir.Node) -> tuple[ir.Node | None, float, ir.Value | None]:
    """The product of queries and keys behind a Softmax over keys, what it is multiplied with and what is added."""
    if not _is_over_keys(softmax):
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
    if any(not each.whole and read_projection(each.source) is None for each in (query, key, value)):
        return "queries, keys and values share a tensor that is not a product with a constant weight"
    if found.mask is None:
        return None
    dims, batch = dimensions(found.mask), _leading(query.source)[0]
    if dims is None or len(dims) != 4 or dims[3] != key.length:
        return f"its mask is not known to have four dimensions, the last of them the keys{NAMES}"
    wanted = ((1, batch), (1, query.heads), (1, query.length))
    if any(size not in allowed for size, allowed in zip(dims[:3], wanted, strict=True)):
        return f"the shape of its mask is not known{NAMES}"
    return None


def _mask(graph: Editor, mask: ir.Value, query: Heads) -> ir.Value:
    """The mask, not as low as float32 goes, with as many rows as there are queries; made once."""
    key = ("mask", mask, query.length)
    if key not in graph.shared:
        readers, dims = {usage.node for usage in mask.uses()}, dimensions(mask)
        first = next(node for node in graph.graph if node in readers)
        scores = next(value for value in first.inputs if value is not None and value is not mask)
        result = mask
        if not is_moderate(mask, LOW):
            result = _raised(graph, mask, first)
        if dims is None or dims[2] != query.length:
            result = _repeated(graph, result, scores, first, query)
        graph.shared[key] = result
    return graph.shared[key]


def _raised(graph: Editor, mask: ir.Value, before: ir.Node) -> ir.Value:
    """The mask without numbers below `LOW`: its constants where it chooses among some, else by a Clip."""
    chosen = made_by(mask, "Where")
    numbers = [] if chosen is None else [edit.scalar(value) for value in chosen.inputs[1:]]
    if chosen is not None and None not in numbers:
        raised = [np.array(max(number, LOW), np.float32) for number in numbers if number is not None]
        inputs = [chosen.inputs[0], *(graph.weight(each, f"{mask.name}_choice") for each in raised)]
        return graph.add("Where", inputs, like=mask, before=before)
    low = graph.weight(np.array(LOW, np.float32), f"{mask.name}_low")
    return graph.add("Clip", [mask, low], like=mask, before=before)


def _repeated(graph: Editor, mask: ir.Value, scores: ir.Value, before: ir.Node, query: Heads) -> ir.Value:
    dims = dimensions(mask)
    assert dims is not None
    ones = graph.weight(np.array([1], np.int64), f"{mask.name}_ones")
    if isinstance(query.length, int):
        target = graph.weight(np.array([1, 1, query.length, 1], np.int64), f"{mask.name}_shape")
    else:
        counted, axis = _with_rows(scores, before)
        rows = graph.add("Shape", [counted], like=mask, before=before, attributes={"start": axis, "end": axis + 1})
        rows.type, rows.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([1])
        target = graph.add("Concat", [ones, ones, rows, ones], like=rows, before=before, attributes={"axis": 0})
        target.shape = ir.Shape([4])
    result = graph.add("Expand", [mask, target], like=mask, before=before)
    result.shape = ir.Shape([*dims[:2], query.length, dims[3]])
    return result


def _with_rows(scores: ir.Value, reader: ir.Node) -> tuple[ir.Value, int]:
    """A tensor with a row for each query, and the axis of its rows: the queries, so that nothing needs the scores."""
    source, _, _ = linear_in(scores, reader)
    product = made_by(source, "MatMul")
    heads = read_heads(product.inputs[0]) if product is not None else None
    return (scores, 2) if heads is None else (heads.source, 1)


def _keys(graph: Editor, before: ir.Node, heads: Heads) -> ir.Value:
    made = read_projection(heads.source)
    if made is None or (heads.whole and not made.has_bias):
        return _columns(graph, before, heads)
    return _write(graph, before, _own(made, heads), heads)


def _values(graph: Editor, last: ir.Node, heads: Heads) -> ir.Value:
    """The values, without their bias where a product with a bias follows, which takes it."""
    made, behind = read_projection(heads.source), _bias_behind(last)
    alone = not heads.whole or edit.only_reader(heads.source) is not None
    if made is None or not made.has_bias or behind is None or not alone:
        return _columns(graph, last, heads)
    add, index, weight, bias = behind
    own = made if heads.whole else made.columns(heads.first, heads.heads * heads.size)
    moved = graph.weight((bias + own.bias @ weight).astype(made.dtype), f"{made.stem}_bias_behind")
    graph.set_input(add, index, moved)
    return _write(graph, last, _own(made, heads), heads)


def _bias_behind(last: ir.Node) -> tuple[ir.Node, int, np.ndarray, np.ndarray] | None:
    """The Add behind the product that reads joined heads, where its bias is, the product's weight and that bias."""
    product = edit.only_reader(last.outputs[0])
    if product is None or product.op_type != "MatMul" or product.inputs[0] is not last.outputs[0]:
        return None
    add, weight = edit.only_reader(product.outputs[0]), as_float(edit.constant(product.inputs[1]))
    if add is None or add.op_type != "Add" or weight is None or weight.ndim != 2:
        return None
    index = 1 if add.inputs[0] is product.outputs[0] else 0
    bias = as_float(edit.constant(add.inputs[index]))
    return None if bias is None or bias.shape != (weight.shape[1],) else (add, index, weight, bias)


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
