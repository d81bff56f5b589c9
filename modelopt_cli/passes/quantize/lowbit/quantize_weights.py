"""The pass that stores weights in 2 to 8 bits."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from modelopt_cli.errors import UsageError
from modelopt_cli.graph.edit import drop_unread_weights
from modelopt_cli.graph.opset import raise_opset
from modelopt_cli.passes.base import PassContext, PassResult
from modelopt_cli.passes.quantize.calibrated import is_this_machine
from modelopt_cli.passes.quantize.dynamic_matmul import DynamicOptions
from modelopt_cli.passes.quantize.lowbit.center import center_outputs
from modelopt_cli.passes.quantize.lowbit.choice import LowBitPass
from modelopt_cli.passes.quantize.lowbit.form_times import TABLE, FormChoice, choose_forms, kind_of
from modelopt_cli.passes.quantize.lowbit.forms import DQ_OPSET, FLOAT32, INT8, Form, form_block, rows_of, takes
from modelopt_cli.passes.quantize.lowbit.rounding import Grid
from modelopt_cli.passes.quantize.lowbit.sensitivity import MOST
from modelopt_cli.passes.quantize.lowbit.slots import Slot
from modelopt_cli.passes.quantize.lowbit.store import may_run_as_integers, result_of, store_float, store_integer
from modelopt_cli.passes.quantize.output_error import OutputJudge
from modelopt_cli.passes.quantize.weights import integer_range
from modelopt_cli.targets.schemes import scheme_for
from modelopt_cli.targets.target import Target

FORMS: dict[str, Form] = {
    "cpu": "matmul-nbits",
    "cuda": "matmul-nbits",
    "tensorrt": "dequantize-linear",
    "openvino": "dequantize-linear",
}
INPUTS = "int8-inputs"
PLANNED = dict.fromkeys(TABLE, ("decoded", "matmul-nbits")) | {INPUTS: ("8", "16")}  # what a plan can say
CLOSE_DB = 35.0  # of outputs, for which nobody asks for more than 8-bit inputs
JUDGED_SAMPLES = 16
CPU_BITS = 4  # MatMulNBits reads half of the bytes that an int8 kernel reads, which decides when there is one row
BLOCKS = {2: 16, 3: 16, 4: 16, 5: 32, 6: 64}  # inputs that share a step, by bits: 8 bits for the steps of each block
TABLE_BLOCKS = BLOCKS | {4: 32}  # rows of tables are alike all over, and nobody multiplies them


class QuantizeWeights(LowBitPass):
    """Store weights in 2 to 8 bits: MatMul, Gemm, Conv, LSTM and embedding tables, at the speed of float or better.

    Weights are packed codes that the session decodes once when it loads, with standard operators; the rows of embedding
    tables are decoded as they are looked up. On CPUs, MatMul and Gemm then run in int8 kernels, with their inputs
    quantized at run time. With calibration data, weights are rounded by second-order information.
    """

    name: ClassVar[str] = "quantize-weights"

    compute: Annotated[
        Literal["auto", "int8", "float"],
        Field(description="Kernels of MatMul and Gemm; auto: int8 on CPUs. float keeps activations as they are."),
    ] = "auto"

    activations: Annotated[
        Literal["auto", 8, 16],
        Field(
            description="Bits of the inputs of int8 kernels: 16 adds the product of what 8 leave out. auto: 16 beside "
            "8-bit weights where 8 would be heard at the outputs, on calibration samples; 8 elsewhere."
        ),
    ] = "auto"

    symmetric: Annotated[
        bool,
        Field(description="Levels around zero; false: each block says where zero is, for bits / block bits more."),
    ] = True

    form: Annotated[
        Literal["auto", "decoded", "dequantize-linear", "matmul-nbits"],
        Field(
            description="How 4 and 8-bit products are written. auto: decoded on CPUs, but MatMulNBits for 4-bit "
            "products of single rows (decoders), unless the other is timed as faster; matmul-nbits on CUDA; "
            "dequantize-linear for TensorRT and OpenVINO."
        ),
    ] = "auto"

    budget: Annotated[
        float, Field(ge=0, description="Seconds to time the forms of 4-bit products; 0 takes the table's.")
    ] = 2.0

    plan: Annotated[
        dict[str, Literal["decoded", "matmul-nbits", "8", "16"]] | None,
        Field(
            description="A plan from a report: the form of products of one row, and of more, and the bits of the "
            "inputs of int8 kernels. Nothing is timed or tried."
        ),
    ] = None

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        """Edit ``model``; see the class.

        Raises:
            UsageError: As `LowBitPass.apply`; a plan of something else.
        """
        if any(word not in PLANNED.get(key, ()) for key, word in (self.plan or {}).items()):
            plans = ", ".join(f"{key}: {' or '.join(words)}" for key, words in PLANNED.items())
            raise UsageError(f"a plan says {plans}", where=self.name)
        found = self._choose_forms(model, ctx) if self.plan is None else FormChoice({}, [])
        plan = {**(self.plan or {}), **found.plan}
        result = super(QuantizeWeights, self.model_copy(update={"plan": plan})).apply(model, ctx)
        decided = {
            "plan": plan | result.details.get("plan", {}),
            "decisions": [*found.log, *result.details.get("decisions", ())],
        }
        return replace(result, details=result.details | {key: value for key, value in decided.items() if value})

    def prepare(self, model: ir.Model, ctx: PassContext) -> None:
        """Raise the opset where the form needs it.

        Raises:
            UsageError: The form asks for a newer opset, or another dialect, than the target has.
        """
        if self._form_for(ctx.target) == "dequantize-linear":
            raise_opset(model, DQ_OPSET)
        super().prepare(model, ctx)

    def store(self, model: ir.Model, bits: dict[Slot, int], ctx: PassContext) -> PassResult:
        """Write each weight of ``model`` in so many bits, in the form that the target wants."""
        original = model.clone() if ctx.calibration is not None else None
        wanted, slots = self._form_for(ctx.target), list(bits)
        forms = {slot: wanted for slot in slots if takes(wanted, slot, bits[slot])} if wanted != "decoded" else {}
        if self.form == "auto" and ctx.target.provider == "cpu":
            chosen = TABLE | (self.plan or {})
            rows = rows_of(model, [slot for slot in forms if bits[slot] == CPU_BITS], ctx)
            forms = {slot: forms[slot] for slot, count in rows.items() if chosen[kind_of(count)] != "decoded"}
        runs_int8 = self._runs_int8(ctx.target)
        integer = {slot for slot in slots if runs_int8 and slot not in forms and may_run_as_integers(slot)}
        floats = {slot: self.grid_of(slot, bits[slot], forms.get(slot)) for slot in slots if slot not in integer}
        reduced = scheme_for(ctx.target).reduce_range
        limit = integer_range(8, symmetric=True, reduce_range=reduced)[1]
        products = {slot: self.grid_of(slot, bits[slot]).integer(limit) for slot in slots if slot in integer}
        accuracy = FLOAT32 if self.compute == "float" else INT8
        done = store_float(model, floats, ctx, forms, accuracy=accuracy)
        wide, decided = self._wide(model, products, bits, ctx)
        for two_terms in (False, True):
            part = {slot: grid for slot, grid in products.items() if (slot in wide) == two_terms}
            options = DynamicOptions(reduce_range=reduced, two_terms=two_terms)
            done.add(store_integer(model, part, ctx, options))
        for graph in model.graphs():
            drop_unread_weights(graph)
        result = result_of(model, done, bits)
        result = replace(result, details=result.details | decided)
        if original is not None and ctx.calibration is not None:
            centered = center_outputs(model, original, ctx.calibration)
            result = replace(result, details=result.details | {"centered_outputs": len(centered)})
        return replace(result, details=result.details | {"int8_of_16_bit_inputs": len(wide)}) if wide else result

    def block_of(self, slot: Slot, bits: int) -> int:
        """Inputs that share a step; 0 for all of an output."""
        if self.block is not None:
            return self.block
        return (TABLE_BLOCKS if slot.lookups else BLOCKS).get(bits, 0)

    def has_zeros(self, bits: int) -> bool:
        """Whether each block says where its zero is."""
        return not self.symmetric

    def _choose_forms(self, model: ir.Model, ctx: PassContext) -> FormChoice:
        """The forms of 4-bit products by the clock, where this machine is the target."""
        four = self.bits in (CPU_BITS, "auto") or self.mixed
        if self.form != "auto" or ctx.target.provider != "cpu" or self._form_for(ctx.target) == "decoded" or not four:
            return FormChoice({}, [])
        self.prepare(model, ctx)
        slots = [slot for slot in self.slots(model) if takes("matmul-nbits", slot, CPU_BITS)]
        bare = replace(ctx, calibration=None, sample=None)

        def write(product: ir.Model, form: Form) -> None:
            draft = QuantizeWeights(bits=CPU_BITS, form=form, compute=self.compute, symmetric=self.symmetric)
            draft.model_copy(update={"block": self.block}).apply(product, bare)

        budget_s = self.budget if is_this_machine(ctx.target) else 0.0
        return choose_forms(rows_of(model, slots, ctx), write, budget_s)

    def _wide(
        self, model: ir.Model, products: Mapping[Slot, Grid], bits: Mapping[Slot, int], ctx: PassContext
    ) -> tuple[set[Slot], dict[str, Any]]:
        """The int8 products whose inputs have 16 bits, and what is to be said of it.

        By default those with 8-bit weights, where the outputs of a draft with 8-bit inputs are not close to float; not
        on processors without VNNI or the like, where twice the time of int8 is that of float.
        """
        if self.activations != "auto":
            return (set(products) if self.activations == 16 else set()), {}
        full = {slot for slot in products if bits[slot] == MOST}
        planned = (self.plan or {}).get(INPUTS)
        if planned is not None:
            return (full if planned == "16" else set()), {"plan": {INPUTS: planned}}
        if not full or ctx.calibration is None or scheme_for(ctx.target).reduce_range:
            return set(), {}
        draft = model.clone()
        names = tuple(glob.escape(slot.name) for slot in full)
        quick = QuantizeWeights(activations=8, include=names, compute=self.compute, embeddings=False)
        quick.apply(draft, replace(ctx, calibration=None, sample=None))
        judge = OutputJudge(model, ctx.calibration.take(JUDGED_SAMPLES))
        found_db = judge.judge(draft).sqnr_db
        choice = "16" if found_db < CLOSE_DB else "8"
        line = f"inputs of int8 products have {choice} bits: with 8 the outputs are {found_db:.1f} dB from float"
        return (full if choice == "16" else set()), {"plan": {INPUTS: choice}, "decisions": [line]}

    def _runs_int8(self, target: Target) -> bool:
        return self.compute == "int8" or (self.compute == "auto" and target.provider == "cpu")

    def _form_for(self, target: Target) -> Form:
        """How products are written where bits and shapes allow it; on CPUs, by default, only those of single rows."""
        if self.form == "auto":
            form = FORMS.get(target.provider, "decoded")
            return form if form != "matmul-nbits" or target.dialect == "onnxruntime" else "decoded"
        if self.form == "matmul-nbits" and target.dialect != "onnxruntime":
            raise UsageError("MatMulNBits is onnxruntime's own operator", where=self.name, hint="dialect: onnxruntime")
        if self.form == "dequantize-linear" and (target.max_opset or DQ_OPSET) < DQ_OPSET:
            raise UsageError(
                f"DequantizeLinear in blocks is of opset {DQ_OPSET}", where=self.name, hint="form: decoded"
            )
        return self.form

    def grid_of(self, slot: Slot, bits: int, form: Form | None = None) -> Grid:
        """What a weight is rounded to in one of the forms."""
        block, symmetric = self.block_of(slot, bits), not self.has_zeros(bits)
        if form is not None:
            block = form_block(form, slot, bits, self.block)
        scaling = self.scaling and form is None
        return Grid(bits, block, symmetric=symmetric, rounding=self.rounding, scaling=scaling)
