"""The dependency graph of a model's channels: what can leave, what leaves with it, and what cannot, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import constant
from modelopt_cli.graph.shapes import Elements
from modelopt_cli.passes.base import Skip
from modelopt_cli.passes.prune.states import GATES
from modelopt_cli.passes.prune.structured import rules_attention
from modelopt_cli.passes.prune.structured import rules_pointwise as pointwise
from modelopt_cli.passes.prune.structured import rules_product as product
from modelopt_cli.passes.prune.structured import rules_shape as shape
from modelopt_cli.passes.prune.structured.channels import Axis
from modelopt_cli.passes.prune.structured.flow import Flow, Product, Refuse, captured, inferred_shapes
from modelopt_cli.passes.prune.structured.groups import Group, find_groups

Rule = Callable[[Flow, ir.Node], list[list[Axis] | None]]

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(pointwise.UNARY, pointwise.unary),
    **dict.fromkeys(pointwise.ELEMENTWISE, pointwise.elementwise),
    **dict.fromkeys(pointwise.POOLING, pointwise.pool),
    **dict.fromkeys(pointwise.NORMALISED_TOGETHER, pointwise.normalised_together),
    **dict.fromkeys(pointwise.REDUCTIONS, pointwise.reduction),
    **dict.fromkeys(pointwise.ALONG_AXIS, pointwise.along_axis),
    **dict.fromkeys(GATES, product.recurrent),
    "BatchNormalization": pointwise.batch_norm,
    "InstanceNormalization": pointwise.batch_norm,
    "QuantizeLinear": pointwise.quantize,
    "DequantizeLinear": pointwise.quantize,
    "Conv": product.conv,
    "ConvTranspose": product.conv_transpose,
    "MatMul": product.matmul,
    "Gemm": product.gemm,
    "Einsum": product.einsum,
    "Attention": rules_attention.attention,
    "Reshape": shape.reshape,
    "Flatten": shape.flatten,
    "Squeeze": shape.squeeze,
    "Unsqueeze": shape.unsqueeze,
    "Transpose": shape.transpose,
    "Concat": shape.concat,
    "Split": shape.split,
    "Slice": shape.slice_,
    "Gather": shape.gather,
    "Pad": shape.pad,
    "Resize": shape.resize,
    "Upsample": shape.resize,
    "Expand": shape.expand,
    "DepthToSpace": shape.depth_to_space,
    "SpaceToDepth": shape.space_to_depth,
    "Shape": shape.shape,
}
_OURS = {("com.microsoft", "QuickGelu"), ("com.microsoft", "Gelu")}


@dataclass(frozen=True)
class Dependencies:
    """Channels of one graph.

    Attributes:
        flow: Axes of all tensors.
        label: Component of each channel; what has one label goes together.
        groups: Interchangeable components that may leave, in graph order.
        skipped: Weighted sums whose outputs stay, with the reason.
    """

    flow: Flow
    label: np.ndarray
    groups: tuple[Group, ...]
    skipped: tuple[Skip, ...]

    @property
    def products(self) -> list[Product]:
        """Every weighted sum, in graph order."""
        return self.flow.products


def find_dependencies(model: ir.Model, shapes: Mapping[str, Elements] | None = None) -> Dependencies:
    """Follow every channel of the main graph; the same graph gives the same numbers. The model is not edited.

    Args:
        model: Any model.
        shapes: What `inferred_shapes` told, when that is known already.
    """
    flow = Flow(dict(inferred_shapes(model) if shapes is None else shapes))
    for value in model.graph.inputs:
        if (axes := flow.still(value, "it is an input of the model")) is not None:
            flow.values[value] = axes
    for node in model.graph:
        _follow(flow, node)
    for value in model.graph.outputs:
        flow.hold(flow.values.get(value, []), "it is an output of the model")
        flow.hold(flow.weights.get((value, None), []), "it is an output of the model")
    parts = flow.channels.components()
    groups, skipped = find_groups(flow, parts)
    return Dependencies(flow, parts.label, groups, skipped)


def _follow(flow: Flow, node: ir.Node) -> None:
    if node.op_type == "Constant":
        return
    rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") or (node.domain, node.op_type) in _OURS else None
    try:
        if rule is None:
            raise Refuse(f"nothing is known of {node.op_type} '{node.name}'")
        outputs = rule(flow, node)
    except Refuse as refusal:
        outputs = _hold_all(flow, node, str(refusal))
    for value in captured(node):
        flow.hold(flow.values.get(value, []), f"a subgraph of {node.op_type} '{node.name}' reads it")
        if constant(value) is not None:
            flow.hold(flow.weights.get((value, None), []), f"a subgraph of {node.op_type} '{node.name}' reads it")
    for value, axes in zip(node.outputs, outputs, strict=False):
        if axes is None:
            axes = flow.still(value, f"{node.op_type} '{node.name}' makes it")
        if axes is not None:
            flow.values[value] = axes


def _hold_all(flow: Flow, node: ir.Node, why: str) -> list[list[Axis] | None]:
    """Everything that comes in stays, and so does what a rule has begun to couple to it."""
    for index, value in enumerate(node.inputs):
        if value is not None and value in flow.values:
            flow.hold(flow.values[value], why)
        if value is not None:
            flow.hold(flow.weights.get((value, None), flow.weights.get((value, (node, index)), [])), why)
    return [flow.still(value, why) for value in node.outputs]
