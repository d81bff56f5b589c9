"""A first recipe for a model: what suits its operators, with the rest as comments to switch on."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from modelopt_cli.data.signature import signature
from modelopt_cli.errors import ModelError
from modelopt_cli.graph.edit import all_nodes

_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "MatMulInteger", "ConvInteger")
_PRODUCTS = ("MatMul", "Gemm", "LSTM", "GRU", "Attention")


def first_recipe(model: ir.Model, name: str) -> str:
    """YAML with comments, which `parse_recipe` reads.

    Args:
        model: What it is for.
        name: Name of the recipe.
    """
    ops = Counter(node.op_type for node in all_nodes(model))
    quantized = [op for op in _QUANTIZED if ops[op]]
    convolutions, products = ops["Conv"] + ops["ConvTranspose"], sum(ops[op] for op in _PRODUCTS)
    lines = [
        f"# For a model of {sum(ops.values())} operators: {_most(ops)}.",
        "version: 1",
        f"name: {name}",
        "",
        "# Where the result runs. auto is this machine's instruction set: name it when you deploy on another.",
        "target: {provider: cpu, isa: auto}",
        "",
        *_data(model, convolutions),
        "steps:",
        "  - pass: simplify",
        "  - pass: fuse",
        *_quantize(quantized, convolutions, products),
        "  # - pass: prune               # zeros: a smaller download, not a faster model",
        "  #   with: {sparsity: 0.5}",
        "",
        "# Missed, they end the run with exit code 1. Shares are fractions: 0.01 is one point of accuracy.",
        "# require: {max_accuracy_drop: 0.01, min_speedup: 1.2, max_size_ratio: 0.5}",
    ]
    return "\n".join(lines) + "\n"


def _most(ops: Counter[str]) -> str:
    return ", ".join(f"{count} {op}" for op, count in ops.most_common(4)) or "none"


def _data(model: ir.Model, convolutions: int) -> list[str]:
    try:
        inputs = ", ".join(f"{spec.name} {spec}" for spec in signature(model)) or "none"
        pictures = any(len(spec.shape or ()) == 4 for spec in signature(model)) and convolutions
    except ModelError as error:
        return [f"# {error.message}.", ""]
    lines = [
        f"# Inputs: {inputs}".replace("\n", " "),
        "# A few hundred real samples: an .npz with an array for each input, .jsonl, .csv, or a folder.",
        "# data:",
        "#   calibration: {path: calib.npz, samples: 256}",
        "#   evaluation: {path: eval.npz, metric: top1}",
    ]
    if pictures:
        lines.append("#   images: {resize: 256, crop: 224, range: 255, mean: 127, std: 128}   # for pictures")
    return [*lines, ""]


def _quantize(quantized: list[str], convolutions: int, products: int) -> list[str]:
    if quantized:
        return [f"  # It is quantized already ({quantized[0]}): nothing more to do in that way."]
    if convolutions:
        return ["  - pass: quantize              # convolutions run as integers once there is calibration data"]
    if products:
        return ["  - pass: quantize-dynamic      # ranges are found while running: no data needed"]
    return ["  # - pass: quantize            # neither convolutions nor products: little would become integers"]
