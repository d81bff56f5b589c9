"""The pass that stores or computes in float16."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from modelopt_cli.data.dataset import Dataset
from modelopt_cli.graph.edit import add_node, add_weight, constant, forget_names, fresh_name, replace_output
from modelopt_cli.passes.base import Pass, PassContext, PassResult, Skip
from modelopt_cli.passes.quantize.builder import drop_unread_weights
from modelopt_cli.passes.quantize.lowbit.half_ranges import HalfTypes, choose_half_nodes, fits_half
from modelopt_cli.passes.quantize.lowbit.slots import is_lookup
from modelopt_cli.profiling.session import open_session, run

MIN_ELEMENTS = 256  # below, the Cast takes what half of the weight gives back
CHECKED_SAMPLES = 16
_NO_DATA = {
    "code": "no-calibration-data",
    "message": "no calibration data: ranges are not known, so only weights are float16",
    "advice": "--calib FILE lets operators compute in float16",
}
_NOT_FINITE = {
    "code": "float16-undone",
    "message": "computing in float16 gave infinities or no session on the calibration data: only weights are float16",
    "advice": "compute: weights says so from the start",
}


class ConvertFloat16(Pass):
    """Halve the file with float16 weights, and on GPUs compute in float16 where the ranges of values allow it.

    CPUs have no float16 kernels to speak of: there only weights are stored in float16, and a session makes them float32
    when it loads. Elsewhere operators compute in float16, but for sums and exponentials, values that calibration data
    shows to overflow, and constants that float16 cannot hold. Inputs and outputs of the model stay float32.
    """

    name: ClassVar[str] = "convert-float16"
    family: ClassVar[Literal["fuse", "prune", "quantize"]] = "quantize"
    effect: ClassVar[Literal["exact", "lossy"]] = "lossy"
    min_opset: ClassVar[int] = 13

    compute: Annotated[
        Literal["auto", "float16", "weights"],
        Field(description="weights: only the file is float16; auto: weights on CPUs, float16 elsewhere."),
    ] = "auto"

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        """Return ``model`` edited, or a clone of it; see the class."""
        forget_names(model)
        computes = self.compute == "float16" or (
            self.compute == "auto" and ctx.target.provider not in ("cpu", "openvino")
        )
        if not computes:
            return _store_weights(model)
        if ctx.calibration is None:
            return _with_notice(_store_weights(model), _NO_DATA)
        half = model.clone()
        result = _compute_in_half(half, ctx.calibration, ctx)
        if _is_finite(result.model, ctx.calibration):
            return result
        return _with_notice(_store_weights(model), _NOT_FINITE)


def _with_notice(result: PassResult, notice: dict[str, str]) -> PassResult:
    return replace(result, details=result.details | {"notices": [notice]})


def _store_weights(model: ir.Model) -> PassResult:
    stored, skipped = 0, []
    for name, value in list(model.graph.initializers.items()):
        array = constant(value)
        if array is None or array.dtype != np.float32 or array.size < MIN_ELEMENTS or value.is_graph_output():
            continue
        if not fits_half(array):
            skipped.append(Skip(name, "float16 cannot hold its values"))
            continue
        _store(model, value, array)
        stored += 1
    drop_unread_weights(model.graph)
    return PassResult(model, stored, tuple(skipped), {"weights": stored})


def _store(model: ir.Model, value: ir.Value, array: np.ndarray) -> None:
    half = add_weight(model.graph, f"{value.name}_half", array.astype(np.float16))
    lookups = {use.node for use in value.uses() if use.idx == 0 and is_lookup(use.node)}
    for node in lookups:  # the rows that are looked up become float32, not the table at each run
        output = node.outputs[0]
        assert isinstance(node.graph, ir.Graph)
        rows = add_node(
            node.graph, node, "Gather", [half, node.inputs[1]], stem=f"{node.name}_half", attributes={"axis": 0}
        )
        replace_output(output, _cast(node, rows, ir.DataType.FLOAT, output.shape))
        node.graph.remove(node, safe=True)
    if value.uses():
        value.replace_all_uses_with(_cast(model.graph[0], half, ir.DataType.FLOAT, value.shape))


def _compute_in_half(model: ir.Model, data: Dataset, ctx: PassContext) -> PassResult:
    types = HalfTypes(model)
    nodes, skipped = choose_half_nodes(model, types, data, ctx.progress)
    _Halves(model, types, nodes).write()
    stored = _store_weights(model)  # of what stays float32
    details = {"nodes": len(nodes), "weights": stored.changed}
    return PassResult(model, len(nodes) + stored.changed, (*skipped, *stored.skipped), details)


class _Halves:
    """Writes chosen nodes in float16, with a Cast where a value passes between them and the others."""

    def __init__(self, model: ir.Model, types: HalfTypes, nodes: Iterable[ir.Node]) -> None:
        self._model, self._types = model, types
        self._nodes = dict.fromkeys(nodes)
        self._made = {value for node in self._nodes for _, value in types.outputs(node)}
        self._halves: dict[ir.Value, ir.Value] = {}

    def write(self) -> None:
        for node in self._nodes:
            for index, value in list(self._types.inputs(node)):
                if value not in self._made:
                    node.replace_input_with(index, self._half(value))
        for node in self._nodes:
            for _, value in list(self._types.outputs(node)):
                self._widen(node, value)
        drop_unread_weights(self._model.graph)

    def _half(self, value: ir.Value) -> ir.Value:
        """A float32 value that other nodes make, as float16."""
        if value not in self._halves:
            array, producer = constant(value), value.producer()
            if array is not None:
                self._halves[value] = add_weight(self._model.graph, f"{value.name}_half", array.astype(np.float16))
            else:
                place = self._model.graph[0] if producer is None else producer
                after = producer is not None
                self._halves[value] = _cast(place, value, ir.DataType.FLOAT16, value.shape, after=after)
        return self._halves[value]

    def _widen(self, node: ir.Node, value: ir.Value) -> None:
        """Give readers that stay float32 a Cast of a value that is float16 now."""
        inside = [(use.node, use.idx) for use in value.uses() if self._reads_half(use.node, use.idx)]
        if len(inside) < len(value.uses()) or value.is_graph_output():
            wide = _cast(node, value, ir.DataType.FLOAT, value.shape, after=True)
            cast = wide.producer()
            replace_output(value, wide)
            assert cast is not None
            for reader, index in [*inside, (cast, 0)]:
                reader.replace_input_with(index, value)
        value.type = ir.TensorType(ir.DataType.FLOAT16)

    def _reads_half(self, node: ir.Node, index: int) -> bool:
        return node in self._nodes and any(found == index for found, _ in self._types.inputs(node))


def _cast(
    place: ir.Node, value: ir.Value, dtype: ir.DataType, shape: ir.Shape | None, *, after: bool = False
) -> ir.Value:
    graph = place.graph
    assert isinstance(graph, ir.Graph)
    node = ir.node("Cast", [value], {"to": int(dtype)}, name=fresh_name(graph, f"{value.name}_cast"))
    node.outputs[0].name = fresh_name(graph, f"{value.name}_{dtype.name.lower()}")
    node.outputs[0].type, node.outputs[0].shape = ir.TensorType(dtype), shape
    (graph.insert_after if after else graph.insert_before)(place, node)
    return node.outputs[0]


def _is_finite(model: ir.Model, data: Dataset) -> bool:
    session = open_session(model, arena=False)
    return all(
        np.isfinite(array).all()
        for sample in data.take(CHECKED_SAMPLES)
        for array in run(session, dict(sample))
        if array.dtype.kind == "f"
    )
