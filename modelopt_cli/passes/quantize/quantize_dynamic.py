"""The pass that makes MatMul, Gemm and LSTM integer with ranges found at run time, and embedding tables int8."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from modelopt_cli.graph.edit import forget_names
from modelopt_cli.passes.base import Pass, PassContext, PassResult, Skip
from modelopt_cli.passes.quantize.dynamic_lstm import quantize_lstm
from modelopt_cli.passes.quantize.dynamic_matmul import (
    DynamicOptions,
    Edits,
    WeightMaker,
    quantize_matmuls_dynamic,
)
from modelopt_cli.passes.quantize.dynamic_products import Product, find_product, group_by_source
from modelopt_cli.passes.quantize.dynamic_stats import InputStatistics, collect_input_statistics, moment_bytes
from modelopt_cli.passes.quantize.embedding import quantize_embeddings
from modelopt_cli.passes.quantize.plan import label
from modelopt_cli.targets.schemes import scheme_for
from modelopt_cli.targets.target import Target

NEVER = {
    "Conv": "Conv with a range found at run time is slower than float on CPUs: quantize-static does it",
    "ConvTranspose": "no provider has an integer kernel for it",
    "GRU": "onnxruntime has no integer GRU",
    "RNN": "onnxruntime has no integer RNN",
}
CALIBRATION_SAMPLES = 256  # a moment of 1,536 channels from 3,500 short rows still fits them too well


class QuantizeDynamic(Pass):
    """Quantize MatMul, Gemm, LSTM and embedding tables to int8; the ranges of activations are found at run time.

    Calibration data is not needed. When there is some, outlier channels are scaled down into the weights and weights
    are rounded by second-order information, which makes the result much closer to the original at the same speed.
    """

    name: ClassVar[str] = "quantize-dynamic"
    family: ClassVar[Literal["fuse", "prune", "quantize"]] = "quantize"
    effect: ClassVar[Literal["exact", "lossy"]] = "lossy"
    min_opset: ClassVar[int] = 13

    ops: Annotated[
        tuple[Literal["MatMul", "Gemm", "LSTM"], ...],
        Field(description="Operator types to quantize."),
    ] = ("MatMul", "Gemm", "LSTM")
    include: Annotated[tuple[str, ...], Field(description="Only nodes whose name matches one of these globs.")] = ("*",)
    exclude: Annotated[tuple[str, ...], Field(description="Not the nodes whose name matches one of these globs.")] = ()
    per_channel: Annotated[bool, Field(description="One weight scale per output column.")] = True
    merge: Annotated[bool, Field(description="Make products of one input (Q, K, V) one product and a Split.")] = False
    smooth: Annotated[bool, Field(description="With calibration data: move outlier channels into the weights.")] = True
    embeddings: Annotated[bool, Field(description="Store tables read by Gather as int8.")] = True

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        """Edit ``model``; see the class."""
        forget_names(model)
        skipped = [Skip(node.name or node.op_type, NEVER[node.op_type]) for node in _nodes(model, NEVER)]
        if ctx.target.provider != "cpu":
            reason = f"{ctx.target.provider} has no integer kernels for ranges found at run time"
            skipped += [Skip(node.name or node.op_type, reason) for node in _nodes(model, self.ops)]
            return PassResult(model, 0, tuple(skipped))
        details: dict[str, Any] = {}
        changed = 0
        if self.embeddings:  # first: the model whose statistics are taken is then much smaller in memory
            tables = quantize_embeddings(model, [node for node in _nodes(model, ("Gather",)) if self._wants(node)])
            changed, skipped = len(tables.changed), skipped + tables.skipped
            details["embeddings"] = len(tables.changed)
        chosen = [node for node in _nodes(model, self.ops) if self._wants(node)]
        products = quantize_products(
            model, [node for node in chosen if node.op_type != "LSTM"], ctx, self._options(ctx.target)
        )
        changed, skipped = changed + len(products.changed), skipped + products.skipped
        lstm = quantize_lstm(model, [node for node in chosen if node.op_type == "LSTM"], ctx.target)
        changed, skipped = changed + len(lstm.changed), skipped + lstm.skipped
        details |= {"smoothed_inputs": products.smoothed, "lstm": len(lstm.changed)}
        return PassResult(model, changed, tuple(skipped), details)

    def _wants(self, node: ir.Node) -> bool:
        name = label(node)
        return any(fnmatchcase(name, glob) for glob in self.include) and not any(
            fnmatchcase(name, glob) for glob in self.exclude
        )

    def _options(self, target: Target) -> DynamicOptions:
        return DynamicOptions(self.per_channel, self.merge, scheme_for(target).reduce_range, self.smooth)


def quantize_products(
    model: ir.Model,
    nodes: Sequence[ir.Node],
    ctx: PassContext,
    options: DynamicOptions | None = None,
    make_weight: WeightMaker | None = None,
) -> Edits:
    """`quantize_matmuls_dynamic` with statistics from the calibration data of ``ctx``, when there is some.

    The second moments of one batch of inputs at a time are held (`WorkingMemory`); the data is gone through once
    per batch.
    """
    answers = [find_product(node) for node in nodes]
    found = [answer for answer in answers if isinstance(answer, Product)]
    if ctx.calibration is None or not found:
        return quantize_matmuls_dynamic(model, nodes, ctx.target, options=options, make_weight=make_weight)
    edits = Edits(skipped=[answer for answer in answers if isinstance(answer, Skip)])
    original, data = model.clone(), ctx.calibration.take(CALIBRATION_SAMPLES)
    for batch in _batches(group_by_source(found), ctx.memory.moments_mb):
        names = [group[0].source.name or "" for group in batch if group[0].node.graph is model.graph]
        known: dict[str, InputStatistics] = {}
        if names:
            known = collect_input_statistics(original, names, data, ctx.progress, memory=ctx.memory)
        part = [product.node for group in batch for product in group]
        edits.add(
            quantize_matmuls_dynamic(
                model, part, ctx.target, options=options, statistics=known, make_weight=make_weight
            )
        )
    return edits


def _batches(groups: Iterable[list[Product]], moments_mb: float) -> Iterator[list[list[Product]]]:
    """Groups whose second moments together stay within the bound."""
    batch: list[list[Product]] = []
    held = 0
    for group in groups:
        size = moment_bytes(group[0].channels)
        if batch and held + size > moments_mb * 2**20:
            yield batch
            batch, held = [], 0
        batch.append(group)
        held += size
    if batch:
        yield batch


def _nodes(model: ir.Model, op_types: Iterable[str]) -> list[ir.Node]:
    """Nodes of the main graph and its subgraphs; functions are inlined before a pass that needs it."""
    wanted = set(op_types)
    return [node for node in model.graph.all_nodes() if node.domain == "" and node.op_type in wanted]
