import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.passes.quantize.signature import signature


def _product(shape: tuple[int, int], seed: int, rows: int = 3) -> str:
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    weight = ir.Value(name="w", const_value=ir.tensor(values))
    source = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT))
    return signature([ir.Node("", "MatMul", [source, weight])], {"x": (rows, shape[0])})


def test_equal_blocks_of_other_values_are_equal() -> None:
    assert _product((4, 8), 0) == _product((4, 8), 1)


@pytest.mark.parametrize(("shape", "rows"), [((4, 6), 3), ((4, 8), 5)])
def test_other_shapes_are_other_blocks(shape: tuple[int, int], rows: int) -> None:
    assert _product((4, 8), 0) != _product(shape, 0, rows)


def test_attributes_count() -> None:
    source = ir.Value(name="x")
    found = {signature([ir.Node("", "Softmax", [source], [ir.AttrInt64("axis", axis)])], {}) for axis in (0, 1)}
    assert len(found) == 2
