"""The shapes tensors really have: models with free dimensions tell them only when they run."""

from __future__ import annotations

import onnx_ir as ir

from modelopt_cli.data.dataset import Sample
from modelopt_cli.graph.shapes import infer_shapes
from modelopt_cli.profiling.session import open_session, run


class Shapes(dict[str, tuple[int, ...]]):
    """Shape of each tensor of a main graph, by name.

    Attributes:
        not_float: Names of tensors that hold something else than float32, where the graph itself does not say.
    """

    not_float: frozenset[str] = frozenset()


def observed_shapes(model: ir.Model, sample: Sample) -> Shapes:
    """Shape of every tensor of the main graph, by name, when the model runs on ``sample``.

    One run in which each tensor is asked for its shape alone: memory stays that of a normal run.

    Raises:
        ModelError: The model does not run on the sample.
    """
    clone = model.clone()
    graph = clone.graph
    infer_shapes(clone)  # tells sequences and tensors apart
    tensors = [v for node in graph for v in node.outputs if v.name]
    nodes = [ir.node("Shape", [value]) for value in tensors if _is_tensor(value)]
    for index, node in enumerate(nodes):
        node.outputs[0].name = f"modelopt.shape.{index}"
        node.outputs[0].type = ir.TensorType(ir.DataType.INT64)
    names = [node.inputs[0].name for node in nodes if node.inputs[0] is not None]
    graph.outputs.clear()
    graph.extend(nodes)
    graph.outputs.extend(node.outputs[0] for node in nodes)
    shapes = Shapes({name: tuple(array.shape) for name, array in sample.items()})
    shapes.not_float = frozenset(str(v.name) for v in tensors if v.dtype not in (None, ir.DataType.FLOAT))
    shapes |= {
        n: tuple(v.const_value.numpy().shape) for n, v in graph.initializers.items() if v.const_value is not None
    }
    if nodes:
        found = run(open_session(clone, arena=False, optimize="basic"), dict(sample))
        shapes |= {str(name): tuple(int(n) for n in array) for name, array in zip(names, found, strict=True)}
    return shapes


def _is_tensor(value: ir.Value) -> bool:
    if value.type is not None:
        return isinstance(value.type, ir.TensorType)
    node = value.producer()
    return node is None or not ("Sequence" in node.op_type or node.op_type.startswith("Optional"))
