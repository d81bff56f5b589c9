"""Nodes of the graph that ran, under the names of the file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.graph.io import load_model
from modelopt_cli.profiling.chrome import chrome_trace
from modelopt_cli.profiling.names import covered_nodes
from modelopt_cli.profiling.per_op import OpTime, profile_nodes, side_by_side
from modelopt_cli.testing import model_from_text


def named(text: str) -> ir.Model:
    weights = {"w": np.eye(4, dtype=np.float32), "v": np.ones(4, np.float32)}
    model = model_from_text(text, **{name: array for name, array in weights.items() if f", {name}" in text})
    for node in model.graph:
        node.name = f"{node.op_type.lower()}_of_{node.outputs[0].name}"
    return model


TEXT = "g (float[1,4] x) => (float[1,4] y) { a = MatMul(x, w) b = Add(a, v) y = Relu(b) }"


def test_a_fused_node_stands_for_what_lies_between_its_tensors() -> None:
    fused = named("g (float[1,4] x) => (float[1,4] y) { b = Gemm(x, w, v) y = Relu(b) }")
    covered = covered_nodes(named(TEXT), fused)
    assert covered == {"gemm_of_b": ("matmul_of_a", "add_of_b"), "relu_of_y": ("relu_of_y",)}


def test_what_the_runtime_put_in_stands_for_nothing() -> None:
    optimized = named("g (float[1,4] x) => (float[1,4] y) { t = Transpose(x) u = Transpose(t) y = Relu(u) }")
    covered = covered_nodes(named("g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }"), optimized)
    assert covered == {"transpose_of_t": (), "transpose_of_u": (), "relu_of_y": ("relu_of_y",)}


@pytest.mark.parametrize("name", ["digits_resnet", "digits_mobilenet", "digits_vit", "digits_lstm"])
def test_each_node_of_a_file_belongs_to_one_that_ran(name: str, samples: Path) -> None:
    source = load_model(samples / name / "model.onnx")
    with np.load(samples / name / "calib.npz") as archive:
        feeds = {key: archive[key][:1].astype(np.float32) for key in archive.files}
    profile = profile_nodes(source.path or source.model, source.model, feeds, runs=2)
    stood_for = [node for op in profile.times for node in op.nodes]
    assert len(stood_for) == len(set(stood_for))
    heavy = {node.name for node in source.model.graph if node.op_type in ("Conv", "MatMul", "Gemm", "LSTM")}
    assert heavy <= set(stood_for)
    slow = [op for op in profile.times if op.op_type in ("Conv", "MatMul", "Gemm", "LSTM")]
    assert all(op.operations > 0 and op.data_bytes > 0 for op in slow)
    events = json.loads(chrome_trace({"model": profile}))["traceEvents"]
    assert sum(event["ph"] == "X" for event in events) == len(profile.runs)
    assert all(event["dur"] >= 0 for event in events if event["ph"] == "X")


def test_a_residual_add_is_part_of_the_convolution_before_it(samples: Path) -> None:
    source = load_model(samples / "digits_resnet" / "model.onnx")
    feeds = {"image": np.zeros((1, 1, 28, 28), np.float32)}
    times = profile_nodes(source.path or source.model, source.model, feeds, runs=1).times
    owner = next(op for op in times if "/stages/stages.0/Add" in op.nodes)
    assert "/stages/stages.0/conv2/Conv" in owner.nodes


QUANTIZED = """
    g (float[1,2,4,4] x) => (float[1,2,4,4] y) {
        q = QuantizeLinear(x, s, z)
        d = DequantizeLinear(q, s, z)
        wd = DequantizeLinear(w, s, wz)
        c = Conv(d, wd)
        r = Relu(c)
        rq = QuantizeLinear(r, s, z)
        rd = DequantizeLinear(rq, s, z)
        e = Conv(rd, wd)
        y = Sigmoid(e)
    }"""


def test_an_integer_kernel_stands_for_its_operator_and_the_conversions_around_it() -> None:
    """The kernel keeps the node's name, with a number, and calls its output after it; layout changes stand for none."""
    weights = {"s": np.float32(0.1), "z": np.uint8(3), "wz": np.int8(0), "w": np.ones((2, 2, 1, 1), np.int8)}
    model = model_from_text(QUANTIZED, **weights)
    optimized = model_from_text(
        """g (uint8[1,4,4,2] n) => (float[1,2,4,4] y) {
            first = QLinearConv(n, s, z, w, s, wz, s, z)
            rq = Transpose(first)
            rd = DequantizeLinear(rq, s, z)
            y = Sigmoid(rd)
        }""",
        **weights,
    )
    for node in model.graph:
        node.name = f"of_{node.outputs[0].name}"
    for node, name in zip(optimized.graph, ("of_c_token_6", "Transpose_token_7", "of_rd", "of_y"), strict=True):
        node.name = name
    covered = covered_nodes(model, optimized)
    assert covered["of_c_token_6"] == ("of_c", "of_r", "of_q", "of_d", "of_wd", "of_rq")
    assert covered["Transpose_token_7"] == ()


def test_side_by_side_joins_what_shares_a_name() -> None:
    ours = [OpTime("f", "FusedConv", "cpu", 2.0, nodes=("a", "b")), OpTime("r", "Reorder", "cpu", 1.0)]
    theirs = [OpTime("a", "Conv", "cpu", 3.0, nodes=("a",)), OpTime("b", "Relu", "cpu", 0.5, nodes=("b", "c"))]
    first, second = side_by_side(ours, theirs)
    assert (first.nodes, first.op_types, first.ms, first.baseline_ms) == (("a", "b"), ("FusedConv",), 2.0, 3.5)
    assert (second.nodes, second.ms, second.baseline_ms) == (("r",), 1.0, 0.0)
