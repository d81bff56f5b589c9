"""Low-bit rounding: bounds on its error, second order against nearest, tables, and what is stored of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.passes.quantize.lowbit.encoding import Encoded, read_scale, stored_scale
from modelopt_cli.passes.quantize.lowbit.fit import fixed_levels, kmeans, split_steps
from modelopt_cli.passes.quantize.lowbit.rounding import Grid, encode


def weight(groups: int = 1, inputs: int = 64, outputs: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((groups, inputs, outputs)).astype(np.float32)


def moment(groups: int = 1, inputs: int = 64, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((groups, inputs, inputs)) / np.sqrt(inputs)
    rows = rng.standard_normal((groups, 4 * inputs, inputs)) @ mix
    return np.asarray(np.swapaxes(rows, 1, 2) @ rows / rows.shape[1], np.float32)


def output_error(work: np.ndarray, encoded: Encoded, second: np.ndarray) -> float:
    lost = work - encoded.decode()
    return float(np.einsum("gkn,gkj,gjn->", lost, second, lost))


@settings(max_examples=30)
@given(bits=st.integers(2, 8), block=st.sampled_from([0, 16, 32]), table=st.sampled_from([None, "kmeans"]))
def test_more_bits_are_closer_and_codes_stay_in_range(bits: int, block: int, table: str | None) -> None:
    work = weight()
    encoded = encode(work, Grid(bits, block, table))
    assert encoded.codes.max() < 2**bits
    relative = float(np.square(work - encoded.decode()).mean() / np.square(work).mean())
    # step ** 2 / 12 with 2 ** bits steps over twice the largest of 64 normal values, 2.5 to 3 deviations
    assert relative < 4.0 * 4.0**-bits


@pytest.mark.parametrize("grid", [Grid(4), Grid(4, 16), Grid(3, 0, "kmeans"), Grid(4, 32, "nf4")])
@pytest.mark.parametrize("groups", [1, 3])
def test_second_order_rounding_makes_the_product_closer(grid: Grid, groups: int) -> None:
    work, second = weight(groups), moment(groups)
    nearest, better = encode(work, grid), encode(work, grid, second)
    assert output_error(work, better, second) < 0.75 * output_error(work, nearest, second)


def test_blocks_are_closer_than_columns() -> None:
    work = weight() * np.repeat(np.geomspace(0.1, 1, 4), 16).reshape(1, 64, 1).astype(np.float32)
    whole, blocks = (np.square(work - encode(work, Grid(4, block)).decode()).mean() for block in (0, 16))
    assert blocks < 0.5 * whole


def test_a_block_that_does_not_divide_the_inputs_is_the_whole_column() -> None:
    encoded = encode(weight(inputs=60), Grid(4, 32))
    assert encoded.multipliers is None
    assert encoded.block == 60


@settings(max_examples=25)
@given(largest=st.integers(1, 255), seed=st.integers(0, 50))
def test_integer_steps_stay_integers(largest: int, seed: int) -> None:
    steps = np.abs(weight(inputs=8, seed=seed)) + np.float32(1e-6)
    multipliers, scale = split_steps(steps, largest)
    assert multipliers.min() >= 1
    assert multipliers.max() <= largest
    # To the nearest multiple, but never to zero.
    assert (np.abs(multipliers * scale[:, None] - steps) <= scale[:, None] * 1.0001).all()


def test_int8_products_get_int8_numbers() -> None:
    for bits in range(2, 8):
        limit = 127 // 2 ** (bits - 1)
        encoded = encode(weight(), Grid(bits, 16, None, limit))
        numbers = encoded.decode() / np.repeat(encoded.scale[:, None, :], 64, axis=1)
        np.testing.assert_allclose(numbers, np.rint(numbers), atol=1e-4)
        assert np.abs(numbers).max() <= 127.01


def test_kmeans_finds_clusters_and_beats_even_levels() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(centre, 0.01, 500) for centre in (-1.0, 0.2, 0.5, 2.0)])
    np.testing.assert_allclose(kmeans(values, np.ones_like(values), 4), [-1, 0.2, 0.5, 2], atol=0.01)
    work = np.random.default_rng(1).laplace(size=(1, 512, 16)).astype(np.float32)
    even, fitted = (np.square(work - encode(work, Grid(4, 0, table)).decode()).mean() for table in (None, "kmeans"))
    assert fitted < 0.9 * even


def test_kmeans_of_one_value_is_a_valid_table() -> None:
    assert (np.diff(kmeans(np.full(10, 3.0), np.ones(10), 4)) > 0).all()


def test_a_weight_of_zeros_stays_zero() -> None:
    for table in (None, "kmeans", "nf4", "fp4"):
        encoded = encode(np.zeros((1, 32, 4), np.float32), Grid(4, 16, table))
        assert np.isfinite(encoded.decode()).all()
        np.testing.assert_allclose(encoded.decode(), 0, atol=1e-9)


def test_fixed_tables_hold_zero_and_one() -> None:
    for name in ("nf4", "fp4"):
        levels = fixed_levels(name)
        assert len(levels) == 16
        assert levels[0] == -1.0
        assert levels[-1] == 1.0
        assert 0.0 in levels


@given(exponent=st.floats(-11, 5))
def test_stored_scales_are_close(exponent: float) -> None:
    scale = np.array([10.0**exponent], np.float32)
    np.testing.assert_allclose(read_scale(stored_scale(scale)), scale, rtol=0.05 if exponent < -8 else 2e-3)


@pytest.mark.parametrize("table", [None, "kmeans"])
def test_each_way_of_rounding_is_closer_than_the_one_before(table: str | None) -> None:
    work, second = weight(inputs=128), moment(inputs=128)
    grids = [Grid(4, 16, table, rounding=rounding) for rounding in ("nearest", "gptq", "search")]
    nearest, second_order, search = (output_error(work, encode(work, grid, second), second) for grid in grids)
    assert search < 0.99 * second_order < 0.75 * nearest
    assert output_error(work, encode(work, Grid(4, 16, table), second), second) == search


def test_a_zero_of_its_own_helps_blocks_that_lie_to_one_side() -> None:
    work = weight() + np.float32(2)
    around, own = (encode(work, Grid(4, 16, symmetric=symmetric)) for symmetric in (True, False))
    assert np.square(work - own.decode()).mean() < 0.5 * np.square(work - around.decode()).mean()
    assert own.shifts is not None
    assert own.shifts.min() >= -8 and own.shifts.max() <= 7


def test_integer_grids_stay_within_int8_with_and_without_zeros() -> None:
    for symmetric in (True, False):
        encoded = encode(weight() + np.float32(1), Grid(4, 16, symmetric=symmetric).integer(127))
        numbers = encoded.decode() / encoded.scale[:, None, :]
        assert np.abs(numbers).max() <= 128


def test_rows_scaled_by_their_inputs_are_closer_to_the_output() -> None:
    loud = np.where(np.arange(64) % 16 == 3, 30.0, 1.0).astype(np.float32)
    work, second = weight(), moment() * np.outer(loud, loud)
    plain, scaled = (encode(work, Grid(3, 0, rounding="nearest", scaling=scaling), second) for scaling in (False, True))
    assert scaled.rows is not None
    assert output_error(work, scaled, second) < 0.95 * output_error(work, plain, second)
