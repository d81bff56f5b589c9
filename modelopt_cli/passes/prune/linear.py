"""A layer as a linear map: its weights as a matrix, its activations as the rows that the matrix meets."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import constant, only_reader
from modelopt_cli.passes.prune.batch_norm import norm_mean
from modelopt_cli.passes.prune.patches import PatchGeometry, sample_patches
from modelopt_cli.passes.prune.weights import Weight


@dataclass(frozen=True)
class LinearLayer:
    """``output = W x + bias`` for rows x that are cut out of some activations.

    Matrices are [groups, rows, columns]: one output per row; groups are independent maps (Conv), 1 for most.

    Attributes:
        node: The operator.
        weights: The tensors that hold W (LSTM: input and recurrent weights).
        bias: The initializer that holds the bias, or None where the layer has none that could be changed.
    """

    node: ir.Node
    weights: tuple[Weight, ...]
    bias: Weight | None

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.node.name or self.weights[0].names[0]

    @property
    def size(self) -> int:
        """Number of weights."""
        return sum(weight.array().size for weight in self.weights)

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """Names of the activations that `rows` wants."""

    @property
    @abstractmethod
    def rows_key(self) -> tuple[object, ...]:
        """Equal for layers that meet the same rows."""

    @abstractmethod
    def matrix(self) -> np.ndarray:
        """W as float32 [groups, rows, columns]."""

    @abstractmethod
    def stored(self, matrix: np.ndarray) -> np.ndarray:
        """A matrix like W in the layout of the weight tensor (LSTM: of both, side by side)."""

    def replace(self, matrix: np.ndarray) -> None:
        """Write W back, in the tensors' own layout and type."""
        stored, start = self.stored(matrix), 0
        for weight in self.weights:
            old = weight.array()
            part = stored if len(self.weights) == 1 else stored[..., start : start + old.shape[-1]]
            weight.replace(np.ascontiguousarray(part, old.dtype))
            start += old.shape[-1]

    @abstractmethod
    def rows(self, arrays: Mapping[str, np.ndarray], limit: int, seed: int) -> np.ndarray:
        """At most about ``limit`` rows of one sample, [groups, n, columns]; the same positions for the same seed."""

    @staticmethod
    def outputs(matrix: np.ndarray, row: np.ndarray) -> np.ndarray:
        """What a matrix makes of one row of each group, [groups, columns] -> [groups, rows], in double precision."""
        outputs: np.ndarray = np.einsum("grk,gk->gr", matrix.astype(np.float64), row)
        return outputs

    @contextlib.contextmanager
    def draft(self, matrix: np.ndarray, shift: np.ndarray | None) -> Iterator[None]:
        """W is another matrix, and the bias shifted, for as long as this lasts."""
        changed = [*self.weights, *([self.bias] if self.bias is not None else [])]
        before = [(weight, weight.value.const_value, weight.array()) for weight in changed]
        self.replace(matrix)
        if shift is not None:
            self.shift_bias(shift)
        try:
            yield
        finally:
            for weight, tensor, array in before:
                if weight.value.is_initializer():
                    weight.value.const_value = tensor
                else:
                    weight.replace(array)

    def shift_bias(self, shift: np.ndarray) -> None:
        """Add [groups, rows] to the bias."""
        assert self.bias is not None
        old = self.bias.array()
        self.bias.replace((old.astype(np.float64) + shift.reshape(old.shape)).astype(old.dtype))


