"""Arithmetic beside a BatchNormalization goes into its own numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import rank
from modelopt_cli.passes.fuse.affine import AFFINE_OPS, Affine, as_float, channel_vector, read_affine, rounded
from modelopt_cli.passes.fuse.engine import Editor, Rule

NORM = "BatchNormalization"

Parts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # gamma, beta, mean, variance, each [channels]


@dataclass(frozen=True)
class Found:
    """The second of the two nodes, the norm, what the first one reads, and the norm's new numbers."""

    last: ir.Node
    norm: ir.Node
    source: ir.Value
    parts: Parts | None


class MergeBatchNorm(Rule[Found]):
    """Let the norm do what stands before or behind it, where no convolution is near to take both.

    s * BatchNormalization(x, g, b, m, v) + o -> BatchNormalization(x, s g, s b + o, m, v)
    BatchNormalization(s * x + o, g, b, m, v) -> BatchNormalization(x, s g, b, (m - o) / s, v)
    """

    name = "merge-batch-norm"
    roots = AFFINE_OPS

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        sources = [value.producer() for value in node.inputs if value is not None]
        if not any(each is not None and each.op_type == NORM for each in (node, *sources)):
            return None
        second = read_affine(node)
        first = None if second is None else read_affine(second.source.producer())
        if first is None or second is None or edit.only_reader(second.source) is not node:
            return None
        if first.node.op_type == NORM:
            return Found(node, first.node, first.source, _behind(first.node, second))
        if second.node.op_type == NORM:
            return Found(node, second.node, first.source, _in_front(second.node, first))
        return None

    def check(self, found: Found, graph: Editor) -> str | None:
        if found.parts is None:
            return "the constant is not one number per channel, or 0"
        fits = all(rounded(part, _dtype(found.norm)) is not None for part in found.parts)
        return None if fits else "the new numbers of the norm do not fit their type"

    def rewrite(self, found: Found, graph: Editor) -> None:
        assert found.parts is not None
        out, dtype = found.last.outputs[0], _dtype(found.norm)
        names = [value.name if value is not None else "norm" for value in found.norm.inputs[1:5]]
        weights = [graph.weight(part.astype(dtype), f"{name}") for part, name in zip(found.parts, names, strict=True)]
        attributes: dict[str, object] = {**found.norm.attributes}
        result = graph.add(NORM, [found.source, *weights], like=out, before=found.last, attributes=attributes)
        graph.replace(out, result)


def _behind(norm: ir.Node, after: Affine) -> Parts | None:
    parts, vectors = _parts(norm), _vectors(norm, after)
    if parts is None or vectors is None:
        return None
    gamma, beta, mean, variance = parts
    return gamma * vectors[0], beta * vectors[0] + vectors[1], mean, variance


def _in_front(norm: ir.Node, before: Affine) -> Parts | None:
    parts, vectors = _parts(norm), _vectors(norm, before)
    if parts is None or vectors is None or not np.all(vectors[0]):
        return None
    gamma, beta, mean, variance = parts
    return gamma * vectors[0], beta, (mean - vectors[1]) / vectors[0], variance


def _parts(norm: ir.Node) -> Parts | None:
    gamma, beta, mean, variance = (as_float(edit.constant(value)) for value in norm.inputs[1:5])
    if gamma is None or beta is None or mean is None or variance is None:
        return None
    return gamma, beta, mean, variance


def _vectors(norm: ir.Node, affine: Affine) -> tuple[np.ndarray, np.ndarray] | None:
    """Factor and summand, one number per channel of the norm."""
    gamma, dims = edit.constant(norm.inputs[1]), rank(norm.inputs[0])
    if gamma is None or dims is None or dims < 2:
        return None
    scale = channel_vector(affine.scale, dims, 1, gamma.size, 1.0)
    offset = channel_vector(affine.offset, dims, 1, gamma.size, 0.0)
    return None if scale is None or offset is None else (scale, offset)


def _dtype(norm: ir.Node) -> np.dtype:
    gamma = edit.constant(norm.inputs[1])
    assert gamma is not None
    return gamma.dtype
