"""The two halves of the calibration samples: what one is fitted to and what the other judges."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.passes.prune.by_data import group_layers
from modelopt_cli.passes.prune.patterns import Pattern
from modelopt_cli.passes.prune.walk import RUNS, Halves, Walk, held_out
from modelopt_cli.passes.prune.weights import find_weights
from modelopt_cli.testing import ArrayDataset, model_from_text

WIDTH = 4


def network() -> ir.Model:
    weight = np.random.default_rng(0).standard_normal((WIDTH, 16)).astype(np.float32)
    return model_from_text(f"m (float[N,{WIDTH}] x) => (float[N,16] y) {{ y = MatMul (x, w) }}", w=weight)


def walk(rows: np.ndarray, split: bool = True) -> Walk:
    return Walk(network(), None, ArrayDataset({"x": rows}), seed=0, split=split)


def halves_of(rows: np.ndarray, split: bool = True) -> Halves:
    """The statistics of the one layer."""
    way = walk(rows, split)
    layers, _ = group_layers(find_weights(way.model)[0], Pattern())
    ((_, halves),) = way.moments(layers)
    return halves


@pytest.mark.parametrize("total", [1, 2, 3, 7, 8, 9, 24, 100, 128])
def test_halves_are_runs_in_turns_and_about_as_large(total: int) -> None:
    held = [held_out(index, total) for index in range(total)]
    assert held[0] is False
    assert abs(total - 2 * sum(held)) <= max(total // RUNS, 1)
    assert sum(one != other for one, other in itertools.pairwise(held)) == min(RUNS, total) - 1


def test_crops_of_one_picture_are_in_one_half() -> None:
    pictures = np.random.default_rng(1).standard_normal((RUNS, WIDTH)).astype(np.float32)
    halves = halves_of(np.repeat(pictures, 5, axis=0))
    for half, chosen in zip(halves, (pictures[::2], pictures[1::2]), strict=True):
        assert half.count == 5 * RUNS // 2
        expected = np.einsum("nk,nl->kl", chosen, chosen) / len(chosen)
        np.testing.assert_allclose(half.hessian(centred=False)[0], expected, rtol=1e-5)


def test_without_a_split_the_first_holds_all() -> None:
    rows = np.random.default_rng(2).standard_normal((10, WIDTH)).astype(np.float32)
    halves = halves_of(rows, split=False)
    assert halves[0] is halves[1]
    assert halves[0].count == 10


def test_outputs_are_those_of_the_second_half_spread_over_it() -> None:
    rows = np.random.default_rng(3).standard_normal((32, WIDTH)).astype(np.float32)
    array = network().graph.initializers["w"].const_value
    assert array is not None
    found = walk(rows).outputs(4)
    held = [index for index in range(32) if held_out(index, 32)]
    for (got,), index in zip(found, held[::4], strict=True):
        np.testing.assert_allclose(got, rows[[index]] @ array.numpy(), rtol=1e-4, atol=1e-5)
    assert len(walk(rows).outputs(99)) == 16
