"""A mean of what a pointwise product makes is that product of the mean, and far less work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.affine import channel_vector, read_affine
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.linear import Linear, read_linear
from modelopt_cli.passes.fuse.pattern import only_made_for

POOLS = frozenset({"GlobalAveragePool", "AveragePool", "ReduceMean"})


@dataclass(frozen=True)
class Found:
    """The pooling, the linear node before it, and the Add between them or None."""

    pool: ir.Node
    linear: Linear
    bias: ir.Node | None


class PoolFirst(Rule[Found]):
    """Pool the input of a product at each point, and not its output.

    GlobalAveragePool(Conv(x, W [1 x 1], b)) -> Conv(GlobalAveragePool(x), W, b)
    AveragePool(Conv(x, W [1 x 1], b)) -> Conv(AveragePool(x), W, b)             (with a stride)
    ReduceMean(Conv(x, W [1 x 1], b), all pixels) -> Gemm(ReduceMean(x), W, b)    (without keepdims)
    ReduceMean(MatMul(x, W) + b, axis) -> MatMul(ReduceMean(x, axis), W) + b      (not the last axis)
    """

    name = "pool-first"
    roots = POOLS

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        product, bias = node.inputs[0], only_made_for(node.inputs[0], node, "Add")
        if bias is not None:
            affine = read_affine(bias)
            product = None if affine is None else affine.source
        before = only_made_for(product, bias or node, "Conv", "MatMul")
        linear = read_linear(before)
        return None if linear is None or not _is_pointwise(linear) else Found(node, linear, bias)

    def check(self, found: Found, graph: Editor) -> str | None:
        if found.bias is not None and _bias(found) is None:
            return "what is added before it is not one number per output"
        if found.pool.op_type == "ReduceMean":
            return _check_axes(found, graph)
        if found.linear.node.op_type != "Conv":
            return "it pools along the axis of the product"
        return _check_window(found.pool) if found.pool.op_type == "AveragePool" else None

    def rewrite(self, found: Found, graph: Editor) -> None:
        pool, linear = found.pool, found.linear.node
        source, out = linear.inputs[0], pool.outputs[0]
        assert source is not None
        attributes: dict[str, object] = {**pool.attributes}
        pooled = graph.add(pool.op_type, [source, *pool.inputs[1:]], like=source, before=pool, attributes=attributes)
        pooled.shape = _pooled_shape(source, linear.outputs[0], out, found.linear.axis)
        result = _product(found, pooled, graph)
        if found.bias is not None:
            array = _bias(found)
            assert array is not None
            result = graph.add("Add", [result, graph.weight(array, f"{out.name}_bias")], like=out, before=pool)
        graph.replace(out, result)


def _product(found: Found, pooled: ir.Value, graph: Editor) -> ir.Value:
    node, pool, out = found.linear.node, found.pool, found.pool.outputs[0]
    if node.op_type != "Conv" or _keeps_axes(pool):
        attributes: dict[str, object] = {**node.attributes}
        return graph.add(node.op_type, [pooled, *node.inputs[1:]], like=out, before=pool, attributes=attributes)
    weight = edit.constant(node.inputs[1])
    assert weight is not None
    matrix = graph.weight(weight.reshape(weight.shape[:2]), f"{out.name}_matrix")
    return graph.add("Gemm", [pooled, matrix, *node.inputs[2:]], like=out, before=pool, attributes={"transB": 1})


def _keeps_axes(pool: ir.Node) -> bool:
    return pool.op_type != "ReduceMean" or bool(pool.attributes.get_int("keepdims", 1))


def _is_pointwise(linear: Linear) -> bool:
    if linear.node.op_type == "MatMul":
        return True
    strides = linear.node.attributes.get_ints("strides", ())
    return linear.shape[3] == 1 and not linear.pads() and all(stride == 1 for stride in strides)


def _bias(found: Found) -> np.ndarray | None:
    """What is added, as one number per output along the last axis or along that of the channels."""
    affine, linear = read_affine(found.bias), found.linear
    if affine is None or affine.offset is None or affine.scale is not None or affine.node.op_type != "Add":
        return None
    vector = channel_vector(affine.offset, linear.rank, linear.axis, linear.outputs, 0.0)
    weight = edit.constant(linear.node.inputs[1])
    return None if vector is None or weight is None else np.array(vector, dtype=weight.dtype)


def _check_axes(found: Found, graph: Editor) -> str | None:
    pool, linear = found.pool, found.linear
    given = pool.inputs[1] if len(pool.inputs) > 1 else None
    axes = graph.shapes.numbers(given) if given is not None else tuple(pool.attributes.get_ints("axes", ()))
    if not axes:
        return "it joins all axes, or computed ones"
    reduced = {axis % linear.rank for axis in axes}
    if linear.node.op_type == "Conv":
        if not reduced <= set(range(2, linear.rank)):
            return "it joins outputs of the product, or images"
        as_matrix = linear.shape[0] == 1 and len(reduced) == linear.rank - 2
        return None if as_matrix or _keeps_axes(pool) else "it drops axes that the convolution needs"
    if linear.axis in reduced:
        return "it joins outputs of the product, or images"
    kept = linear.rank if _keeps_axes(pool) else linear.rank - len(reduced)
    return None if kept >= 2 else "it drops axes that the product needs"


def _check_window(pool: ir.Node) -> str | None:
    if any(pool.attributes.get_ints("pads", ())) or pool.attributes.get_string("auto_pad", "NOTSET") not in (
        "NOTSET",
        "VALID",
    ):
        return "it pads with zeros, which the bias would not reach"
    if pool.attributes.get_int("ceil_mode", 0):
        return "its last window may reach over the edge"
    strides = pool.attributes.get_ints("strides", ())
    return None if int(np.prod(strides)) > 1 else "without a stride it would be as much work"


def _pooled_shape(source: ir.Value, product: ir.Value, out: ir.Value, axis: int) -> ir.Shape | None:
    """The shape of the pooled source: that of the result, but for the number of channels."""
    if source.shape is None or out.shape is None or product.shape is None:
        return None
    dims = list(out.shape)
    place = axis if len(dims) == len(product.shape) else len(dims) - 1  # of a Conv, then, all pixels are gone
    dims[place] = source.shape[axis]
    return ir.Shape(dims)
