"""MatMul and Gemm whose input is quantized at run time: integer kernels without calibration data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import add_node, add_weight, fresh_name, remove_dead, replace_output
from modelopt_cli.passes.base import Skip
from modelopt_cli.passes.quantize.absorb import find_absorber
from modelopt_cli.passes.quantize.dynamic_products import Product, find_product, group_by_source, may_merge
from modelopt_cli.passes.quantize.dynamic_rounding import round_product_weight
from modelopt_cli.passes.quantize.dynamic_stats import InputStatistics
from modelopt_cli.passes.quantize.gelu import approximate_gelu
from modelopt_cli.passes.quantize.smooth import LEAST_GAIN, LEAST_GAIN_FOLDED, apply_scales, choose_scales
from modelopt_cli.targets.schemes import scheme_for
from modelopt_cli.targets.target import Target

MICROSOFT = "com.microsoft"


WeightMaker = Callable[[Product, np.ndarray, np.ndarray | None], tuple[ir.Value, ir.Value]]
"""(product, matrix [K, N] with the input's scales in it, second moment [K, K] of the input or None) -> int8 weight
[K, N] and scale [N], as values of the main graph.
"""


@dataclass
class Edits:
    """What was done: names of the nodes that became integer, and refusals.

    Attributes:
        changed: Name of each quantized node, in graph order.
        skipped: What stayed float and why.
        smoothed: How many inputs had outlier channels scaled down.
    """

    changed: list[str] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    smoothed: int = 0

    def add(self, other: Edits) -> None:
        """Take in what was done to another part of the model."""
        self.changed += other.changed
        self.skipped += other.skipped
        self.smoothed += other.smoothed


@dataclass(frozen=True)
class DynamicOptions:
    """How products are quantized.

    Attributes:
        per_channel: One weight scale per output column instead of one for the matrix.
        merge: Let products of one input become one product and a Split: on CPUs the Split costs what one call less
            saves, so it is off.
        reduce_range: 7-bit weights, for CPUs whose U8 x S8 sums saturate (x64 without VNNI).
        smooth: Scale outlier channels of the input down, where statistics say that it pays.
        two_terms: Quantize what the 8 bits of the input leave out as well, and add its product: 16 bits, in twice the
            time of 8 and 0.6 of float's (64 rows, 384 x 1536, onnxruntime 1.32, AVX512-VNNI). Nothing is smoothed then.
    """

    per_channel: bool = True
    merge: bool = False
    reduce_range: bool = False
    smooth: bool = True
    two_terms: bool = False


def quantize_matmuls_dynamic(
    model: ir.Model,
    nodes: Sequence[ir.Node],
    target: Target,
    *,
    options: DynamicOptions | None = None,
    statistics: Mapping[str, InputStatistics] | None = None,
    make_weight: WeightMaker | None = None,
) -> Edits:
    """Quantize MatMul and Gemm nodes: U8 input with a scale of its own at each run, S8 constant weight.

        x -> MatMul(w) -> Add(b)   before
        x -> DynamicQuantizeLinear -> MatMulIntegerToFloat(w_int8, b)   after, dialect onnxruntime
        x -> DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul -> Add   after, dialect onnx

    The input is quantized once for all products that read it. onnxruntime makes one kernel of either form.

    Args:
        model: Edited in place.
        nodes: MatMul and Gemm nodes of any of its graphs; what cannot be quantized comes back as a skip.
        target: Chooses the dialect and the weights' range.
        options: Granularity and merging; the defaults are right for CPUs.
        statistics: By name of the tensor that is quantized, from `collect_input_statistics`: outlier channels are then
            scaled down into the weight, and the weight is rounded by second-order information.
        make_weight: Another way to round and store weights that nobody else reads; with it, products are not merged.
    """
    options = options or DynamicOptions(reduce_range=scheme_for(target).reduce_range)
    edits = Edits()
    products = []
    for node in nodes:
        found = find_product(node)
        if isinstance(found, Skip):
            edits.skipped.append(found)
        else:
            products.append(found)
    writer = _Writer(model, target, options, make_weight)
    for group in group_by_source(products):
        known = (statistics or {}).get(group[0].source.name or "")
        edits.smoothed += writer.quantize(group, known)
        edits.changed += [product.node.name or product.node.op_type for product in group]
    for product in products:
        remove_dead_product(product)
    return edits


def remove_dead_product(product: Product) -> None:
    """Remove the float nodes and weights that a quantized product left behind."""
    last = product.output.producer()
    if last is None or not isinstance(last.graph, ir.Graph):
        return
    weights = [value for node in {last, product.node} for value in node.inputs if value is not None]
    remove_dead(last.graph, [last])
    for value in weights:
        owner = value.graph
        if isinstance(owner, ir.Graph) and value.is_initializer() and not value.uses() and not value.is_graph_output():
            owner.initializers.pop(value.name or "", None)


class _Writer:
    """Writes the integer form of product groups; remembers weights that several products share."""

    def __init__(
        self, model: ir.Model, target: Target, options: DynamicOptions, make_weight: WeightMaker | None
    ) -> None:
        self._model = model
        self._make_weight = make_weight
        self._options = options
        self._contrib = target.dialect == "onnxruntime"
        self._tied: dict[tuple[ir.Value, bool, float], tuple[ir.Value, ir.Value]] = {}

    def quantize(self, group: list[Product], known: InputStatistics | None) -> bool:
        """Write one group; whether its input was smoothed."""
        if self._contrib:
            self._model.graph.opset_imports.setdefault(MICROSOFT, 1)
        first = group[0]
        source, scales = first.source, None
        approximate_gelu(source, [product.node for product in group], known)
        smooth = self._options.smooth and not self._options.two_terms
        if smooth and known is not None and not any(product.is_tied for product in group):
            readers = [product.node for product in group]
            absorber = find_absorber(source, first.channels, readers)
            gain = LEAST_GAIN if absorber is None else LEAST_GAIN_FOLDED
            scales = choose_scales(known, [product.matrix() for product in group], least_gain=gain)
            if scales is not None:
                source = apply_scales(self._model, source, scales, readers, absorber)
        quantized = self._quantize_input(first.node, source)
        rest = self._quantize_rest(first.node, source, quantized) if self._options.two_terms else None
        if self._options.merge and rest is None and self._make_weight is None and may_merge(group):
            self._write_merged(group, quantized, known, scales)
        else:
            for product in group:
                weight, scale = self._weight(product, known, scales)
                output = self._write(product.node, quantized, weight, scale, product.bias, product.output)
                if rest is not None:
                    more = self._write(product.node, rest, weight, scale, None, product.output)
                    shape = product.output.shape
                    output = self._add(product.node, "Add", [output, more], f"{_stem(product)}_both", shape)
                replace_output(product.output, output)
        return scales is not None

    def _write_merged(
        self,
        group: list[Product],
        quantized: Sequence[ir.Value],
        known: InputStatistics | None,
        scales: np.ndarray | None,
    ) -> None:
        first = group[0]
        matrix = np.concatenate([product.matrix() for product in group], axis=1)
        widths = np.array([product.matrix().shape[1] for product in group], np.int64)
        weight, scale = self._new_weight(f"{_stem(first)}_merged", matrix, known, scales)
        pairs = zip(group, widths, strict=True)
        biases = [np.zeros(n, np.float32) if p.bias is None else p.bias for p, n in pairs]
        bias = np.concatenate(biases) if any(product.bias is not None for product in group) else None
        output = self._write(first.node, quantized, weight, scale, bias, None)
        graph = _graph(first.node)
        node = ir.node("Split", [output, self._add_weight("split", widths)], {"axis": -1}, num_outputs=len(group))
        node.name = fresh_name(self._model.graph, f"{_stem(first)}_split")
        graph.insert_before(first.node, node)
        for product, part in zip(group, node.outputs, strict=True):
            part.name = fresh_name(self._model.graph, f"{_stem(product)}_part")
            part.type, part.shape = ir.TensorType(ir.DataType.FLOAT), product.output.shape
            replace_output(product.output, part)

    def _weight(
        self, product: Product, known: InputStatistics | None, scales: np.ndarray | None
    ) -> tuple[ir.Value, ir.Value]:
        key = (product.weight, product.transposed, product.alpha)
        if key not in self._tied:
            made = self._new_or_made(product, known, scales)
            if not product.is_tied:
                return made
            self._tied[key] = made
        return self._tied[key]

    def _new_or_made(
        self, product: Product, known: InputStatistics | None, scales: np.ndarray | None
    ) -> tuple[ir.Value, ir.Value]:
        if self._make_weight is None or product.is_tied:
            return self._new_weight(product.weight.name or _stem(product), product.matrix(), known, scales)
        matrix = product.matrix() if scales is None else product.matrix() * scales[:, None]
        moment = None if known is None else known.moment
        if moment is not None and scales is not None:
            moment = moment / np.outer(scales, scales)
        return self._make_weight(product, matrix, moment)

    def _new_weight(
        self, stem: str, matrix: np.ndarray, known: InputStatistics | None, scales: np.ndarray | None
    ) -> tuple[ir.Value, ir.Value]:
        rounded = round_product_weight(
            matrix, known, scales, per_channel=self._options.per_channel, reduce_range=self._options.reduce_range
        )
        return self._add_weight(f"{stem}_int8", rounded.values), self._add_weight(f"{stem}_scale", rounded.scale)

    def _quantize_input(self, before: ir.Node, source: ir.Value) -> Sequence[ir.Value]:
        for node, _ in source.uses():
            if node.op_type == "DynamicQuantizeLinear" and node.graph is before.graph:
                return node.outputs
        node = ir.node("DynamicQuantizeLinear", [source], num_outputs=3)
        stem = fresh_name(self._model.graph, f"{source.name}_quantize")
        node.name = stem
        types = (ir.DataType.UINT8, ir.DataType.FLOAT, ir.DataType.UINT8)
        shapes = (source.shape, ir.Shape(()), ir.Shape(()))
        for value, suffix, dtype, shape in zip(node.outputs, ("", "_scale", "_zero"), types, shapes, strict=True):
            value.name = fresh_name(self._model.graph, f"{source.name}_u8{suffix}")
            value.type, value.shape = ir.TensorType(dtype), shape
        _graph(before).insert_before(before, node)
        return node.outputs

    def _quantize_rest(self, before: ir.Node, source: ir.Value, quantized: Sequence[ir.Value]) -> Sequence[ir.Value]:
        """What rounding to 8 bits leaves of the input, at most half a step, in 8 bits of its own."""
        scale, stem = quantized[1], f"{source.name}_rest"
        whole = self._add(before, "DequantizeLinear", list(quantized), f"{stem}_whole", source.shape)
        rest = self._add(before, "Sub", [source, whole], stem, source.shape)
        share = self._add_weight(f"{stem}_share", np.array(1 / 255, np.float32))
        finer = self._add(before, "Mul", [scale, share], f"{stem}_scale", scale.shape)
        zero = self._add_weight(f"{stem}_zero", np.array(128, np.uint8))
        data = self._add(before, "QuantizeLinear", [rest, finer, zero], f"{stem}_u8", source.shape, ir.DataType.UINT8)
        return data, finer, zero

    def _write(
        self,
        before: ir.Node,
        quantized: Sequence[ir.Value],
        weight: ir.Value,
        scale: ir.Value,
        bias: np.ndarray | None,
        like: ir.Value | None,
    ) -> ir.Value:
        data, data_scale, zero = quantized
        stem = fresh_name(self._model.graph, before.name or before.op_type)
        shape = _product_shape(before, weight) if like is None else like.shape
        added = None if bias is None else self._add_weight(f"{stem}_bias", bias)
        if self._contrib:
            inputs = [data, weight, data_scale, scale, zero, None, added]
            return self._add(before, "MatMulIntegerToFloat", inputs, f"{stem}_int8", shape, domain=MICROSOFT)
        total = self._add(before, "MatMulInteger", [data, weight, zero], f"{stem}_int8", shape, ir.DataType.INT32)
        real = self._add(before, "Cast", [total], f"{stem}_cast", shape, to=ir.DataType.FLOAT)
        step = self._add(before, "Mul", [data_scale, scale], f"{stem}_step", scale.shape)
        output = self._add(before, "Mul", [real, step], f"{stem}_rescale", shape)
        return output if added is None else self._add(before, "Add", [output, added], f"{stem}_add", shape)

    def _add(
        self,
        before: ir.Node,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        stem: str,
        shape: ir.Shape | None,
        dtype: ir.DataType = ir.DataType.FLOAT,
        domain: str = "",
        **attributes: object,
    ) -> ir.Value:
        # A name that is new in the main graph and everything below it is new in a subgraph too.
        inputs = list(inputs)
        while inputs and inputs[-1] is None:
            inputs.pop()
        return add_node(
            _graph(before),
            before,
            op_type,
            inputs,
            stem=stem,
            attributes=attributes,
            domain=domain,
            dtype=dtype,
            shape=shape,
        )

    def _add_weight(self, stem: str, array: np.ndarray) -> ir.Value:
        return add_weight(self._model.graph, stem, array)


def _stem(product: Product) -> str:
    return product.node.name or product.node.op_type


def _graph(node: ir.Node) -> ir.Graph:
    assert isinstance(node.graph, ir.Graph), "nodes of functions are refused before"
    return node.graph


def _product_shape(node: ir.Node, weight: ir.Value) -> ir.Shape | None:
    source = node.inputs[0]
    if source is None or source.shape is None or weight.shape is None:
        return None
    return ir.Shape([*source.shape.dims[:-1], weight.shape[1]])
