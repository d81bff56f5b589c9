"""Constant folding: everything that constants alone decide is computed once, in one session."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from modelopt_cli.errors import ModelOptError
from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import static_shape
from modelopt_cli.profiling.session import open_session, runtime_errors

MAX_GROWTH_BYTES = 1 << 12  # a folded value may be this much larger than the weights that go with it, no more
MAX_VALUE_BYTES = 1 << 28  # nothing larger is even computed

RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
# Dequantized weights are stored small on purpose; folding one would undo the quantization.
KEPT = RANDOM | {"DequantizeLinear", "Dropout"}
# Their output can be far larger than their inputs, so they wait until its size is known.
GROWING = frozenset({"ConstantOfShape", "Expand", "Tile", "Range", "OneHot", "Resize", "Upsample", "Pad", "EyeLike"})


def fold_constants(model: ir.Model) -> int:
    """Replace nodes whose inputs are all constant by initializers, in branches and loop bodies too.

    Each makes the file at most `MAX_GROWTH_BYTES` larger; what would take more is left to be computed.

    Returns:
        Number of nodes folded.
    """
    return sum(_fold_graph(model, graph) for graph in edit.all_graphs(model))


def _fold_graph(model: ir.Model, graph: ir.Graph) -> int:
    refused: set[ir.Node] = set()
    while foldable := _foldable(graph, refused):
        frontier = [v for node in foldable for v in node.outputs if _is_read_outside(v, foldable)]
        arrays = _evaluate(model, list(foldable), frontier)
        failed = [value for value in frontier if value not in arrays]
        too_large = [] if failed else _too_large(foldable, arrays)
        if not failed and not too_large:
            return _commit(graph, list(foldable), arrays)
        refused |= {p for value in (*failed, *too_large) if (p := value.producer()) is not None}
    return 0


def _foldable(graph: ir.Graph, refused: set[ir.Node]) -> dict[ir.Node, None]:
    found: dict[ir.Node, None] = {}
    for node in graph:
        if node in refused or not _may_fold(node):
            continue
        if all(v is None or v.producer() in found or edit.constant(v) is not None for v in node.inputs):
            found[node] = None
    return found


def _may_fold(node: ir.Node) -> bool:
    if node.domain not in ("", "ai.onnx") or node.op_type in KEPT or not node.outputs:
        return False
    if node.op_type == "Constant" or any(isinstance(a.value, ir.Graph) for a in node.attributes.values()):
        return False
    if any(not _is_plain(value) for value in node.outputs):
        return False
    size = max(_bytes(value) for value in node.outputs)
    return size <= (MAX_GROWTH_BYTES if node.op_type in GROWING else MAX_VALUE_BYTES)


def _is_plain(value: ir.Value) -> bool:
    """A tensor of numbers that is not an output of the model: an output must be computed by some node."""
    special = isinstance(value.type, (ir.SequenceType, ir.OptionalType)) or value.dtype == ir.DataType.STRING
    return not special and not value.is_graph_output()


def _bytes(value: ir.Value) -> int:
    """Size by the inferred shape; what is unknown counts as small, because only shape arithmetic is known so badly."""
    shape = static_shape(value)
    return 0 if shape is None else int(np.prod(shape, dtype=np.int64)) * 8


def _is_read_outside(value: ir.Value, nodes: dict[ir.Node, None]) -> bool:
    return any(usage.node not in nodes for usage in value.uses())


def _evaluate(model: ir.Model, nodes: Sequence[ir.Node], wanted: Sequence[ir.Value]) -> dict[ir.Value, np.ndarray]:
    """Compute ``wanted``; in the runtime when it is installed and takes the nodes, else one by one in the reference."""
    feeds = {v: a for node in nodes for v in node.inputs if v is not None and (a := edit.constant(v)) is not None}
    if importlib.util.find_spec("onnxruntime") is not None:
        try:
            session = open_session(_submodel(model, nodes, feeds, wanted), optimize="off", arena=False)
            results = session.run(None, {v.name or "": a for v, a in feeds.items()})
            return dict(zip(wanted, results, strict=True))
        except _failures():
            pass  # an operator or a type that this runtime has no kernel for
    return _evaluate_each(model, nodes, feeds, wanted)


def _failures() -> tuple[type[Exception], ...]:
    return (ModelOptError, *runtime_errors())


def _evaluate_each(
    model: ir.Model, nodes: Sequence[ir.Node], feeds: dict[ir.Value, np.ndarray], wanted: Iterable[ir.Value]
) -> dict[ir.Value, np.ndarray]:
    known = dict(feeds)
    for node in nodes:
        inputs = {v: known[v] for v in node.inputs if v is not None and v in known}
        if len(inputs) < len({v for v in node.inputs if v is not None}):
            continue  # an earlier node of the chain failed
        try:
            evaluator = ReferenceEvaluator(_submodel(model, [node], inputs, node.outputs))
            results = evaluator.run(None, {v.name: a for v, a in inputs.items()})
        except Exception:
            continue
        known.update(zip(node.outputs, results, strict=True))
    return {value: known[value] for value in wanted if value in known}


def _submodel(
    model: ir.Model, nodes: Sequence[ir.Node], feeds: dict[ir.Value, np.ndarray], wanted: Iterable[ir.Value]
) -> bytes:
    """The nodes alone, with their constants as inputs, so that weights are never serialized."""

    def declared(value: ir.Value, array: np.ndarray) -> onnx.ValueInfoProto:
        dtype = value.const_value.dtype if value.const_value is not None else ir.DataType.from_numpy(array.dtype)
        return onnx.helper.make_tensor_value_info(value.name or "", int(dtype), array.shape)

    graph = onnx.helper.make_graph(
        [ir.to_proto(node) for node in nodes],
        "constants",
        [declared(value, array) for value, array in feeds.items()],
        [onnx.ValueInfoProto(name=value.name) for value in wanted],
    )
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in model.opset_imports.items()]
    proto = onnx.helper.make_model(graph, opset_imports=imports, ir_version=model.ir_version)
    content: bytes = proto.SerializeToString()
    return content


def _too_large(nodes: dict[ir.Node, None], arrays: dict[ir.Value, np.ndarray]) -> list[ir.Value]:
    """The results that are larger than the weights that go with them, by more than the limit."""
    large = [value for value, array in arrays.items() if array.nbytes > MAX_GROWTH_BYTES]
    return [value for value in large if arrays[value].nbytes - _freed_bytes(value, nodes) > MAX_GROWTH_BYTES]


def _freed_bytes(value: ir.Value, nodes: dict[ir.Node, None]) -> int:
    """Bytes of the weights that nothing but the making of ``value`` reads."""
    cone: dict[ir.Node, None] = {}
    pending = [value.producer()]
    while pending:
        node = pending.pop()
        if node is not None and node in nodes and node not in cone:
            cone[node] = None
            pending.extend(v.producer() for v in node.inputs if v is not None)
    weights = {v for node in cone for v in node.inputs if v is not None and v.is_initializer()}
    return sum(v.const_value.nbytes for v in weights if v.const_value is not None and not _is_read_outside(v, cone))


def _commit(graph: ir.Graph, nodes: Sequence[ir.Node], arrays: dict[ir.Value, np.ndarray]) -> int:
    for value, array in arrays.items():
        weight = edit.add_weight(graph, value.name or "constant", array)
        value.replace_all_uses_with(weight)
    before = len(graph)
    edit.remove_dead(graph, nodes[::-1])
    return before - len(graph)
