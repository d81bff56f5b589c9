"""Which form of a 4-bit product is the faster one on this machine: both as models of one product, timed in turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.compose
import onnx_ir as ir

from modelopt_cli.graph.edit import add_weight
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.quantize.lowbit.forms import Form
from modelopt_cli.passes.quantize.lowbit.slots import Slot
from modelopt_cli.passes.quantize.search import CLEARLY
from modelopt_cli.profiling.timing import compare_latency

ONE_ROW, MORE_ROWS = "one-row", "more-rows"
TABLE: dict[str, Form] = {ONE_ROW: "matmul-nbits", MORE_ROWS: "decoded"}  # see `forms.rows_of` for what it rests on
SMALLEST = 2**17  # weights of a product; with fewer, what is around the kernel is timed
LARGEST = 2**22  # weights of one that is timed: columns beyond are more of the same, and take long to round
# Weights of the model that is timed. One product of 1024 x 4096 stays in the cache and takes 0.85 of MatMulNBits' time
# in an int8 kernel with single rows; four of them in one model, whose weights do not, take 2.3 of it.
STREAMED = 2**24
MOST_ROWS = 64  # beyond, the ratio hardly changes
_OPSET, _IR_VERSION = 21, 10

Write = Callable[[ir.Model, Form], None]
"""Writes the one weight of a model in one of the forms."""


@dataclass(frozen=True)
class FormChoice:
    """What was found.

    Attributes:
        plan: The form of products of one row and of those of more, where there are any.
        log: One line for each that was timed.
    """

    plan: dict[str, Form]
    log: list[str]


def choose_forms(rows: Mapping[Slot, int], write: Write, budget_s: float) -> FormChoice:
    """The table's forms, but for those that the largest product of the kind, repeated, is clearly slower in.

    Args:
        rows: How many each product reads at once; of products that both forms hold.
        write: See there.
        budget_s: Seconds for timing; building the models comes on top. 0 takes the table's.
    """
    large = [slot for slot in rows if slot.array.size >= SMALLEST]
    kinds = {kind: [slot for slot in large if kind_of(rows[slot]) == kind] for kind in TABLE}
    found = FormChoice({}, [])
    planned = [kind for kind, slots in kinds.items() if slots]
    for kind in planned:
        largest = max(kinds[kind], key=lambda slot: slot.array.size)
        found.plan[kind] = TABLE[kind]
        if budget_s > 0:
            weights = sum(slot.array.size for slot in rows if kind_of(rows[slot]) == kind)
            found.plan[kind] = _timed(largest, rows[largest], weights, write, budget_s / len(planned), found.log)
    return found


def kind_of(rows: int) -> str:
    """The line of `TABLE` for a product that reads so many rows at once."""
    return ONE_ROW if rows == 1 else MORE_ROWS


def _timed(slot: Slot, rows: int, weights: int, write: Write, budget_s: float, log: list[str]) -> Form:
    """The table's form, or the other one where the whole interval says that it is faster."""
    usual = TABLE[kind_of(rows)]
    other: Form = "decoded" if usual == "matmul-nbits" else "matmul-nbits"
    rng = np.random.default_rng(0)
    length = slot.inputs
    columns = max(min(slot.array.size // length, LARGEST // length), 1)
    weight = rng.standard_normal((length, columns), np.float32)
    feeds = {"x": rng.standard_normal((min(rows, MOST_ROWS), length), np.float32)}
    models = [_product(weight) for _ in range(2)]
    for model, form in zip(models, (usual, other), strict=True):
        write(model, form)
    count = max(min(weights, STREAMED) // weight.size, 1)
    first, second = (_repeated(model, count) for model in models)
    timed = compare_latency(first, second, feeds, budget_s=budget_s)
    shape = f"{len(feeds['x'])} x {length} x {columns}" + (f", {count} times" if count > 1 else "")
    interval = f"{timed.ratio:.3f} ({timed.ratio_low:.3f} to {timed.ratio_high:.3f}) of the time of {usual}"
    log.append(f"a 4-bit product of {shape} as {other}: {interval}")
    return other if timed.ratio_high < CLEARLY else usual


def _repeated(model: ir.Model, count: int) -> ir.Model:
    """The product so many times side by side: as many bytes as a model reads.

    Codes are turned by a byte each time: a session merges products whose weights it folds to equal constants.
    """
    one = onnx.load_model_from_string(model_bytes(model))
    many = onnx.ModelProto()
    many.CopyFrom(one)
    for index in range(1, count):
        part = onnx.compose.add_prefix(one, f"{index}_", rename_inputs=False).graph
        for tensor in part.initializer:
            if tensor.data_type in (onnx.TensorProto.UINT8, onnx.TensorProto.INT8):
                tensor.raw_data = tensor.raw_data[index:] + tensor.raw_data[:index]
        many.graph.node.extend(part.node)
        many.graph.initializer.extend(part.initializer)
        many.graph.output.extend(part.output)
    repeated: ir.Model = ir.from_proto(many)
    return repeated


def _product(weight: np.ndarray) -> ir.Model:
    """``y = x @ weight`` for any number of rows."""
    length, columns = weight.shape
    kind = ir.TensorType(ir.DataType.FLOAT)
    source = ir.Value(name="x", shape=ir.Shape(["rows", length]), type=kind)
    graph = ir.Graph([source], [], nodes=[], opset_imports={"": _OPSET}, name="product")
    output = ir.Value(name="y", shape=ir.Shape(["rows", columns]), type=kind)
    graph.append(ir.Node("", "MatMul", [source, add_weight(graph, "weight", weight)], outputs=[output], name="product"))
    graph.outputs.append(output)
    return ir.Model(graph, ir_version=_IR_VERSION)
