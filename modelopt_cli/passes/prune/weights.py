"""Which tensors of a model are weights that can be pruned, and which of them the user means."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import onnx_ir as ir

from modelopt_cli.errors import UsageError
from modelopt_cli.graph.edit import all_nodes, constant, replace_weight
from modelopt_cli.passes.base import Skip

# operator -> inputs that hold weights; biases, initial states and peepholes are left alone
WEIGHT_INPUTS: dict[tuple[str, str], tuple[int, ...]] = {
    ("", "Conv"): (1,),
    ("", "ConvTranspose"): (1,),
    ("", "Gemm"): (0, 1),
    ("", "MatMul"): (0, 1),
    ("", "LSTM"): (1, 2),
    ("", "GRU"): (1, 2),
    ("", "RNN"): (1, 2),
    ("com.microsoft", "FusedConv"): (1,),
    ("com.microsoft", "FusedGemm"): (0, 1),
    ("com.microsoft", "FusedMatMul"): (0, 1),
}
_EITHER_OPERAND = frozenset({"Gemm", "MatMul", "FusedGemm", "FusedMatMul"})
_SUGGESTIONS = 3


@dataclass(frozen=True)
class Weight:
    """A constant tensor with the nodes that read it as their weight."""

    value: ir.Value
    nodes: tuple[ir.Node, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What a person may call it: its own name and those of its nodes."""
        return tuple(name for name in (self.value.name, *(node.name for node in self.nodes)) if name)

    def array(self) -> np.ndarray:
        """The numbers; never write into them."""
        array = constant(self.value)
        assert array is not None
        return array

    def replace(self, array: np.ndarray) -> None:
        """Give it other numbers of the same shape and type."""
        if self.value.is_initializer():
            replace_weight(self.value, array)
            return
        node = self.value.producer()
        assert node is not None
        tensor = ir.Tensor(array, name=node.attributes["value"].as_tensor().name)
        node.attributes["value"] = ir.AttrTensor("value", tensor)
        if self.value.const_value is not None:
            self.value.const_value = tensor


def find_weights(model: ir.Model) -> tuple[list[Weight], list[Skip]]:
    """Every prunable weight once, in graph order, and what looks like one but is not, with the reason."""
    readers: dict[int, list[ir.Node]] = {}
    values: dict[int, ir.Value] = {}
    skipped = []
    for node, value in _weight_uses(model):
        reason = _refusal(node, value)
        if reason == "":
            values[id(value)] = value
            readers.setdefault(id(value), []).append(node)
        elif reason is not None:
            skipped.append(Skip(node.name or value.name or node.op_type, reason))
    return [Weight(value, tuple(dict.fromkeys(readers[key]))) for key, value in values.items()], skipped


def select_weights(
    model: ir.Model, weights: Sequence[Weight], include: Sequence[str], exclude: Sequence[str]
) -> tuple[list[Weight], list[Skip]]:
    """The weights that the globs leave, and the others with the reason.

    Raises:
        UsageError: A glob of ``include`` matches no weight, or one of ``exclude`` nothing in the model.
    """
    prunable = [name for weight in weights for name in weight.names]
    _check_globs("include", include, prunable)
    _check_globs("exclude", exclude, [*prunable, *_all_names(model)])
    kept, skipped = [], []
    for weight in weights:
        if any(_matches(weight, glob) for glob in exclude):
            skipped.append(Skip(weight.names[0], "in exclude"))
        elif include and not any(_matches(weight, glob) for glob in include):
            skipped.append(Skip(weight.names[0], "not in include"))
        else:
            kept.append(weight)
    return kept, skipped


def match_overrides(weights: Sequence[Weight], shares: Mapping[str, float]) -> dict[int, float]:
    """The share of each weight that a glob names, by ``id`` of its value; of several globs the last one holds.

    Raises:
        UsageError: A glob matches no weight.
    """
    _check_globs("layers", shares, [name for weight in weights for name in weight.names])
    return {id(weight.value): share for weight in weights for glob, share in shares.items() if _matches(weight, glob)}


def _weight_uses(model: ir.Model) -> Iterator[tuple[ir.Node, ir.Value]]:
    for node in all_nodes(model):
        domain = "" if node.domain == "ai.onnx" else node.domain
        for index in WEIGHT_INPUTS.get((domain, node.op_type), ()):
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is not None:
                yield node, value


def _refusal(node: ir.Node, value: ir.Value) -> str | None:
    """Why ``value`` is not pruned; empty when it is; None when it is no weight at all."""
    array = constant(value)
    if array is None:
        return _computed_refusal(node, value)
    if not ir.DataType.from_numpy(array.dtype).is_floating_point() or array.dtype.itemsize < 2:
        return f"the weight is {array.dtype}, not float: prune before quantizing"
    if not value.is_initializer() and not _is_constant_tensor(value.producer()):
        return "the weight is not stored as a tensor: run simplify first"
    if value.is_graph_output():
        return "the weight is an output of the graph"
    for other, index in value.uses():
        if index not in WEIGHT_INPUTS.get(("" if other.domain == "ai.onnx" else other.domain, other.op_type), ()):
            return f"the weight is also read by {other.op_type} '{other.name}'"
    return ""


def _computed_refusal(node: ir.Node, value: ir.Value) -> str | None:
    producer = value.producer()
    if producer is not None and producer.op_type == "DequantizeLinear":
        return (
            "the weight is quantized already: prune before quantizing"
            if constant(producer.inputs[0]) is not None
            else None
        )
    if value.is_initializer():
        return "the weight is also a graph input, which callers may replace"
    if node.op_type in _EITHER_OPERAND:
        return None  # a product of two activations
    return "the weight is computed by the graph: run simplify first"


def _is_constant_tensor(node: ir.Node | None) -> bool:
    return node is not None and node.op_type == "Constant" and "value" in node.attributes


def _check_globs(option: str, globs: Iterable[str], names: Sequence[str]) -> None:
    for glob in globs:
        if any(fnmatchcase(name, glob) for name in names):
            continue
        near = difflib.get_close_matches(glob.strip("*?"), names, n=_SUGGESTIONS, cutoff=0.4) or names[:_SUGGESTIONS]
        hint = f"near names: {', '.join(near)}" if near else "the model has no weights to prune"
        raise UsageError(f"{option}: '{glob}' matches no node and no weight", where="prune-magnitude", hint=hint)


def _matches(weight: Weight, glob: str) -> bool:
    return any(fnmatchcase(name, glob) for name in weight.names)


def _all_names(model: ir.Model) -> Iterator[str]:
    for graph in model.graphs():
        yield from graph.initializers
    for node in all_nodes(model):
        if node.name:
            yield node.name
