"""The other ways to write a low-bit weight: DequantizeLinear for engines, MatMulNBits for onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir

from modelopt_cli.calibration.probe import Probe
from modelopt_cli.graph.edit import add_node, add_weight, replace_output
from modelopt_cli.passes.base import PassContext
from modelopt_cli.passes.quantize.dynamic_matmul import MICROSOFT, remove_dead_product
from modelopt_cli.passes.quantize.dynamic_products import Product, find_product
from modelopt_cli.passes.quantize.lowbit.encoding import Encoded, stored_scale
from modelopt_cli.passes.quantize.lowbit.packing import NodeWriter
from modelopt_cli.passes.quantize.lowbit.slots import PRODUCTS, Slot

Form = Literal["decoded", "dequantize-linear", "matmul-nbits"]
FORM_BITS = (4, 8)  # what both operators take; other widths are decoded
DQ_OPSET = 21  # DequantizeLinear with blocks and with int4
DQ_BLOCK = 64  # of 4-bit products: what TensorRT takes besides 128
NBITS_BLOCKS = (16, 32, 64, 128, 256)
NBITS_BLOCK = 32  # the smallest whose scales cost less than a bit; onnxruntime takes powers of two from 16
INT8, FLOAT32 = 4, 1  # MatMulNBits: what it computes in


def takes(form: Form, slot: Slot, bits: int) -> bool:
    """Whether a weight can be written so; otherwise it is decoded."""
    if form == "decoded" or bits not in FORM_BITS or slot.lookups or len(slot.value.uses()) != 1:
        return form == "decoded"
    if form == "dequantize-linear":
        return slot.node.op_type in (*PRODUCTS, "Conv")
    return slot.node.op_type in PRODUCTS and slot.inputs % NBITS_BLOCK == 0 and _product(slot) is not None


def form_block(form: Form, slot: Slot, bits: int, asked: int | None) -> int:
    """Inputs that share a step; 0 for all of an output."""
    if form == "matmul-nbits":
        return asked if asked in NBITS_BLOCKS and slot.inputs % asked == 0 else NBITS_BLOCK
    if slot.node.op_type == "Conv":
        return 0
    return asked if asked is not None else {4: DQ_BLOCK}.get(bits, 0)


def rows_of(model: ir.Model, slots: Sequence[Slot], ctx: PassContext) -> dict[Slot, int]:
    """How many rows each product reads at once on a sample of the data: one in a decoder, token by token.

    Without those in branches and loops, and without any where there is no sample.

    onnxruntime 1.32, AVX512-VNNI, one thread, 2048 x 4096, share of float's time with 1, 8 and 64 rows: MatMulNBits of
    4 bits in blocks of 32 takes 0.24, 0.35, 0.68; an int8 kernel 0.31, 0.31, 0.29.
    """
    sample = ctx.sample if ctx.calibration is None else next(iter(ctx.calibration), ctx.sample)
    inner = [slot for slot in slots if slot.node.graph is model.graph]
    names = {slot: str(slot.node.inputs[0].name) for slot in inner if slot.node.inputs[0] is not None}
    if sample is None or not names:
        return {}
    found = Probe(model, list(dict.fromkeys(names.values()))).run(sample)
    return {slot: found[name].size // max(found[name].shape[-1], 1) for slot, name in names.items()}


def write_dequantize_linear(model: ir.Model, slot: Slot, encoded: Encoded) -> None:
    """``W -> DequantizeLinear(int4 or int8 weight, scales of blocks)``, in the weight's own shape and layout.

    Scales are float32 initializers, as engines want them. Blocks need opset 21.
    """
    kind = ir.DataType.INT4 if encoded.bits == 4 else ir.DataType.INT8
    lowest = -(2 ** (encoded.bits - 1))
    axis = _axis(slot, encoded)
    integers = _own_layout(slot, encoded.codes.astype(np.int16) + lowest).reshape(slot.array.shape)
    inputs = [_integers(model, slot, "weight", integers, kind)]
    inputs.append(add_weight(model.graph, f"{slot.name}_scale", _scales(slot, encoded, encoded.steps())))
    if encoded.shifts is not None:
        inputs.append(_integers(model, slot, "zeros", _scales(slot, encoded, encoded.shifts), kind))
    attributes: dict[str, object] = {"axis": axis}
    if encoded.block < encoded.codes.shape[1]:
        attributes["block_size"] = encoded.block
    graph = slot.node.graph
    assert isinstance(graph, ir.Graph)
    output = add_node(
        graph,
        slot.node,
        "DequantizeLinear",
        inputs,
        stem=f"{slot.name}_dequantized",
        attributes=attributes,
        dtype=ir.DataType.FLOAT,
        shape=ir.Shape(slot.array.shape),
    )
    slot.value.replace_all_uses_with(output)


def write_matmul_nbits(model: ir.Model, slot: Slot, encoded: Encoded, *, accuracy: int) -> None:
    """One MatMulNBits for a MatMul or Gemm, and an Add for its bias.

    Scales are stored as multipliers of blocks, which a session multiplies out when it loads: a quarter of their bytes.

    Args:
        model: Edited in place.
        slot: A weight for which `takes` said yes.
        encoded: [1, K, N], in blocks of `NBITS_BLOCK`.
        accuracy: `INT8` rounds the inputs, block by block, to 8 bits; `FLOAT32` does not.
    """
    product = _product(slot)
    assert product is not None, "takes() saw it"
    bits, (_, length, columns) = encoded.bits, encoded.codes.shape
    model.graph.opset_imports.setdefault(MICROSOFT, 1)
    writer = NodeWriter(model, product.node, slot.name)
    blocks = _packed(encoded.codes[0].T, bits).reshape(columns, length // encoded.block, -1)
    root = writer.weight("scale", stored_scale(encoded.scale[0]).reshape(-1, 1))
    real = writer.cast(root, ir.DataType.FLOAT)
    steps = writer.add("Mul", [real, real])
    if encoded.multipliers is not None:
        counts = writer.weight("blocks", np.ascontiguousarray(encoded.multipliers[0].T))
        steps = writer.add("Mul", [writer.cast(counts, ir.DataType.FLOAT), steps])
    inputs: list[ir.Value | None] = [product.source, writer.weight("codes", blocks)]
    inputs.append(writer.reshape(steps, [columns * (length // encoded.block)]))
    if encoded.shifts is not None:
        zeros = (encoded.shifts[0].T - encoded.levels[0]).astype(np.uint8)
        inputs.append(writer.weight("zeros", _packed(zeros, bits).reshape(-1)))
    sizes: dict[str, object] = {"K": length, "N": columns, "bits": bits, "block_size": encoded.block}
    graph = product.node.graph
    assert isinstance(graph, ir.Graph)
    output = add_node(
        graph,
        product.node,
        "MatMulNBits",
        inputs,
        stem=f"{slot.name}_product",
        domain=MICROSOFT,
        attributes={**sizes, "accuracy_level": accuracy},
        dtype=ir.DataType.FLOAT,
        shape=product.output.shape,
    )
    if product.bias is not None:
        output = writer.add("Add", [output, writer.weight("bias", np.asarray(product.bias, np.float32))])
        output.type, output.shape = ir.TensorType(ir.DataType.FLOAT), product.output.shape
    replace_output(product.output, output)
    remove_dead_product(product)


def _product(slot: Slot) -> Product | None:
    """What MatMulNBits can compute: it has no factor of the product."""
    found = find_product(slot.node) if slot.value.const_value is not None else None
    return found if isinstance(found, Product) and found.alpha == 1.0 else None


def _packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """Rows of codes (uint8) with two 4-bit codes in a byte, the first in the lower half; odd rows end in a zero."""
    if bits == 8:
        return np.ascontiguousarray(codes)
    if codes.shape[1] % 2:
        codes = np.pad(codes, ((0, 0), (0, 1)))
    return np.asarray(codes[:, 0::2] | (codes[:, 1::2] << 4), np.uint8)


def _axis(slot: Slot, encoded: Encoded) -> int:
    """Of the blocks, or of the outputs when a column is one block."""
    blocks = encoded.block < encoded.codes.shape[1]
    return int(slot.columns_last) if not blocks else int(not slot.columns_last)


def _own_layout(slot: Slot, array: np.ndarray) -> np.ndarray:
    """[groups, rows, N] in the weight's order of axes."""
    return array[0] if slot.columns_last else array.transpose(0, 2, 1).reshape(-1, array.shape[1])


def _scales(slot: Slot, encoded: Encoded, array: np.ndarray) -> np.ndarray:
    """[groups, blocks, N] as DequantizeLinear wants it: a vector when a column is one block."""
    laid = _own_layout(slot, np.asarray(array))
    return laid.reshape(-1) if encoded.block == encoded.codes.shape[1] else np.ascontiguousarray(laid)


def _integers(model: ir.Model, slot: Slot, what: str, array: np.ndarray, kind: ir.DataType) -> ir.Value:
    return add_weight(model.graph, f"{slot.name}_{what}", array.astype(np.int8).astype(kind.numpy()), kind)
