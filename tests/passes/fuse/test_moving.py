"""Rules that move arithmetic and poolings past what lies between them and the weights, each with what it refuses."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from fuse_checks import fused, random

from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.testing import model_from_text, op_types, run_pass

IMAGE = "(float[n,4,6,8] x) => (float[a,b,c,d] y)"
FLAT = "(float[n,4,6,8] x) => (float[a,b] y)"
ROWS = "(float[n,6,4] x) => (float[a,b,c] y)"
NORM = ("gs", "gb", "gm", "gv")


def model(body: str, io: str = IMAGE, **weights: np.ndarray) -> ir.Model:
    return model_from_text(f"g {io} {{ {body} }}", **weights)


def norm(channels: int) -> dict[str, np.ndarray]:
    arrays = [random(channels, seed=seed) for seed in (3, 4, 5)]
    return dict(zip(NORM, [*arrays, np.abs(random(channels, seed=6)) + 0.5], strict=True))


BATCH_NORM = "BatchNormalization({}, gs, gb, gm, gv)"
BETWEEN = {
    "a mean of pixels": ("GlobalAveragePool(t)", 4),
    "windows": ("AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (t)", 4),
    "windows with padding": ("AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (t)", 4),
    "interpolation": ('Resize <mode = "linear"> (t, , sizes)', 4),
    "pixels from channels": ("DepthToSpace <blocksize = 2> (t)", 1),
    "channels from pixels": ("SpaceToDepth <blocksize = 2> (t)", None),
    "some channels": ("Slice(t, i1, i3, i1)", 2),
    "a chosen order": ("Gather <axis = 1> (t, order)", 4),
    "another layout and back": ("Transpose <perm = [0, 2, 1, 3]> (u0)", 4),
}


@pytest.mark.parametrize("case", BETWEEN)
def test_a_norm_goes_back_into_a_convolution_through(case: str) -> None:
    step, channels = BETWEEN[case]
    weights = {
        "sizes": np.float32([1, 1, 2, 2]),
        "i1": np.array([1]),
        "i3": np.array([3]),
        "order": np.array([2, 0, 3, 1]),
    }
    weights = {name: array for name, array in weights.items() if name in step}
    before = "u0 = Transpose <perm = [0, 2, 1, 3]> (t)" if "u0" in step else ""
    body = f"t = Conv(x, k, b) {before} u = {step} y = {BATCH_NORM.format('u')}"
    operators, _ = fused(
        model(body, k=random(4, 4, 1, 1), b=random(4), **norm(channels or 16), **weights), atol=1e-4, n=2
    )
    assert operators["BatchNormalization"] == (channels is None)  # one channel would need two factors


def test_an_average_that_counts_padding_keeps_the_summand_behind_it() -> None:
    pool = "AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (t)"
    body = f"t = Conv(x, k, b) u = {pool} y = {BATCH_NORM.format('u')}"
    operators, reasons = fused(model(body, k=random(4, 4, 1, 1), b=random(4), **norm(4)), n=2)
    assert operators["BatchNormalization"] == 1 and "pads with zeros, which the offset would not reach" in reasons


def test_a_norm_behind_a_concat_is_divided_between_its_convolutions() -> None:
    body = f"t = Conv(x, k, b) u = Conv(x, v) w = Concat <axis = 1> (t, u) y = {BATCH_NORM.format('w')}"
    weights = {"k": random(4, 4, 1, 1), "b": random(4), "v": random(2, 4, 1, 1, seed=1), **norm(6)}
    assert fused(model(body, **weights), atol=1e-4, n=2)[0] == {"Conv": 2, "Concat": 1}
    operators, reasons = fused(model(body.replace("(t, u)", "(t, x)"), **{**weights, **norm(8)}), n=2)
    assert operators["BatchNormalization"] == 1 and "no weight before it" in reasons


def test_a_norm_over_channels_of_rows_goes_back_through_transposes() -> None:
    body = f"t = MatMul(x, k) a = Add(t, b) u = Transpose <perm = [0, 2, 1]> (a) v = {BATCH_NORM.format('u')}"
    body += " y = Transpose <perm = [0, 2, 1]> (v)"
    assert fused(model(body, ROWS, k=random(4, 5), b=random(5), **norm(5)), atol=1e-4, n=2)[0] == {
        "MatMul": 1,
        "Add": 1,
    }


def test_a_part_is_scaled_when_nothing_else_reads_it() -> None:
    body = "t = Conv(x, k) p = Slice(t, i0, i2, i1) q = Slice(t, {}, i4, i1) m = Mul(p, f) y = Concat <axis = 1> (m, q)"
    weights = {"k": random(4, 4, 1, 1), "f": np.float32(3)} | {f"i{i}": np.array([i]) for i in (0, 1, 2, 4)}
    assert fused(model(body.format("i2"), **weights), n=2)[0]["Mul"] == 0
    operators, reasons = fused(model(body.format("i1"), **weights), n=2)  # they overlap
    assert operators["Mul"] == 1 and "read by several nodes" in reasons


def test_a_norm_before_a_convolution_goes_in_when_nothing_is_padded() -> None:
    body = f"t = {BATCH_NORM.format('x')} y = Conv {{}} (t, k)"
    weights = {"k": random(4, 4, 3, 3), **norm(4)}
    assert fused(model(body.format(""), **weights), atol=1e-4, n=2)[0] == {"Conv": 1}
    operators, reasons = fused(model(body.format("<pads = [1, 1, 1, 1]>"), **weights), n=2)
    assert operators == {"BatchNormalization": 1, "Conv": 1} and "pads with zeros" in reasons


def test_a_norm_goes_into_a_product_behind_a_flatten() -> None:
    body = f"t = {BATCH_NORM.format('x')} f = Flatten(t) y = Gemm(f, k, b)"
    assert fused(model(body, FLAT, k=random(192, 3), b=random(3), **norm(4)), atol=1e-4, n=2)[0] == {
        "Flatten": 1,
        "Gemm": 1,
    }


def test_a_norm_takes_what_stands_beside_it() -> None:
    for body in (
        f"t = Mul(x, s) u = {BATCH_NORM.format('t')} y = Sub(s, u)",
        f"t = Sub(s, x) y = {BATCH_NORM.format('t')}",
    ):
        assert fused(model(body, s=random(4, 1, 1, seed=9), **norm(4)), atol=1e-4, n=2)[0] == {"BatchNormalization": 1}
    operators, reasons = fused(model(f"t = {BATCH_NORM.format('x')} y = Mul(t, s)", s=random(8), **norm(4)), n=2)
    assert operators == {"BatchNormalization": 1, "Mul": 1} and "one number per channel" in reasons


POOLED = {
    "GlobalAveragePool(t)": ["GlobalAveragePool", "Conv"],
    "AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (t)": ["AveragePool", "Conv"],
    "ReduceMean <axes = [2, 3]> (t)": ["ReduceMean", "Conv"],
    "ReduceMean <axes = [2]> (t)": ["ReduceMean", "Conv"],
    "AveragePool <kernel_shape = [2, 2]> (t)": ["Conv", "AveragePool"],
    "AveragePool <kernel_shape = [2, 2], strides = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1> (t)": [
        "Conv",
        "AveragePool",
    ],
    "ReduceMean <axes = [1]> (t)": ["Conv", "ReduceMean"],
}


@pytest.mark.parametrize("pool", POOLED)
def test_a_mean_goes_before_a_pointwise_convolution(pool: str) -> None:
    source = model(f"t = Conv(x, k, b) y = {pool}", k=random(6, 4, 1, 1), b=random(6))
    assert fused(source, n=2)[0].total() == 2
    assert op_types(run_pass(Fuse(), source).model) == POOLED[pool]
    wide = model(f"t = Conv(x, k, b) y = {pool}", k=random(6, 4, 3, 3), b=random(6))
    assert op_types(run_pass(Fuse(), wide).model)[0] == "Conv"


def test_a_mean_without_its_axes_makes_a_matrix_product_of_the_convolution() -> None:
    body = "t = Conv(x, k, b) p = ReduceMean <axes = [2, 3], keepdims = 0> (t) y = Gemm(p, w)"
    weights = {"k": random(6, 4, 1, 1), "b": random(6), "w": random(6, 3, seed=1)}
    assert fused(model(body, FLAT, **weights), atol=1e-4, n=2)[0] == {"ReduceMean": 1, "Gemm": 1}


def test_a_mean_over_rows_goes_before_a_product_of_them() -> None:
    body = "t = MatMul(x, k) a = Add(b, t) y = ReduceMean <axes = [1], keepdims = 0> (a)"
    assert fused(model(body, "(float[n,6,4] x) => (float[a,b] y)", k=random(4, 5), b=random(5)), n=2)[0] == {
        "ReduceMean": 1,
        "Gemm": 1,
    }
    operators, reasons = fused(model(body.replace("[1], keepdims = 0", "[2]"), ROWS, k=random(4, 5), b=random(5)), n=2)
    assert operators == {"MatMul": 1, "Add": 1, "ReduceMean": 1} and "joins outputs of the product" in reasons