@dataclass(frozen=True)
class ConvLayer(LinearLayer):
    """Conv by im2col; columns are ordered taps first, input channels last, so that N:M runs along channels."""

    geometry: PatchGeometry

    @property
    def inputs(self) -> tuple[str, ...]:
        return (_name(self.node.inputs[0]),)

    @property
    def rows_key(self) -> tuple[object, ...]:
        return (self.inputs, self.geometry)

    def matrix(self) -> np.ndarray:
        weight = self.weights[0].array()
        groups = self.geometry.groups
        by_group = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
        return np.ascontiguousarray(by_group.swapaxes(2, 3), np.float32).reshape(*by_group.shape[:2], -1)

    def stored(self, matrix: np.ndarray) -> np.ndarray:
        shape = self.weights[0].array().shape
        groups, rows, columns = matrix.shape
        by_tap = matrix.reshape(groups, rows, columns // shape[1], shape[1]).swapaxes(2, 3)
        return by_tap.reshape(shape)

    def rows(self, arrays: Mapping[str, np.ndarray], limit: int, seed: int) -> np.ndarray:
        return sample_patches(arrays[self.inputs[0]], self.geometry, limit, seed)


@dataclass(frozen=True)
class MatMulLayer(LinearLayer):
    """MatMul and Gemm, the weight on either side, transposed or not.

    Attributes:
        side: Which input is the weight.
        columns_last: Whether the weight is stored [rows, columns], the way `matrix` wants it.
        features_last: Whether features are the last axis of the activation; else the one before.
    """

    side: int
    columns_last: bool
    features_last: bool

    @property
    def inputs(self) -> tuple[str, ...]:
        return (_name(self.node.inputs[1 - self.side]),)

    @property
    def rows_key(self) -> tuple[object, ...]:
        return (self.inputs, self.features_last)

    def matrix(self) -> np.ndarray:
        weight = self.weights[0].array().astype(np.float32)
        return (weight if self.columns_last else weight.T)[None]

    def stored(self, matrix: np.ndarray) -> np.ndarray:
        stored: np.ndarray = matrix[0] if self.columns_last else matrix[0].T
        return stored

    def rows(self, arrays: Mapping[str, np.ndarray], limit: int, seed: int) -> np.ndarray:
        array = arrays[self.inputs[0]]
        array = array if self.features_last or array.ndim == 1 else np.moveaxis(array, -2, -1)
        return pick(array.reshape(-1, array.shape[-1]), limit, seed)[None]


@dataclass(frozen=True)
class LstmLayer(LinearLayer):
    """Gates of an LSTM: one map from the input and the last hidden state together; a direction is a group."""

    @property
    def inputs(self) -> tuple[str, ...]:
        return (_name(self.node.inputs[0]), _name(self.node.outputs[0]))

    @property
    def rows_key(self) -> tuple[object, ...]:
        return (self.inputs,)

    def matrix(self) -> np.ndarray:
        return np.concatenate([weight.array().astype(np.float32) for weight in self.weights], axis=2)

    def stored(self, matrix: np.ndarray) -> np.ndarray:
        return matrix

    def rows(self, arrays: Mapping[str, np.ndarray], limit: int, seed: int) -> np.ndarray:
        x, hidden = (arrays[name] for name in self.inputs)  # [steps, batch, features], [steps, directions, batch, H]
        directions = []
        for index, backward in enumerate(self._backward()):
            last = _previous(hidden[:, index], backward)
            joined = np.concatenate([x, last], axis=2)
            directions.append(pick(joined.reshape(-1, joined.shape[2]), limit, seed))
        return np.stack(directions)

    def shift_bias(self, shift: np.ndarray) -> None:
        assert self.bias is not None
        old = self.bias.array()
        padded = np.concatenate([shift, np.zeros_like(shift)], axis=1)
        self.bias.replace((old.astype(np.float64) + padded).astype(old.dtype))

    def _backward(self) -> tuple[bool, ...]:
        direction = self.node.attributes.get_string("direction", "forward")
        return {"forward": (False,), "reverse": (True,)}.get(str(direction), (False, True))


def pick(rows: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """At most ``limit`` of the rows, drawn without putting back; the same for the same seed and number of rows."""
    if len(rows) <= limit:
        return rows
    return rows[np.sort(np.random.default_rng(seed).choice(len(rows), limit, replace=False))]


def linear_layer(node: ir.Node, weights: Sequence[Weight]) -> LinearLayer | str:
    """The linear map of a node with these weights, or why there is none."""
    if any(len(weight.nodes) > 1 for weight in weights):
        return "the weight is shared by several nodes, whose inputs differ"
    if node.graph is None or any(node.graph is not weight.value.graph for weight in weights):
        return "stands in a subgraph or reads a weight of an outer one"
    builder = {"Conv": _conv, "MatMul": _matmul, "Gemm": _matmul, "LSTM": _lstm}.get(node.op_type)
    if builder is None or node.domain not in ("", "ai.onnx"):
        return f"second-order pruning does not handle {node.op_type}; prune-magnitude does"
    return builder(node, tuple(weights))


def _conv(node: ir.Node, weights: tuple[Weight, ...]) -> LinearLayer | str:
    shape = weights[0].array().shape
    get = node.attributes.get_ints
    ones = [1] * (len(shape) - 2)
    geometry = PatchGeometry(
        kernel=shape[2:],
        strides=tuple(get("strides", ones)),
        dilations=tuple(get("dilations", ones)),
        pads=tuple(get("pads", [*ones, *ones])) if "pads" in node.attributes else (0,) * (2 * len(ones)),
        auto_pad=str(node.attributes.get_string("auto_pad", "NOTSET")),
        groups=node.attributes.get_int("group", 1),
    )
    bias = _own_bias(node, 2) if len(node.inputs) > 2 and node.inputs[2] is not None else norm_mean(node)
    return ConvLayer(node, weights, bias, geometry)


def _matmul(node: ir.Node, weights: tuple[Weight, ...]) -> LinearLayer | str:
    weight = weights[0]
    if weight.array().ndim != 2:
        return "the weight is not a matrix"
    side = next(index for index, value in enumerate(node.inputs) if value is weight.value)
    gemm = node.op_type == "Gemm"
    transposed = [bool(node.attributes.get_int(name, 0)) if gemm else False for name in ("transA", "transB")]
    if gemm and node.attributes.get_float("alpha", 1.0) != 1.0:
        return "Gemm with alpha: run fuse first"
    features_last = transposed[0] is False if side == 1 else transposed[1]
    columns_last = transposed[1] if side == 1 else not transposed[0]
    bias = _gemm_bias(node, weight, columns_last) if gemm and side == 1 else None
    if not gemm and side == 1:
        bias = _added_bias(node, weight.array().shape[1])
    return MatMulLayer(node, weights, bias, side, columns_last, features_last)


def _lstm(node: ir.Node, weights: tuple[Weight, ...]) -> LinearLayer | str:
    if len(weights) != 2:
        return "only one of the LSTM's two weights can be pruned"
    given = {index for index, value in enumerate(node.inputs) if value is not None}
    if given & {4, 5, 7}:
        return "an LSTM with sequence lengths, an initial state or peepholes; prune-magnitude handles it"
    if node.attributes.get_int("layout", 0):
        return "an LSTM of layout 1; prune-magnitude handles it"
    if len(node.outputs) == 0 or not node.outputs[0].name:
        return "an LSTM whose hidden states are not read; prune-magnitude handles it"
    by_input = sorted(weights, key=lambda weight: 1 if weight.value is node.inputs[1] else 2)
    return LstmLayer(node, tuple(by_input), _own_bias(node, 3))


def _own_bias(node: ir.Node, index: int) -> Weight | None:
    """The bias of a node when it is a constant that nobody else reads."""
    value = node.inputs[index] if index < len(node.inputs) else None
    return _private(value, node)


def _gemm_bias(node: ir.Node, weight: Weight, columns_last: bool) -> Weight | None:
    bias = _own_bias(node, 2)
    rows = weight.array().shape[0 if columns_last else 1]
    whole = bias is not None and bias.array().size == rows and bias.array().shape[-1] == rows
    return bias if whole and node.attributes.get_float("beta", 1.0) == 1.0 else None


def _added_bias(node: ir.Node, rows: int) -> Weight | None:
    """The constant vector that an Add after a MatMul adds to each row."""
    add = only_reader(node.outputs[0])
    if add is None or add.op_type != "Add":
        return None
    other = next((value for value in add.inputs if value is not node.outputs[0]), None)
    bias = _private(other, add)
    return bias if bias is not None and bias.array().size == rows == bias.array().shape[-1:][0] else None


def _private(value: ir.Value | None, node: ir.Node) -> Weight | None:
    array = constant(value)
    if value is None or array is None or array.ndim == 0 or len(list(value.uses())) != 1 or value.is_graph_output():
        return None
    producer = value.producer()
    stored = value.is_initializer() or (producer is not None and "value" in producer.attributes)
    return Weight(value, (node,)) if stored else None


def _previous(hidden: np.ndarray, backward: bool) -> np.ndarray:
    """The hidden state that each step starts from: the one before it, zeros for the first."""
    zero = np.zeros_like(hidden[:1])
    return np.concatenate([hidden[1:], zero]) if backward else np.concatenate([zero, hidden[:-1]])


def _name(value: ir.Value | None) -> str:
    return "" if value is None or value.name is None else value.name
