"""Give weights of a model fewer bits: round them, write codes, and let their readers read what is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import constant, remove_dead, replace_output
from modelopt_cli.passes.base import PassContext, PassResult, Skip
from modelopt_cli.passes.quantize.dynamic_matmul import DynamicOptions
from modelopt_cli.passes.quantize.dynamic_products import Product, find_product
from modelopt_cli.passes.quantize.lowbit.bias import Bias, find_bias
from modelopt_cli.passes.quantize.lowbit.decode import StoredWeight
from modelopt_cli.passes.quantize.lowbit.encoding import Encoded
from modelopt_cli.passes.quantize.lowbit.forms import Form, write_dequantize_linear, write_matmul_nbits
from modelopt_cli.passes.quantize.lowbit.packing import NodeWriter
from modelopt_cli.passes.quantize.lowbit.rounding import Grid, encode
from modelopt_cli.passes.quantize.lowbit.slots import PRODUCTS, Slot
from modelopt_cli.passes.quantize.patches import PatchStatistics, collect_patches
from modelopt_cli.passes.quantize.quantize_dynamic import quantize_products

SAMPLES = 128  # calibration samples for second moments
NOT_SMALLER = "it would take more bytes than it does"


@dataclass
class Stored:
    """What was done: names of weights, and refusals.

    Attributes:
        decoded: Weights that the session decodes when it loads, or by row.
        written: Those behind DequantizeLinear or in MatMulNBits.
        integer: Weights whose products run in int8.
        skipped: What stayed as it was.
    """

    decoded: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    integer: list[str] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)

    def add(self, other: Stored) -> None:
        """Take in what was done to other weights."""
        self.decoded += other.decoded
        self.written += other.written
        self.integer += other.integer
        self.skipped += other.skipped


def result_of(model: ir.Model, done: Stored, bits: Mapping[Slot, int]) -> PassResult:
    """What a pass reports."""
    stored = {*done.decoded, *done.written, *done.integer}
    counts = Counter(number for slot, number in bits.items() if slot.name in stored)
    details: dict[str, Any] = {
        "decoded": len(done.decoded),
        "int8": len(done.integer),
        "weights_by_bits": {str(number): counts[number] for number in sorted(counts)},
    }
    if done.written:
        details["packed_operators"] = len(done.written)
    return PassResult(model, len(stored), tuple(done.skipped), details)


def store_float(
    model: ir.Model,
    grids: Mapping[Slot, Grid],
    ctx: PassContext,
    forms: Mapping[Slot, Form] | None = None,
    *,
    accuracy: int = 0,
) -> Stored:
    """Store weights as codes that are decoded to float when a session loads, or in one of the other `forms`.

    Tables are decoded row by row.

    With calibration data, weights of Conv, MatMul and Gemm are rounded by second-order information, and what rounding
    takes from the mean of outputs is given back by biases, where there are any.

    Args:
        model: Edited in place.
        grids: What each weight is rounded to.
        ctx: Lends calibration data, or none.
        forms: Of weights that are not decoded by standard operators.
        accuracy: Of MatMulNBits, see `write_matmul_nbits`.
    """
    done = Stored()
    for slot, encoded, shift in _encoded(model, grids, ctx):
        form: Form = (forms or {}).get(slot, "decoded")
        stored = StoredWeight(encoded, slot.array.shape, columns_last=slot.columns_last, by_row=bool(slot.lookups))
        if stored.bytes() >= slot.array.nbytes:
            done.skipped.append(Skip(slot.name, NOT_SMALLER))
            continue
        if shift is not None:
            bias = _bias_of(slot)
            assert bias is not None, "it was there before"
            bias.shift(model.graph, shift)
        if form == "decoded":
            _replace(model, slot, stored)
            done.decoded.append(slot.name)
            continue
        if form == "dequantize-linear":
            write_dequantize_linear(model, slot, encoded)
        else:
            write_matmul_nbits(model, slot, encoded, accuracy=accuracy)
        done.written.append(slot.name)
    return done


def store_integer(model: ir.Model, grids: Mapping[Slot, Grid], ctx: PassContext, options: DynamicOptions) -> Stored:
    """Let products run in int8 kernels, with inputs quantized at run time and weights stored in few bits.

    Codes times multipliers of blocks are int8 numbers: the session computes them when it loads.

    Args:
        model: Edited in place.
        grids: Of the weights of MatMul and Gemm, each with one reader (see `may_run_as_integers`).
        ctx: Lends calibration data, or none.
        options: Of the int8 products.
    """
    done = Stored()
    by_value = {slot.value: (slot, grid) for slot, grid in grids.items()}

    def make(product: Product, matrix: np.ndarray, moment: np.ndarray | None) -> tuple[ir.Value, ir.Value]:
        slot, grid = by_value[product.weight]
        encoded = encode(np.ascontiguousarray(matrix)[None], grid, None if moment is None else moment[None])
        stored = StoredWeight(encoded, matrix.shape, columns_last=True)
        return stored.write_int8(NodeWriter(model, model.graph[0], slot.name))

    for full in (True, False):
        chosen = {s: g for s, g in grids.items() if (g.bits == 8) == full}
        nodes = [slot.node for slot in chosen]
        if nodes:
            edits = quantize_products(model, nodes, ctx, options, None if full else make)
            done.integer += [slot.name for slot in chosen]
            done.skipped += edits.skipped
    return done


def may_run_as_integers(slot: Slot) -> bool:
    """Whether the one reader of a weight is a product that has an int8 kernel."""
    if slot.node.op_type not in PRODUCTS or slot.lookups or len(slot.value.uses()) != 1:
        return False
    return isinstance(find_product(slot.node), Product)


def _encoded(
    model: ir.Model, grids: Mapping[Slot, Grid], ctx: PassContext
) -> list[tuple[Slot, Encoded, np.ndarray | None]]:
    """Each weight rounded, with what its bias is to be shifted by."""
    found: list[tuple[Slot, Encoded, np.ndarray | None]] = []
    waiting = dict.fromkeys(grids)
    if ctx.calibration is not None:
        by_node = {slot.node: slot for slot in grids if _has_patches(model, slot)}
        data = ctx.calibration.take(SAMPLES)
        for node, statistics in collect_patches(model, list(by_node), data, ctx.progress, ctx.memory):
            slot = by_node[node]
            found.append((slot, *_round(slot, grids[slot], statistics)))
            del waiting[slot]
    with ctx.progress.task("rounding weights", len(waiting)) as advance:
        for slot in waiting:
            found.append((slot, encode(slot.work(), grids[slot]), None))
            advance(1)
    return found


def _round(slot: Slot, grid: Grid, statistics: PatchStatistics) -> tuple[Encoded, np.ndarray | None]:
    """The covariance of the inputs counts where a bias takes care of the mean, and the second moment elsewhere."""
    work, mean = slot.work(), statistics.mean
    if _bias_of(slot) is None:
        moment = np.asarray(statistics.covariance + mean[:, :, None] * mean[:, None, :], np.float32)
        return encode(work, grid, moment), None
    encoded = encode(work, grid, statistics.covariance)
    return encoded, np.einsum("gkn,gk->gn", work - encoded.decode(), mean).reshape(-1)


def _bias_of(slot: Slot) -> Bias | None:
    """The bias that belongs to a weight alone."""
    if len(slot.value.uses()) != 1:
        return None
    return find_bias(slot.node, slot.array.size // slot.inputs)


def _has_patches(model: ir.Model, slot: Slot) -> bool:
    node = slot.node
    return (
        node.graph is model.graph
        and not slot.lookups
        and node.op_type in ("Conv", *PRODUCTS)
        and constant(node.inputs[0]) is None
        and node.attributes.get_int("transA", 0) == 0
    )


def _replace(model: ir.Model, slot: Slot, stored: StoredWeight) -> None:
    value, producer, owner = slot.value, slot.value.producer(), slot.owner
    for lookup in slot.lookups:
        output, ids = lookup.outputs[0], lookup.inputs[1]
        assert ids is not None and isinstance(lookup.graph, ir.Graph)
        rows = stored.write_rows(NodeWriter(model, lookup, slot.name), ids)
        rows.type, rows.shape = ir.TensorType(ir.DataType.FLOAT), output.shape
        replace_output(output, rows)
        lookup.graph.remove(lookup, safe=True)
    if slot.others:
        decoded = stored.write_float(NodeWriter(model, slot.owner[0], slot.name))
        value.replace_all_uses_with(decoded)
    if producer is not None:
        remove_dead(owner, [producer])
    else:
        owner.initializers.pop(slot.name, None)
