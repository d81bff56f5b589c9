"""Which parts of a model can compute in 16 bits: by operator, by the range of its values, by its constants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx
import onnx_ir as ir

from modelopt_cli.calibration.collector import collect_ranges
from modelopt_cli.data.dataset import Dataset
from modelopt_cli.graph.edit import constant
from modelopt_cli.graph.shapes import infer_shapes
from modelopt_cli.passes.base import Skip
from modelopt_cli.passes.quantize.lowbit.half_format import HalfFormat
from modelopt_cli.progress import Progress

HEADROOM = 2.0  # other inputs than the calibration samples may go further
# Sums of many terms and exponentials lose digits or overflow inside the kernel, which no range of its output shows: the
# list of mixed-precision training (Micikevicius et al. 2017, arXiv 1710.03740, and torch.autocast's).
SUMMING = frozenset(
    (
        *("LayerNormalization", "InstanceNormalization", "GroupNormalization", "MeanVarianceNormalization"),
        *("LpNormalization", "ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum"),
        *("ReduceLogSumExp", "CumSum", "Softmax", "LogSoftmax", "Exp", "Pow", "Softplus"),
    )
)
TYPED = frozenset(  # an attribute says what their outputs are
    ("Cast", "CastLike", "Constant", "ConstantOfShape", "Range", "EyeLike", "RandomNormal", "RandomUniform")
)


class HalfTypes:
    """What onnx's schemas and shape inference say of a model's floats."""

    def __init__(self, model: ir.Model, half: HalfFormat) -> None:
        self.half = half
        typed = model.clone()
        infer_shapes(typed)
        values = [value for graph in typed.graphs() for value in (*graph.inputs, *graph.initializers.values())]
        values += [value for node in typed.graph.all_nodes() for value in node.outputs]
        self._floats = {value.name for value in values if value.dtype == ir.DataType.FLOAT}
        self._opset = model.opset_imports[""]

    def is_float(self, value: ir.Value) -> bool:
        """Whether a value is float32."""
        return value.name in self._floats

    def inputs(self, node: ir.Node) -> Iterator[tuple[int, ir.Value]]:
        """The float32 inputs that may have 16 bits instead, with their index."""
        yield from self._of(node, node.inputs, "inputs")

    def outputs(self, node: ir.Node) -> Iterator[tuple[int, ir.Value]]:
        """The float32 outputs that have 16 bits when those inputs are."""
        yield from self._of(node, node.outputs, "outputs")

    def _of(self, node: ir.Node, values: Sequence[ir.Value | None], side: str) -> Iterator[tuple[int, ir.Value]]:
        if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type):
            return
        schema = onnx.defs.get_schema(node.op_type, self._opset)
        half = {rule.type_param_str for rule in schema.type_constraints if self.half.tensor in rule.allowed_type_strs}
        formal = getattr(schema, side)
        for index, value in enumerate(values):
            if value is not None and self.is_float(value) and formal[min(index, len(formal) - 1)].type_str in half:
                yield index, value


def choose_half_nodes(
    model: ir.Model, types: HalfTypes, data: Dataset, progress: Progress
) -> tuple[list[ir.Node], list[Skip]]:
    """Nodes of the main graph that can compute in float16, in graph order, and why others stay float32."""
    chosen, skipped = [], []
    for node in model.graph:
        outputs = [value for _, value in types.outputs(node)]
        if not outputs or node.op_type in TYPED:
            continue
        reason = _refusal(node, types)
        if reason is not None:
            skipped.append(Skip(node.name or node.op_type, reason))
        else:
            chosen.append(node)
    computed = [str(value.name) for node in chosen for _, value in (*types.inputs(node), *types.outputs(node))]
    names = [name for name in dict.fromkeys(computed) if name not in model.graph.initializers]
    ranges = collect_ranges(model, names, data, progress=progress)
    kept = []
    for node in chosen:
        values = [v.name for _, v in (*types.inputs(node), *types.outputs(node)) if v.name in ranges]
        most = max((max(-ranges[name].low, ranges[name].high) for name in values if name), default=0.0)
        if most * HEADROOM > types.half.largest:
            skipped.append(Skip(node.name or node.op_type, f"its values are too large for {types.half.name}"))
        else:
            kept.append(node)
    return kept, skipped


def _refusal(node: ir.Node, types: HalfTypes) -> str | None:
    if node.op_type in SUMMING:
        return f"{node.op_type} sums or exponentiates: it stays float32"
    if any(isinstance(attribute.value, ir.Graph) for attribute in node.attributes.values()):
        return "it holds a subgraph"
    if node.op_type == "Resize" and node.attributes.get_string("mode", "nearest") == "cubic":
        return "not every provider resizes by cubic curves in 16 bits"
    if any((array := constant(value)) is not None and not types.half.holds(array) for _, value in types.inputs(node)):
        return f"a constant of it is too large or too small for {types.half.name}"
    return None
